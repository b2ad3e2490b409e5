//! The guest `echo`: idle in HLT until COM1's receive interrupt (IRQ 4) comes; the handler sends back all that has arrived.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al};

use super::console::{Console, restore_registers, save_registers};
use super::platform::{self, IRQ_BASE};
use super::start::{gate, start, text};

/// Control-D ends the guest.
const END_OF_TRANSMISSION: i32 = 4;

pub(super) fn program(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let console = Console::new(a);
    let [mut receive, mut idle, mut next, mut none, mut end, mut mark] = [(); 6].map(|()| a.create_label());
    start(a)?;
    gate(a, IRQ_BASE + 4, receive)?;
    console.set_up(a, 0x01)?; // IER: received data available
    platform::interrupt_controllers(a, 0x10)?;
    console.print(a, mark)?;
    a.set_label(&mut idle)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(idle)?;

    a.set_label(&mut receive)?;
    save_registers(a)?;
    a.set_label(&mut next)?;
    console.get_byte_or(a, none)?;
    a.cmp(al, END_OF_TRANSMISSION)?;
    a.je(end)?;
    a.call(console.put_byte)?;
    a.jmp(next)?;
    a.set_label(&mut none)?;
    platform::end_of_interrupt(a)?;
    restore_registers(a)?;
    a.iretq()?;

    a.set_label(&mut end)?;
    platform::power_off(a)?;
    console.subroutines(a)?;
    text(a, &mut mark, "ftemu-mark echo\r\n")
}
