//! The guest `screen`: a picture of 640 x 480 through the Bochs display interface (ports 1CEh, 1CFh) and the window at
//! A0000h; keyboard (IRQ 1), mouse (IRQ 12) and power button (IRQ 9) by interrupts alone.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, byte_ptr, dword_ptr, dx, edi, rdi};

use super::console::{Console, restore_registers, save_registers};
use super::platform::{self, IRQ_BASE};
use super::start::{gate, out_word, start, text};
use super::{SCREEN_COLOR, SCREEN_SIZE};

const WINDOW: u32 = 0xa_0000;
/// Registers of the display interface and what goes there: off, the mode at 32 bits, on with a linear framebuffer.
const MODE: [(u16, u16); 5] = [(4, 0), (1, SCREEN_SIZE.0), (2, SCREEN_SIZE.1), (3, 32), (4, 0x41)];
/// The VGA's side: memory is decoded at A0000h, 64 KiB of it; the display has the palette.
const VGA: [(u16, u8); 4] = [(0x3c2, 0x63), (0x3ce, 6), (0x3cf, 5), (0x3c0, 0x20)];
/// The 8042: command byte with translation and both interrupts, then F4h, "report", to the mouse.
const CONTROLLER: [(u16, u8); 4] = [(0x64, 0x60), (0x60, 0x47), (0x64, 0xd4), (0x60, 0xf4)];
/// PM1_EN, and its power button bit.
const POWER_ENABLE: (u16, u16) = (0x602, 0x100);
const AUXILIARY: i32 = 0x20;

pub(super) fn program(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let console = Console::new(a);
    let [mut input, mut mouse, mut read, mut power, mut idle, mut mark] = [(); 6].map(|()| a.create_label());
    start(a)?;
    for (irq, handler) in [(1, input), (9, power), (12, input)] {
        gate(a, IRQ_BASE + irq, handler)?;
    }
    console.set_up(a, 0)?;
    picture(a)?;
    platform::interrupt_controllers(a, 0x06)?;
    out_byte(a, 0xa1, !0x12)?;
    CONTROLLER.into_iter().try_for_each(|(port, value)| out_byte(a, port, value))?;
    out_word(a, POWER_ENABLE.0, POWER_ENABLE.1)?;
    console.print(a, mark)?;
    a.set_label(&mut idle)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(idle)?;

    a.set_label(&mut input)?;
    save_registers(a)?;
    a.mov(edi, WINDOW)?;
    a.in_(al, 0x64)?;
    a.test(al, AUXILIARY)?;
    a.jne(mouse)?;
    a.jmp(read)?;
    a.set_label(&mut mouse)?;
    a.add(edi, 4)?;
    a.set_label(&mut read)?;
    a.in_(al, 0x60)?;
    a.mov(byte_ptr(rdi), al)?;
    out_byte(a, 0xa0, 0x20)?;
    platform::end_of_interrupt(a)?;
    restore_registers(a)?;
    a.iretq()?;

    a.set_label(&mut power)?;
    platform::power_off(a)?;
    console.subroutines(a)?;
    text(a, &mut mark, "ftemu-mark screen\r\n")
}

/// The mode, and the first two pixels.
fn picture(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(dx, 0x3da)?;
    a.in_(al, dx)?; // an attribute index comes next
    VGA.into_iter().try_for_each(|(port, value)| out_byte(a, port, value))?;
    for (register, value) in MODE {
        out_word(a, 0x1ce, register)?;
        out_word(a, 0x1cf, value)?;
    }
    a.mov(edi, WINDOW)?;
    a.mov(dword_ptr(rdi), SCREEN_COLOR)?;
    a.mov(dword_ptr(rdi + 4), SCREEN_COLOR)
}

fn out_byte(a: &mut CodeAssembler, port: u16, value: u8) -> Result<(), IcedError> {
    a.mov(dx, i32::from(port))?;
    a.mov(al, i32::from(value))?;
    a.out(dx, al)
}
