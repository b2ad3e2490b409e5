//! COM1 as a tiny guest drives it (16550, National Semiconductor's datasheet), and printing.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, byte_ptr, cl, dx, eax, ecx, edx, ptr, r8, r8d, r9d, rax, rcx, rdx, rsi,
};

const COM1: i32 = 0x3f8;

/// The subroutines for printing. They change RAX, RCX, RDX, RSI, R8 and R9.
#[derive(Clone, Copy)]
pub(super) struct Console {
    /// Prints the byte in AL. Keeps RCX.
    pub(super) put_byte: CodeLabel,
    /// Prints the NUL-terminated text at RSI.
    pub(super) put_text: CodeLabel,
    /// Prints RAX in decimal.
    pub(super) put_decimal: CodeLabel,
    /// Prints RAX as 16 hexadecimal digits.
    pub(super) put_hexadecimal: CodeLabel,
}

impl Console {
    /// Labels to call before the subroutines are emitted.
    pub(super) fn new(a: &mut CodeAssembler) -> Self {
        Self {
            put_byte: a.create_label(),
            put_text: a.create_label(),
            put_decimal: a.create_label(),
            put_hexadecimal: a.create_label(),
        }
    }

    /// Sets the port up: 115200 baud, 8 data bits, no parity, FIFOs on; `interrupts` goes to the IER.
    pub(super) fn set_up(self, a: &mut CodeAssembler, interrupts: i32) -> Result<(), IcedError> {
        // LCR with DLAB, DLL, DLM, LCR, FCR, MCR (DTR, RTS, OUT2: the interrupt gate), IER
        for (register, value) in [(3, 0x83), (0, 1), (1, 0), (3, 0x03), (2, 0x07), (4, 0x0b), (1, interrupts)] {
            a.mov(dx, COM1 + register)?;
            a.mov(al, value)?;
            a.out(dx, al)?;
        }
        Ok(())
    }

    /// Reads a byte into AL if the LSR says that there is one; otherwise jumps.
    pub(super) fn get_byte_or(self, a: &mut CodeAssembler, none: CodeLabel) -> Result<(), IcedError> {
        a.mov(dx, COM1 + 5)?;
        a.in_(al, dx)?;
        a.test(al, 1)?;
        a.je(none)?;
        a.mov(dx, COM1)?;
        a.in_(al, dx)
    }

    /// Prints a text.
    pub(super) fn print(self, a: &mut CodeAssembler, text: CodeLabel) -> Result<(), IcedError> {
        a.lea(rsi, ptr(text))?;
        a.call(self.put_text)
    }

    /// Emits the subroutines.
    pub(super) fn subroutines(mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        self.emit_put_byte(a)?;
        self.emit_put_text(a)?;
        self.emit_put_decimal(a)?;
        self.emit_put_hexadecimal(a)
    }

    fn emit_put_byte(&mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let mut wait = a.create_label();
        a.set_label(&mut self.put_byte)?;
        a.mov(r9d, eax)?;
        a.mov(dx, COM1 + 5)?;
        a.set_label(&mut wait)?;
        a.in_(al, dx)?;
        a.test(al, 0x20)?; // THRE
        a.je(wait)?;
        a.mov(eax, r9d)?;
        a.mov(dx, COM1)?;
        a.out(dx, al)?;
        a.ret()
    }

    fn emit_put_text(&mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let mut done = a.create_label();
        a.set_label(&mut self.put_text)?;
        a.lodsb()?;
        a.test(al, al)?;
        a.je(done)?;
        a.call(self.put_byte)?;
        a.jmp(self.put_text)?;
        a.set_label(&mut done)?;
        a.ret()
    }

    /// Digits go to the stack, last first, and come off it in order.
    fn emit_put_decimal(&mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (mut divide, mut print) = (a.create_label(), a.create_label());
        a.set_label(&mut self.put_decimal)?;
        a.xor(ecx, ecx)?;
        a.mov(r8d, 10)?;
        a.set_label(&mut divide)?;
        a.xor(edx, edx)?;
        a.div(r8)?;
        a.push(rdx)?;
        a.inc(ecx)?;
        a.test(rax, rax)?;
        a.jne(divide)?;
        a.set_label(&mut print)?;
        a.pop(rax)?;
        a.add(al, 0x30)?;
        a.call(self.put_byte)?;
        a.dec(ecx)?;
        a.jne(print)?;
        a.ret()
    }

    fn emit_put_hexadecimal(&mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        let (mut next, mut digits) = (a.create_label(), a.create_label());
        a.set_label(&mut self.put_hexadecimal)?;
        a.mov(r8, rax)?;
        a.mov(ecx, 60)?;
        a.set_label(&mut next)?;
        a.mov(rax, r8)?;
        a.shr(rax, cl)?;
        a.and(eax, 15)?;
        a.lea(rdx, ptr(digits))?;
        a.mov(al, byte_ptr(rdx + rax))?;
        a.call(self.put_byte)?;
        a.sub(ecx, 4)?;
        a.jns(next)?;
        a.ret()?;
        a.set_label(&mut digits)?;
        a.db(b"0123456789abcdef")
    }
}

/// Emits: the registers that the console's subroutines use, saved.
pub(super) fn save_registers(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.push(rax)?;
    a.push(rcx)?;
    a.push(rdx)
}

/// Emits: the registers that [`save_registers`] saved, restored.
pub(super) fn restore_registers(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.pop(rdx)?;
    a.pop(rcx)?;
    a.pop(rax)
}
