//! Tiny guests of our own, assembled when asked for: they need no package, start in an instant, and do on purpose what
//! a kernel does now and then. Each is a bzImage by shape, so that the loader treats it as it treats Linux.
//!
//! * [`lines`]: numbered, hash-chained lines on COM1, with waits in HLT between them; the demonstration's fallback
//! * [`echo`]: what arrives on COM1 goes back, by interrupts alone
//! * [`disk`]: numbered sectors written, flushed and read back on the first IDE disk
//! * [`screen`]: a picture on the VGA, changed by keyboard and mouse, until the power button is pressed
//! * [`resets`]: starts, says so, and resets the machine, in one of four ways
//! * [`torture`]: self-modifying code, changing page tables, faults and timer interrupts, hashed into numbered lines

mod bzimage;
mod console;
mod disk;
mod echo;
mod lines;
mod platform;
mod resets;
mod screen;
mod setup;
mod start;
mod torture;

use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

use crate::Guest;

/// The I/O port of PM1a_CNT (ACPI 6.5, 4.8.3.2.1): the board's ACPI tables name it, and so do QEMU's for its i440FX.
pub const POWER_PORT: u16 = 0x604;
/// What to write there for S5, SLP_EN with a SLP_TYP: what the board's DSDT says, then what QEMU's does.
pub const POWER_OFF: [u16; 2] = [0x3400, 0x2000];

/// Prints `lines` chained lines starting from `seed`, waiting for `pause` timer ticks of 1 ms after each, then powers
/// off. [`crate::Chain`] with [`crate::chain::Work::Tiny`] verifies them.
pub fn lines(lines: u64, seed: u64, pause: u64) -> Guest {
    let command_line = format!("ftemu.lines={lines} ftemu.seed={seed} ftemu.pause={pause}");
    guest("lines", command_line, lines::program)
}

/// Prints `ftemu-mark echo`, then sends back every byte it receives until that is a Control-D; then powers off.
pub fn echo() -> Guest {
    guest("echo", String::new(), echo::program)
}

/// What the sectors of [`disk`] hold: 64 times their number times this, little-endian.
pub const DISK_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Prints `ftemu-sector-0` with the first eight bytes of the first IDE disk, as a number; writes its sectors 1 to `lines`, each followed by a flush and a look at an older one, and then
/// prints `ftemu-disk N` (or `ftemu-disk-error N`); waits for `pause` timer ticks of 1 ms after each. Then prints
/// `ftemu-end disk` and powers off.
pub fn disk(lines: u64, pause: u64) -> Guest {
    guest("disk", format!("ftemu.lines={lines} ftemu.pause={pause}"), disk::program)
}

/// The picture's size in [`screen`].
pub const SCREEN_SIZE: (u16, u16) = (640, 480);
/// The color of the first two dots in [`screen`]: red, green, blue from the third byte down.
pub const SCREEN_COLOR: u32 = 0x10_2030;

/// Shows a black picture whose first two dots have [`SCREEN_COLOR`], prints `ftemu-mark screen`, and then makes the last byte from
/// the keyboard the blue of the first dot, and that from the mouse the blue of the second, until the power button is
/// pressed.
pub fn screen() -> Guest {
    guest("screen", String::new(), screen::program)
}

/// How [`resets`] resets the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetBy {
    /// A fault for which there is no handler, nor one for that.
    TripleFault,
    /// The chipset's reset control register, port CF9h.
    ResetControl,
    /// The keyboard controller's command FEh.
    KeyboardController,
    /// Bit 0 of port 92h.
    Port92,
}

/// Prints `ftemu-mark start` and resets the machine, over and over.
pub fn resets(by: ResetBy) -> Guest {
    guest("resets", String::new(), resets::program(by))
}

/// Torments the CPU: prints `ftemu-line N HASH` each round for `rounds` rounds, then powers off. The hash covers
/// results, faults, accessed and dirty bits, and where each timer interrupt found the program: equal hashes mean an
/// equal run. There is no verifier but another run.
pub fn torture(rounds: u64, seed: u64) -> Guest {
    let command_line = format!("ftemu.lines={rounds} ftemu.seed={seed}");
    guest("torture", command_line, torture::program)
}

fn guest(name: &str, command_line: String, program: fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Guest {
    let code = assemble(program).expect("the programs here assemble, whatever their parameters");
    let name = format!("tiny guest {name}");
    Guest { name, kernel: bzimage::wrap(&code), initrd: None, command_line }
}

fn assemble(program: fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    program(&mut a)?;
    // Only relative addresses are used, so where it is assembled does not matter.
    a.assemble(bzimage::ENTRY_OFFSET)
}

#[cfg(test)]
mod tests;
