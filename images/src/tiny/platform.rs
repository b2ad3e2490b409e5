//! Interrupt controllers, the timers and power, as a tiny guest sets them up: the 8259 pair with IRQ 0 at vector 0x20,
//! virtual-wire mode through LINT0 (Intel SDM volume 3A, 10.5.1), PIT channel 0 (8254), the local APIC's own timer.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, dword_ptr, eax, rax};

use super::start::out_word;
use super::{POWER_OFF, POWER_PORT};

/// The vector of IRQ 0.
pub(super) const IRQ_BASE: i32 = 0x20;
/// The local APIC's spurious vector.
pub(super) const SPURIOUS: i32 = 0xff;
/// The local APIC's timer vector, where it is used.
pub(super) const TIMER_VECTOR: i32 = 0x40;

const LOCAL_APIC: u32 = 0xfee0_0000;
const EOI: u32 = 0xb0;
const SPURIOUS_VECTOR: u32 = 0xf0;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const INITIAL_COUNT: u32 = 0x380;
const DIVIDE: u32 = 0x3e0;

/// The 8254's input clock over 1000: channel 0 fires every millisecond.
const PIT_DIVISOR: u16 = 1193;

fn out_byte(a: &mut CodeAssembler, port: u32, value: u32) -> Result<(), IcedError> {
    a.mov(al, value)?;
    a.out(port, al)
}

/// Initialises both 8259s (ICW1 to ICW4, edge-triggered, 8086 mode) and unmasks the lines set in `lines`, of the first.
pub(super) fn interrupt_controllers(a: &mut CodeAssembler, lines: u8) -> Result<(), IcedError> {
    for (command, data, base, cascade) in [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)] {
        out_byte(a, command, 0x11)?;
        out_byte(a, data, base)?;
        out_byte(a, data, cascade)?;
        out_byte(a, data, 0x01)?;
    }
    out_byte(a, 0x21, u32::from(!lines))?;
    out_byte(a, 0xa1, 0xff)?;
    local_apic_write(a, SPURIOUS_VECTOR, 0x100 | SPURIOUS as u32)?;
    // ExtINT: the first 8259's output, through the local APIC.
    local_apic_write(a, LVT_LINT0, 0x700)
}

fn local_apic_write(a: &mut CodeAssembler, register: u32, value: u32) -> Result<(), IcedError> {
    a.mov(eax, LOCAL_APIC + register)?;
    a.mov(dword_ptr(rax), value)
}

/// PIT channel 0 as a rate generator (mode 2), every millisecond.
pub(super) fn programmable_timer(a: &mut CodeAssembler) -> Result<(), IcedError> {
    out_byte(a, 0x43, 0x34)?;
    out_byte(a, 0x40, u32::from(PIT_DIVISOR) & 0xff)?;
    out_byte(a, 0x40, u32::from(PIT_DIVISOR) >> 8)
}

/// The local APIC's timer, periodic, every `count` ticks of its clock divided by 16.
pub(super) fn local_timer(a: &mut CodeAssembler, count: u32) -> Result<(), IcedError> {
    local_apic_write(a, DIVIDE, 0x3)?;
    local_apic_write(a, LVT_TIMER, 0x2_0000 | TIMER_VECTOR as u32)?;
    local_apic_write(a, INITIAL_COUNT, count)
}

/// Ends an interrupt at the first 8259. Changes AL.
pub(super) fn end_of_interrupt(a: &mut CodeAssembler) -> Result<(), IcedError> {
    out_byte(a, 0x20, 0x20)
}

/// Ends an interrupt at the local APIC. Changes RAX.
pub(super) fn end_of_local_interrupt(a: &mut CodeAssembler) -> Result<(), IcedError> {
    local_apic_write(a, EOI, 0)
}

/// Powers the machine off, and halts for good in case it stays on.
pub(super) fn power_off(a: &mut CodeAssembler) -> Result<(), IcedError> {
    for value in POWER_OFF {
        out_word(a, POWER_PORT, value)?;
    }
    let mut halt = a.create_label();
    a.cli()?;
    a.set_label(&mut halt)?;
    a.hlt()?;
    a.jmp(halt)
}
