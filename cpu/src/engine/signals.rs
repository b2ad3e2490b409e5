//! Faults that the host raises while relocated code runs, and the exhausted budget, arrive as signals.
//!
//! The handler changes nothing but RIP: it sends the thread to the fault trampoline, which saves the guest as any
//! other exit does. A fault outside of the code buffer is not ours and goes to whoever handled it before.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::Once;
use std::{mem, ptr};

/// What the handler needs, and what it reports.
#[derive(Default)]
#[repr(C)]
pub struct FaultPort {
    /// The code buffer.
    pub range: (u64, u64),
    /// Where to continue.
    pub trampoline: u64,
    /// The host's RIP at the fault.
    pub rip: u64,
    /// The host's exception vector.
    pub vector: u64,
}

const SIGNALS: [i32; 4] = [libc::SIGSEGV, libc::SIGFPE, libc::SIGBUS, libc::SIGILL];

thread_local! {
    static ACTIVE: Cell<*mut FaultPort> = const { Cell::new(ptr::null_mut()) };
    static STACK: AlternateStack = AlternateStack::new();
}

static mut PREVIOUS: [mem::MaybeUninit<libc::sigaction>; 4] = [const { mem::MaybeUninit::zeroed() }; 4];
static INSTALL: Once = Once::new();

/// A signal stack for this thread.
struct AlternateStack(*mut libc::c_void);

impl AlternateStack {
    const SIZE: usize = 128 << 10;

    fn new() -> AlternateStack {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping, given to the kernel as this thread's signal stack and never unmapped before the
        // thread ends.
        unsafe {
            let base = libc::mmap(ptr::null_mut(), Self::SIZE, protection, flags, -1, 0);
            assert!(base != libc::MAP_FAILED, "no memory for a signal stack");
            let stack = libc::stack_t { ss_sp: base, ss_flags: 0, ss_size: Self::SIZE };
            libc::sigaltstack(&stack, ptr::null_mut());
            AlternateStack(base)
        }
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        let off = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the stack is disabled before its memory goes.
        unsafe {
            libc::sigaltstack(&off, ptr::null_mut());
            libc::munmap(self.0, Self::SIZE);
        }
    }
}

/// Makes `port` the one that faults on this thread go to, until [`leave`].
pub fn enter(port: *mut FaultPort) {
    INSTALL.call_once(install);
    STACK.with(|_| ());
    ACTIVE.set(port);
}

/// Faults on this thread are not ours any more.
pub fn leave() {
    ACTIVE.set(ptr::null_mut());
}

fn install() {
    for (number, &signal) in SIGNALS.iter().enumerate() {
        // SAFETY: called once; the handler is async-signal-safe; PREVIOUS is only read by the handler afterwards.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            let previous = (&raw mut PREVIOUS[number]).cast::<libc::sigaction>();
            libc::sigaction(signal, &action, previous);
        }
    }
}

extern "C" fn handler(signal: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let port = ACTIVE.get();
    // SAFETY: the kernel passes a valid context; the port lives as long as it is active on this thread.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let rip = registers[libc::REG_RIP as usize] as u64;
        if !port.is_null() && ((*port).range.0..(*port).range.1).contains(&rip) {
            (*port).rip = rip;
            (*port).vector = registers[libc::REG_TRAPNO as usize] as u64;
            registers[libc::REG_RIP as usize] = (*port).trampoline as i64;
            return;
        }
        pass_on(signal, information, context);
    }
}

/// Hands a fault that is not ours to the handler installed before us, or lets the default action end the process.
unsafe fn pass_on(signal: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let number = SIGNALS.iter().position(|&known| known == signal).unwrap_or(0);
    // SAFETY: PREVIOUS was filled by `install`; the handler found there has the signature its flags say.
    unsafe {
        let previous = (&raw const PREVIOUS[number]).cast::<libc::sigaction>().read();
        let function = previous.sa_sigaction;
        if function == libc::SIG_DFL || function == libc::SIG_IGN {
            libc::signal(signal, libc::SIG_DFL);
        } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
            let call: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = mem::transmute(function);
            call(signal, information, context);
        } else {
            let call: extern "C" fn(i32) = mem::transmute(function);
            call(signal);
        }
    }
}
