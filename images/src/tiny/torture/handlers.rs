//! The torture guest's handlers of exceptions and interrupts: each hashes what the CPU tells it.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, byte_ptr, cr2, eax, ecx, edx, qword_ptr, r8, r8d, r9, rax, rcx, rsp,
};

use super::{TIMER_HASH, entry, frame, mix};
use crate::tiny::platform::{self, SPURIOUS, TIMER_VECTOR};
use crate::tiny::start::{PRESENT_WRITABLE, gate, variable};

/// The handlers of exceptions and interrupts.
#[derive(Clone, Copy)]
pub(super) struct Handlers {
    skip: [CodeLabel; 3],
    breakpoint: CodeLabel,
    page_fault: CodeLabel,
    timer: CodeLabel,
    spurious: CodeLabel,
}

impl Handlers {
    pub(super) fn new(a: &mut CodeAssembler) -> Self {
        Self {
            skip: [(); 3].map(|()| a.create_label()),
            breakpoint: a.create_label(),
            page_fault: a.create_label(),
            timer: a.create_label(),
            spurious: a.create_label(),
        }
    }

    pub(super) fn install(self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for (vector, handler) in [(0, self.skip[0]), (6, self.skip[1]), (13, self.skip[2])] {
            gate(a, vector, handler)?;
        }
        gate(a, 3, self.breakpoint)?;
        gate(a, 14, self.page_fault)?;
        gate(a, TIMER_VECTOR, self.timer)?;
        gate(a, SPURIOUS, self.spurious)
    }

    pub(super) fn emit(mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        // #DE (DIV ECX), #UD (UD2), #GP (MOV RAX, [R14]): the lengths to skip, and whether an error code is on the stack.
        for (label, (length, error_code)) in self.skip.iter_mut().zip([(2, false), (2, false), (3, true)]) {
            a.set_label(label)?;
            if error_code {
                a.pop(rax)?;
                mix(a)?;
            }
            a.mov(rax, qword_ptr(rsp))?;
            mix(a)?;
            a.add(qword_ptr(rsp), length)?;
            a.iretq()?;
        }
        a.set_label(&mut self.breakpoint)?;
        a.mov(rax, qword_ptr(rsp))?;
        mix(a)?;
        a.iretq()?;
        self.emit_page_fault(a)?;
        self.emit_timer(a)?;
        a.set_label(&mut self.spurious)?;
        a.iretq()
    }

    /// Hashes CR2 and the error code, and maps the page to the frame of its own number, writable and executable.
    fn emit_page_fault(&mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.set_label(&mut self.page_fault)?;
        a.xchg(qword_ptr(rsp), rax)?; // the error code for the caller's RAX
        mix(a)?;
        a.push(rcx)?;
        a.mov(rax, cr2)?;
        mix(a)?;
        a.mov(rcx, rax)?;
        a.shr(rcx, 12)?;
        a.and(ecx, 0xf)?;
        a.mov(eax, ecx)?;
        frame(a, PRESENT_WRITABLE as i32)?;
        a.mov(entry(), rax)?;
        a.mov(rax, cr2)?;
        a.invlpg(byte_ptr(rax))?;
        a.pop(rcx)?;
        a.pop(rax)?;
        a.iretq()
    }

    /// Hashes RIP, RFLAGS and RCX of whatever was interrupted, on its own: the other hash may be half-mixed.
    fn emit_timer(&mut self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.set_label(&mut self.timer)?;
        a.push(rax)?;
        a.push(r8)?;
        a.push(r9)?;
        a.mov(r8, variable(TIMER_HASH))?;
        for value in [qword_ptr(rsp + 24), qword_ptr(rsp + 40)] {
            a.rol(r8, 9)?;
            a.xor(r8, value)?;
        }
        a.rol(r8, 9)?;
        a.xor(r8, rcx)?;
        a.xor(r8d, edx)?;
        a.mov(r9, r8)?;
        a.mov(variable(TIMER_HASH), r9)?;
        platform::end_of_local_interrupt(a)?;
        a.pop(r9)?;
        a.pop(r8)?;
        a.pop(rax)?;
        a.iretq()
    }
}
