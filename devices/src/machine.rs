//! The machine: one CPU on its board. A run is a pure function of its state and of the inputs applied to it.
//!
//! Whenever [`Machine::run`], [`Machine::apply`] or [`Machine::skip_idle`] returns, the chips have done what is due at
//! the count reached, and no interrupt has been delivered at that count. So it does not matter how a run was sliced.

mod access;
mod interrupts;

use crate::board::{Board, Regions};
use crate::checkpoint::{Boot, Start};
use crate::chips::Chips;
use crate::clock::Clock;
use crate::config;
pub use crate::config::{Config, MachineError};
use crate::context::Context;
use crate::digest::RamDigest;
use crate::drives::{AttachError, Drives, Fault};
use crate::input::Input;
use crate::linux::{self, BootImage, LoadError};
use crate::nic::Nic;
use crate::output::{Emitted, Output};
use crate::rtc::Rtc;
use crate::storage::Storage;
use ftemu_cpu::{Cpu, Icount, Memory, Stop};
use std::sync::Arc;

/// Outputs wait at most this many instructions before a run returns with them.
const OUTPUT_PATIENCE: u64 = 20_000;
const NMI: u8 = 2;
/// The serial port number of virtio's console.
const VIRTIO_CONSOLE: u8 = 2;

/// Why a run returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The count asked for is reached.
    Count,
    /// Outputs wait to be drained.
    Output,
    /// The CPU is halted until an interrupt. The next one can come at `deadline_ns` or from an input.
    Idle {
        /// Virtual time at which a chip will do something next; `None`: never.
        deadline_ns: Option<u64>,
    },
    /// The guest has switched the machine off.
    PoweredOff,
    /// The host could not serve a request of a drive that is due ([`crate::drives::Drives::fault`] says more). Nobody
    /// has seen anything of it: the machine goes on when the storage works again, or with [`Input::DriveFault`].
    DriveFault {
        /// Which drive.
        drive: u8,
        /// Which request.
        ticket: u64,
    },
}

/// One deterministic computer.
pub struct Machine {
    pub(crate) config: Config,
    pub(crate) boot: Option<Arc<Boot>>,
    pub(crate) cpu: Cpu,
    pub(crate) board: Board,
    pub(crate) off: bool,
    pub(crate) ram: RamDigest,
    /// Pages to hash again at the next digest.
    pub(crate) stale: Vec<bool>,
    /// Pages written since the last [`Machine::take_dirty`].
    pub(crate) dirty: Vec<bool>,
}

impl Machine {
    /// A machine after power-on with zeroed RAM and nothing to execute yet.
    ///
    /// # Errors
    /// [`MachineError::MemorySize`], [`MachineError::Host`].
    pub fn new(config: &Config) -> Result<Machine, MachineError> {
        let memory_bytes = config.memory_bytes;
        if !config::MEMORY.contains(&memory_bytes) {
            return Err(MachineError::MemorySize { memory_bytes });
        }
        let mut memory = Memory::new(memory_bytes)?;
        let regions = Regions::add(config, &mut memory)?;
        let pages = memory.pages();
        let chips = Chips::new(config, &regions, Clock::new(config.rate), Rtc::new(config.epoch_seconds));
        let board = Board::new(config, &memory, chips, regions);
        board.place(&mut memory);
        Ok(Machine {
            config: config.clone(),
            boot: None,
            cpu: Cpu::new(memory)?,
            board,
            off: false,
            ram: RamDigest::new(pages),
            stale: vec![false; pages],
            dirty: vec![false; pages],
        })
    }

    /// Puts a kernel, an initrd and a command line in RAM and the CPU at the kernel's entry. They are kept: a reset
    /// boots them again.
    ///
    /// # Errors
    /// [`LoadError`]; the machine is as before then.
    pub fn load_linux(&mut self, kernel: &[u8], initrd: Option<&[u8]>, command_line: &str) -> Result<(), LoadError> {
        let image = BootImage {
            kernel: kernel.to_vec(),
            initrd: initrd.map(<[u8]>::to_vec),
            command_line: command_line.to_owned(),
        };
        linux::check(self.cpu.memory(), &image)?;
        self.start_linux(&image)?;
        self.boot = Some(Arc::new(Boot::new(Start::Linux(image))));
        Ok(())
    }

    /// Puts a kernel in RAM, and the chips in the state in which firmware leaves them.
    fn start_linux(&mut self, image: &BootImage) -> Result<(), LoadError> {
        self.board.chips.host_bridge.open_shadow();
        self.board.place(self.cpu.memory_mut());
        let seed = self.boot_seed();
        linux::load(&mut self.cpu, image, &seed, self.config.video)?;
        self.board.chips.ide.enable();
        Ok(())
    }

    /// The kernel's entropy: another one for every boot.
    fn boot_seed(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.config.seed);
        hasher.update(&self.cpu.count().0.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Instructions completed.
    pub fn count(&self) -> Icount {
        self.cpu.count()
    }

    /// Virtual nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.board.chips.clock.now_ns(self.cpu.count())
    }

    /// The CPU.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The CPU, to be changed from outside: a debugger, or a test that injects a fault.
    pub fn cpu_mut(&mut self) -> &mut Cpu {
        &mut self.cpu
    }

    /// The chips.
    pub fn chips(&self) -> &Chips {
        &self.board.chips
    }

    /// The chips, to be changed from outside: a debugger, or a test that injects a fault.
    pub fn chips_mut(&mut self) -> &mut Chips {
        self.board.forget_deadlines();
        &mut self.board.chips
    }

    /// Runs until `until` instructions are complete, exactly, or until there is a reason to return earlier.
    pub fn run(&mut self, until: Icount) -> Ran {
        loop {
            if let Some(ran) = self.reason_to_return(until) {
                return ran;
            }
            if self.board.drives.is_due(self.now_ns()) {
                if let Some(ran) = self.serve_drives() {
                    return ran;
                }
                continue;
            }
            let triple_fault = !self.deliver() || {
                let (limit, waiting) = self.limit(until);
                self.cpu.run(&mut self.board, limit, waiting) == Stop::Shutdown
            };
            self.board.chips.reset |= triple_fault;
            self.service();
        }
    }

    fn reason_to_return(&self, until: Icount) -> Option<Ran> {
        let count = self.cpu.count();
        let waiting = self.board.outputs.first();
        let idle = self.is_idle();
        if waiting.is_some_and(|first| self.off || idle || count.0 >= first.0.saturating_add(OUTPUT_PATIENCE)) {
            return Some(Ran::Output);
        }
        if self.off {
            return Some(Ran::PoweredOff);
        }
        if count >= until {
            return Some(Ran::Count);
        }
        idle.then(|| Ran::Idle { deadline_ns: self.board.deadline() })
    }

    /// Requests of drives that are due come to their chips. This is a step of its own and counts one: what comes from
    /// outside at the count before, an [`Input::DriveFault`] too, comes first however the run is sliced.
    fn serve_drives(&mut self) -> Option<Ran> {
        if let Err(Fault { drive, ticket, .. }) = self.board.drives.release(self.now_ns()) {
            return Some(Ran::DriveFault { drive, ticket });
        }
        self.cpu.count_idle_skip();
        self.tick();
        self.service();
        None
    }

    /// Gives a drive of the configuration its sectors.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&mut self, drive: u8, storage: Box<dyn Storage>) -> Result<(), AttachError> {
        self.board.drives.attach(drive, storage)
    }

    /// The drives.
    pub fn drives(&self) -> &Drives {
        &self.board.drives
    }

    /// The drives, to copy or compare what is on them, or to take their storages back.
    pub fn drives_mut(&mut self) -> &mut Drives {
        self.board.forget_deadlines();
        &mut self.board.drives
    }

    /// Halted, and nothing waits that would wake the CPU.
    fn is_idle(&self) -> bool {
        let nmi = self.board.chips.local_apic.has_nmi() && !self.cpu.state().nmi_blocked;
        let interrupt = self.cpu.interruptible() && self.board.has_interrupt();
        let waits = nmi || interrupt || self.has_management_interrupt();
        self.cpu.state().halted && !waits && !self.off && !self.board.drives.is_due(self.now_ns())
    }

    /// How far the CPU may run before the board must look again, and whether an interrupt waits for its window.
    fn limit(&self, until: Icount) -> (Icount, bool) {
        let count = self.cpu.count().0;
        let clock = &self.board.chips.clock;
        let deadline = self.board.deadline().and_then(|deadline| clock.count_at(deadline)).map(|at| at.0);
        let output = self.board.outputs.first().map(|first| first.0.saturating_add(OUTPUT_PATIENCE));
        // An NMI or SMI that is blocked has no window to wait for: look after every instruction.
        let chips = &self.board.chips;
        let blocked = (chips.local_apic.has_nmi() || chips.management_interrupt).then_some(count + 1);
        let limit = [deadline, output, blocked].into_iter().flatten().fold(until.0, u64::min);
        (Icount(limit.max(count + 1)), self.board.has_interrupt())
    }

    fn tick(&mut self) {
        let count = self.cpu.count();
        self.board.tick(self.cpu.memory_mut(), count);
    }

    /// Lets chips do what is due at this count, and carries out what they asked for.
    fn service(&mut self) {
        let now_ns = self.now_ns();
        if self.board.deadline().is_some_and(|deadline| deadline <= now_ns) {
            self.tick();
        }
        if self.board.chips.power.is_off() && !self.off {
            self.off = true;
            self.board.emit(self.cpu.count(), Output::PowerOff);
        }
        if self.board.chips.reset {
            self.reset();
        }
    }

    /// All but virtual time and the real-time clock starts again, from the image that was booted.
    fn reset(&mut self) {
        self.board.emit(self.cpu.count(), Output::Reset);
        let (chips, regions) = (&self.board.chips, self.board.regions);
        let links: Vec<bool> = chips.nics.iter().map(Nic::link).collect();
        let chips = Chips::new(&self.config, &regions, chips.clock.clone(), chips.rtc.clone());
        let (now, now_ns) = (self.cpu.count(), self.now_ns());
        let memory = self.cpu.memory_mut();
        self.board.drives.abandon_all();
        self.board.replace_chips(memory, chips);
        let (drives, outputs) = (&mut self.board.drives, &mut self.board.outputs);
        for drive in 0..drives.count() {
            let cdrom = self.board.chips.ide.cdrom(drive);
            cdrom.into_iter().for_each(|cdrom| cdrom.hold(drives.sectors(drive))); // nor does a disc leave its drive
        }
        let mut context = Context { now, now_ns, memory: &mut *memory, drives, outputs };
        for (nic, up) in self.board.chips.nics.iter_mut().zip(links) {
            nic.set_link(&mut context, up); // cables know nothing of resets
        }
        regions.clear(memory);
        for page in 0..memory.pages() {
            if *memory.page(page) != [0; 4096] {
                memory.set_page(page, &[0; 4096]);
            }
        }
        *self.cpu.state_mut() = ftemu_cpu::State { halted: true, ..Default::default() };
        self.cpu.forget_derived();
        match self.boot.clone().as_deref() {
            Some(Boot { start: Start::Linux(image), .. }) => {
                self.start_linux(image).expect("the image was loaded before");
            }
            Some(Boot { start: Start::Firmware(firmware), .. }) => {
                firmware.start(&mut self.cpu, &self.board.regions, &self.board.chips);
            }
            None => {}
        }
    }

    /// When idle: virtual time jumps to the next deadline, which counts as one instruction. Otherwise, or if there is
    /// no deadline, nothing happens.
    pub fn skip_idle(&mut self) {
        let deadline = self.board.deadline();
        if let (true, Some(deadline)) = (self.is_idle(), deadline) {
            self.cpu.count_idle_skip();
            let clock = &mut self.board.chips.clock;
            clock.anchor(self.cpu.count(), deadline, clock.rate());
            self.service();
        }
    }

    /// Something arrives from outside, at the current count.
    pub fn apply(&mut self, input: &Input) {
        self.tick();
        let (now, now_ns) = (self.cpu.count(), self.now_ns());
        let (board, memory) = (&mut self.board, self.cpu.memory_mut());
        let chips = &mut board.chips;
        let (drives, outputs) = (&mut board.drives, &mut board.outputs);
        let mut context = Context { now, now_ns, memory, drives, outputs };
        match input {
            Input::Clock { ns, rate } => chips.clock.anchor(now, *ns, *rate),
            Input::Serial { port: VIRTIO_CONSOLE, bytes } => chips.virtio_console.push(bytes, &mut context),
            Input::Serial { port, bytes } => {
                if let Some(uart) = chips.serial.get_mut(usize::from(*port)) {
                    uart.push(bytes);
                }
            }
            Input::PowerButton => chips.power.press_power_button(),
            Input::Reset => chips.reset = true,
            Input::Frame { nic, bytes } => {
                if let Some(nic) = chips.nics.get_mut(usize::from(*nic)) {
                    nic.receive(&mut context, bytes);
                }
            }
            Input::Link { nic, up } => {
                if let Some(nic) = chips.nics.get_mut(usize::from(*nic)) {
                    nic.set_link(&mut context, *up);
                }
            }
            Input::Key { code, pressed } => chips.keyboard_controller.key(now_ns, *code, *pressed),
            Input::Pointer { dx, dy, wheel, buttons } => {
                chips.keyboard_controller.pointer(now_ns, (*dx, *dy, *wheel), *buttons);
            }
            Input::DriveFault { drive, ticket } => board.drives.fail(*drive, *ticket),
            Input::Eject { drive } => chips.ide.cdrom(*drive).into_iter().for_each(|cdrom| cdrom.press_eject()),
            Input::Insert { drive, disc } => {
                if let Some(cdrom) = chips.ide.cdrom(*drive)
                    && board.drives.change(*drive, disc)
                {
                    cdrom.insert(disc.sectors);
                }
            }
        }
        self.tick();
        self.service();
    }

    /// Takes what has left the machine since the last call.
    pub fn drain(&mut self) -> Vec<Emitted> {
        self.board.outputs.drain()
    }

    /// Drops everything derived (translations, cached walks); nothing a guest could notice.
    pub fn forget_derived(&mut self) {
        self.cpu.forget_derived();
    }
}

#[cfg(test)]
mod tests;
