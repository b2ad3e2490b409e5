//! The few host routines that lead into and out of translated code, assembled once per engine.

use super::frame::{displacement, register_displacement};
use iced_x86::code_asm::*;
use iced_x86::{IcedError, Register};

/// Which host register holds a guest register while translated code runs; `None`: it lives in the frame.
///
/// RCX is kept free because LOOP and JRCXZ are the only conditional jumps that do not read the flags; R10 and R13 are the other
/// scratch registers, R14 the budget and RSP the frame.
pub const HOMES: [Option<u8>; 16] = [
    Some(0),
    Some(11),
    Some(2),
    Some(3),
    Some(15),
    Some(5),
    Some(6),
    Some(7),
    Some(8),
    Some(9),
    None,
    None,
    Some(12),
    None,
    None,
    None,
];

/// Host addresses of the routines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trampolines {
    /// `extern "sysv64" fn(anchor) -> u32`: switches to the frame and continues at `frame.resume`.
    pub enter: u64,
    /// Jumped to with ECX = site: saves the guest, calls the service function, then restores or returns from `enter`.
    pub service: u64,
    /// Loads the guest's x87/SSE registers and continues at `frame.resume`.
    pub load_fpu: u64,
    /// Where the signal handler sends a fault: the service with the fault site.
    pub fault: u64,
}

fn slot(displacement: i32) -> AsmMemoryOperand {
    qword_ptr(rsp + displacement)
}

fn host(number: u8) -> AsmRegister64 {
    const ALL: [AsmRegister64; 16] = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    ALL[number as usize]
}

/// Assembles the routines for `address`. `service_function` is `extern "sysv64" fn(engine) -> u32` returning 0 to
/// resume.
pub fn assemble(address: u64, service_function: u64, fault_site: u32) -> Result<(Vec<u8>, Trampolines), IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut restore, mut service) = (a.create_label(), a.create_label());
    let (mut load_fpu, mut fault) = (a.create_label(), a.create_label());
    let saved = [rbx, rbp, r12, r13, r14, r15];
    for register in saved {
        a.push(register)?;
    }
    a.mov(qword_ptr(rdi + displacement!(host_rsp)), rsp)?;
    a.mov(rsp, rdi)?;
    a.set_label(&mut restore)?;
    emit_restore(&mut a)?;

    a.set_label(&mut service)?;
    emit_save(&mut a)?;
    a.mov(rdi, slot(displacement!(engine)))?;
    a.lea(rsp, ptr(rsp - 12))?;
    a.mov(rax, service_function)?;
    a.call(rax)?;
    a.lea(rsp, ptr(rsp + 12))?;
    a.test(eax, eax)?;
    a.je(restore)?;
    a.mov(rsp, slot(displacement!(host_rsp)))?;
    for register in saved.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;

    a.set_label(&mut load_fpu)?;
    a.fxrstor64(ptr(rsp + displacement!(state.fx)))?;
    a.mov(slot(displacement!(fpu_loaded)), 1)?;
    a.jmp(slot(displacement!(resume)))?;

    a.set_label(&mut fault)?;
    a.mov(ecx, fault_site)?;
    a.jmp(service)?;

    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let result = a.assemble_options(address, options)?;
    let trampolines = Trampolines {
        enter: address,
        service: result.label_ip(&service)?,
        load_fpu: result.label_ip(&load_fpu)?,
        fault: result.label_ip(&fault)?,
    };
    Ok((result.inner.code_buffer, trampolines))
}

/// Guest registers from the frame, then on at `frame.resume`.
fn emit_restore(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut ready = a.create_label();
    a.mov(rax, slot(displacement!(fpu_loaded)))?;
    a.not(rax)?;
    a.and(rax, slot(displacement!(fpu_wanted)))?;
    a.je(ready)?;
    a.fxrstor64(ptr(rsp + displacement!(state.fx)))?;
    a.mov(slot(displacement!(fpu_loaded)), 1)?;
    a.set_label(&mut ready)?;
    a.mov(rax, slot(displacement!(packed_flags)))?;
    a.add(al, 127)?;
    a.sahf()?;
    for (guest, home) in HOMES.iter().enumerate() {
        if let Some(number) = home {
            a.mov(host(*number), slot(register_displacement(guest)))?;
        }
    }
    a.mov(r14, slot(displacement!(budget)))?;
    a.mov(r10, slot(displacement!(address)))?;
    a.mov(r13, slot(displacement!(addend)))?;
    a.jmp(slot(displacement!(resume)))
}

/// Guest registers, flags and scratch registers to the frame; x87/SSE too if they are in the host's registers.
fn emit_save(a: &mut CodeAssembler) -> Result<(), IcedError> {
    for (guest, home) in HOMES.iter().enumerate() {
        if let Some(number) = home {
            a.mov(slot(register_displacement(guest)), host(*number))?;
        }
    }
    a.lahf()?;
    a.seto(al)?;
    a.mov(slot(displacement!(packed_flags)), rax)?;
    a.mov(slot(displacement!(budget)), r14)?;
    a.mov(slot(displacement!(address)), r10)?;
    a.mov(slot(displacement!(addend)), r13)?;
    a.mov(slot(displacement!(argument)), rcx)?;
    let mut saved = a.create_label();
    a.cmp(slot(displacement!(fpu_loaded)), 0)?;
    a.je(saved)?;
    a.fxsave64(ptr(rsp + displacement!(state.fx)))?;
    a.mov(slot(displacement!(fpu_loaded)), 0)?;
    a.ldmxcsr(dword_ptr(rsp + displacement!(host_mxcsr)))?;
    a.set_label(&mut saved)
}

/// The iced name of a host register of `size` bytes.
pub fn host_register(number: u8, size: usize) -> Register {
    let number = u32::from(number);
    match size {
        8 => Register::RAX + number,
        4 => Register::EAX + number,
        2 => Register::AX + number,
        _ if number < 4 => Register::AL + number,
        _ => Register::SPL + (number - 4),
    }
}
