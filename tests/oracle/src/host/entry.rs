//! Into the case and out of it: IRETQ loads the last registers at once (and serialises after a change of code), a
//! signal ends the run.
#![allow(unsafe_code)]

use crate::case::Registers;
use std::arch::naked_asm;
use std::mem::offset_of;

/// The stack to come back to; zero while no case runs.
static mut HOST_STACK: u64 = 0;
/// The base of FS, which thread-local variables need.
static mut HOST_FS: u64 = 0;
/// The base of FS that the case has.
static mut CASE_FS: u64 = 0;
/// Single steps to take before a step ends the run, and those taken.
static mut STEPS: Steps = Steps { left: 0, taken: 0 };
/// What the signal said.
pub static mut TRAP: Trap = Trap { vector: 0, error: 0, cr2: 0, registers: None };

/// How far to follow single steps.
struct Steps {
    left: u64,
    taken: u64,
}

/// As [`enter`], but goes on after at most `limit` single steps (TF is set in the registers); gives how many there were.
///
/// # Safety
/// As [`enter`].
pub unsafe fn enter_stepping(registers: &Registers, limit: u64) -> u64 {
    // SAFETY: one thread; the handler runs only inside `enter`.
    unsafe {
        STEPS = Steps { left: limit, taken: 0 };
        enter(registers);
        let taken = STEPS.taken;
        STEPS = Steps { left: 0, taken: 0 };
        taken
    }
}

/// A signal's context, copied.
pub struct Trap {
    /// Vector of the exception.
    pub vector: u32,
    /// Its error code.
    pub error: u32,
    /// CR2.
    pub cr2: u64,
    /// All registers at that moment.
    pub registers: Option<Registers>,
}

/// Runs with these registers until a signal arrives; [`TRAP`] then holds the end.
///
/// # Safety
/// Single-threaded process; [`handler`] is installed on an alternate stack for every signal the case can cause.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(registers: *const Registers) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "rdfsbase rax",
        "mov [rip + {host_fs}], rax",
        "mov [rip + {host_stack}], rsp",
        "fxrstor64 [rdi + {fx}]",
        "mov rax, [rdi + {gs_base}]",
        "wrgsbase rax",
        "mov rax, [rdi + {fs_base}]",
        "mov [rip + {case_fs}], rax",
        "wrfsbase rax",
        "mov eax, ss",
        "push rax",
        "push qword ptr [rdi + {gpr} + 32]",
        "push qword ptr [rdi + {rflags}]",
        "mov eax, cs",
        "push rax",
        "push qword ptr [rdi + {rip}]",
        "mov rax, [rdi + {gpr}]",
        "mov rcx, [rdi + {gpr} + 8]",
        "mov rdx, [rdi + {gpr} + 16]",
        "mov rbx, [rdi + {gpr} + 24]",
        "mov rbp, [rdi + {gpr} + 40]",
        "mov rsi, [rdi + {gpr} + 48]",
        "mov r8, [rdi + {gpr} + 64]",
        "mov r9, [rdi + {gpr} + 72]",
        "mov r10, [rdi + {gpr} + 80]",
        "mov r11, [rdi + {gpr} + 88]",
        "mov r12, [rdi + {gpr} + 96]",
        "mov r13, [rdi + {gpr} + 104]",
        "mov r14, [rdi + {gpr} + 112]",
        "mov r15, [rdi + {gpr} + 120]",
        "mov rdi, [rdi + {gpr} + 56]",
        "iretq",
        host_fs = sym HOST_FS,
        host_stack = sym HOST_STACK,
        fx = const offset_of!(Registers, fx),
        gpr = const offset_of!(Registers, gpr),
        rip = const offset_of!(Registers, rip),
        rflags = const offset_of!(Registers, rflags),
        case_fs = sym CASE_FS,
        fs_base = const offset_of!(Registers, fs_base),
        gs_base = const offset_of!(Registers, gs_base),
    );
}

/// The signal handler: restores FS, copies the context, and leaves through [`enter`]'s stack instead of returning,
/// which saves a system call.
///
/// # Safety
/// Only the kernel calls it.
#[unsafe(naked)]
pub unsafe extern "C" fn handler(signal: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    naked_asm!(
        "mov rax, [rip + {host_fs}]",
        "wrfsbase rax",
        "mov rdi, rdx",
        "sub rsp, 8",
        "call {capture}",
        "test eax, eax",
        "jnz 2f",
        "mov rsp, [rip + {host_stack}]",
        "mov qword ptr [rip + {host_stack}], 0",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "cld",
        "ret",
        // The case goes on, through the kernel's way back.
        "2:",
        "add rsp, 8",
        "mov rax, [rip + {case_fs}]",
        "wrfsbase rax",
        "ret",
        case_fs = sym CASE_FS,
        host_fs = sym HOST_FS,
        host_stack = sym HOST_STACK,
        capture = sym capture,
    );
}

/// Copies a signal's context into [`TRAP`], or counts a single step; 1 if the case goes on.
unsafe extern "C" fn capture(context: *const libc::ucontext_t) -> u32 {
    // SAFETY: the kernel passes a valid context; the process has one thread, and only `serve` reads TRAP, later.
    unsafe {
        if HOST_STACK == 0 {
            // A fault of our own, outside of a case.
            libc::_exit(101);
        }
        let machine = &(*context).uc_mcontext;
        let register = |number: i32| machine.gregs[number as usize] as u64;
        let steps = &mut *std::ptr::addr_of_mut!(STEPS);
        if register(libc::REG_TRAPNO) == 1 && steps.left > 0 {
            steps.left -= 1;
            steps.taken += 1;
            return 1;
        }
        let mut found = Registers {
            gpr: ORDER.map(register),
            rip: register(libc::REG_RIP),
            rflags: register(libc::REG_EFL),
            ..Registers::default()
        };
        std::ptr::copy_nonoverlapping(machine.fpregs.cast::<u8>(), found.fx.as_mut_ptr(), 512);
        let trap = &mut *std::ptr::addr_of_mut!(TRAP);
        trap.vector = register(libc::REG_TRAPNO) as u32;
        trap.error = register(libc::REG_ERR) as u32;
        trap.cr2 = register(libc::REG_CR2);
        trap.registers = Some(found);
        0
    }
}

/// The context's registers in encoding order.
const ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];
