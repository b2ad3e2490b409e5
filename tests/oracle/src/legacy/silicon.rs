//! The host's own CPU in compatibility mode: a traced child with a local descriptor table and the guest's RAM at the
//! guest's addresses runs 16- and 32-bit code at CPL 3, and its tracer reads what came of it.
#![allow(unsafe_code)]

use super::segments::{self, COUNT, PARTS};
use super::{CODE, Case, MEMORY, Outcome, Registers};
use anyhow::{Context, Result, ensure};
use libc::{c_int, c_long, c_void, pid_t};
use std::mem::MaybeUninit;
use std::ptr;

/// Where user mode may begin to map memory.
pub const START: usize = 0x1_0000;
/// Timer ticks after which a case does not end.
const PATIENCE: usize = 3;
/// Time between ticks.
const TICK_US: i64 = 10_000;
/// MODIFY_LDT's function that writes an entry in the present form.
const WRITE_ENTRY: c_long = 0x11;
/// si_code of a fault that is not about a page.
const SI_KERNEL: c_int = 0x80;
/// si_code of a single step.
const TRAP_TRACE: c_int = 2;

/// RFLAGS.ID.
const IDENTIFICATION: u32 = 1 << 21;
/// `push 2; popfd; int3`
const CLEAR: &[u8] = &[0x6a, 0x02, 0x9d, 0xcc];

/// What MODIFY_LDT takes.
#[repr(C)]
struct UserDescriptor {
    number: u32,
    base: u32,
    limit: u32,
    /// seg_32bit, contents (2 bits), read_exec_only, limit_in_pages, seg_not_present, useable.
    flags: u32,
}

pub struct Silicon {
    child: pid_t,
    memory: *mut u8,
}

impl Silicon {
    /// Starts the child.
    ///
    /// # Errors
    /// The host refuses low addresses, local descriptors, or tracing.
    pub fn new(image: &[u8]) -> Result<Silicon> {
        let length = MEMORY - START;
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a new mapping that replaces none.
        let memory = unsafe { libc::mmap(START as *mut c_void, length, protection, flags, -1, 0) };
        ensure!(memory as usize == START, "the host does not map address {START:#x}");
        // SAFETY: the child calls nothing but the system.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { serve() };
        }
        ensure!(child > 0, "the host does not fork");
        let silicon = Silicon { child, memory: memory.cast() };
        silicon.write(START, &image[START..]);
        let signal = silicon.wait().context("the child is gone")?;
        ensure!(signal == libc::SIGSTOP, "the host refuses local descriptors");
        let options = libc::PTRACE_O_EXITKILL as c_long;
        silicon.ptrace(libc::PTRACE_SETOPTIONS, options as *mut c_void).context("the host refuses options")?;
        Ok(silicon)
    }

    fn write(&self, address: usize, bytes: &[u8]) {
        assert!(address >= START && address + bytes.len() <= MEMORY);
        // SAFETY: within the mapping, which the stopped child does not touch.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.add(address - START), bytes.len()) };
    }

    fn ptrace(&self, request: libc::c_uint, data: *mut c_void) -> Option<()> {
        // SAFETY: `data` is what the request wants, by each caller.
        let result = unsafe { libc::ptrace(request, self.child, ptr::null_mut::<c_void>(), data) };
        (result == 0).then_some(())
    }

    /// The signal that stopped the child.
    fn wait(&self) -> Option<c_int> {
        let mut status = 0;
        // SAFETY: the child is ours.
        let found = unsafe { libc::waitpid(self.child, &mut status, 0) };
        (found == self.child && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
    }

    /// `None` where the case does not end, or leaves its memory.
    pub fn run(&mut self, case: &Case, image: &[u8]) -> Option<Outcome> {
        self.write(case.parts[1].base as usize + case.registers.ip as usize, &case.bytes);
        if let Some((address, bytes)) = &case.patch {
            self.write(*address as usize, bytes);
        }
        let vector = self.run_to_signal(&case.registers, [case.parts[4].base, case.parts[5].base]);
        let mut registers = self.registers();
        if let (Some(3), Some(registers)) = (vector, &mut registers) {
            registers.ip -= 1; // INT3 is a trap.
        }
        // SAFETY: the mapping, while the child is stopped.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory, MEMORY - START) }.to_vec();
        if registers.is_some_and(|registers| registers.flags & IDENTIFICATION != 0) {
            self.clear_identification();
        }
        let image = &image[START..];
        self.write(CODE as usize, &image[CODE as usize - START..][..0x1000]);
        for page in super::compare::changed_pages(image, &bytes) {
            self.write(START + page, &image[page..page + 4096]);
        }
        let changes = super::compare::changes(image, &bytes);
        let changes = changes.into_iter().map(|(at, byte)| (at + START as u32, byte)).collect();
        Some(Outcome { vector: Some(vector?), registers: registers?, linear: 0, changes })
    }

    /// Clears the one flag that a tracer cannot: the next case begins without it.
    fn clear_identification(&self) {
        self.write(CODE as usize, CLEAR);
        let local = segments::selector(segments::FLAT);
        let mut selectors = [local; 6];
        selectors[1] = segments::selector(segments::CODES[0]);
        let mut registers = Registers { ip: CODE as u32, flags: 2, selectors, ..Registers::default() };
        registers.gpr[4] = CODE as u32 + 0x100;
        self.run_to_signal(&registers, [0; 2]);
    }

    fn run_to_signal(&self, registers: &Registers, bases: [u64; 2]) -> Option<u8> {
        let mut all = self.all_registers()?;
        load(&mut all, registers);
        // A selector that the tracer sets does not bring its base.
        (all.fs_base, all.gs_base) = (bases[0], bases[1]);
        self.ptrace(libc::PTRACE_SETREGS, (&raw mut all).cast())?;
        for _ in 0..PATIENCE {
            self.ptrace(libc::PTRACE_CONT, ptr::null_mut())?;
            let signal = self.wait()?;
            if signal != libc::SIGALRM {
                return self.vector(signal);
            }
        }
        None
    }

    /// The vector behind a signal; #OF and #BR look like #GP, #NP like #SS.
    fn vector(&self, signal: c_int) -> Option<u8> {
        let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
        self.ptrace(libc::PTRACE_GETSIGINFO, information.as_mut_ptr().cast())?;
        // SAFETY: filled in by the system.
        let code = unsafe { information.assume_init() }.si_code;
        match (signal, code) {
            (libc::SIGTRAP, TRAP_TRACE) => Some(1),
            (libc::SIGTRAP, _) => Some(3),
            (libc::SIGILL, _) => Some(6),
            (libc::SIGFPE, _) => Some(0),
            (libc::SIGSEGV, SI_KERNEL) => Some(13),
            (libc::SIGBUS, SI_KERNEL) => Some(12),
            _ => None,
        }
    }

    fn all_registers(&self) -> Option<libc::user_regs_struct> {
        let mut all = MaybeUninit::<libc::user_regs_struct>::zeroed();
        self.ptrace(libc::PTRACE_GETREGS, all.as_mut_ptr().cast())?;
        // SAFETY: filled in by the system.
        Some(unsafe { all.assume_init() })
    }

    fn registers(&self) -> Option<Registers> {
        let all = self.all_registers()?;
        let gpr = [all.rax, all.rcx, all.rdx, all.rbx, all.rsp, all.rbp, all.rsi, all.rdi].map(|value| value as u32);
        let selectors = [all.es, all.cs, all.ss, all.ds, all.fs, all.gs].map(|value| value as u16);
        Some(Registers { gpr, ip: all.rip as u32, flags: all.eflags as u32, selectors })
    }
}

impl Drop for Silicon {
    fn drop(&mut self) {
        // SAFETY: a child and a mapping of ours.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, ptr::null_mut(), 0);
            libc::munmap(self.memory.cast(), MEMORY - START);
        }
    }
}

fn load(all: &mut libc::user_regs_struct, registers: &Registers) {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi] = registers.gpr.map(u64::from);
    (all.rax, all.rcx, all.rdx, all.rbx) = (rax, rcx, rdx, rbx);
    (all.rsp, all.rbp, all.rsi, all.rdi) = (rsp, rbp, rsi, rdi);
    [all.es, all.cs, all.ss, all.ds, all.fs, all.gs] = registers.selectors.map(u64::from);
    (all.rip, all.eflags) = (registers.ip.into(), registers.flags.into());
    all.orig_rax = u64::MAX;
}

/// The child: its descriptors, a timer, and a stop from which only its tracer moves it on.
///
/// # Safety
/// To be called right after a fork, in the child.
unsafe fn serve() -> ! {
    // SAFETY: calls of the system with arguments of ours.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<c_void>(), ptr::null_mut::<c_void>());
        for (number, part) in PARTS.iter().enumerate().take(COUNT).skip(1) {
            let pages = part.limit > 0xf_ffff;
            let code = u32::from(part.access & 8 != 0);
            let down = u32::from(code == 0 && part.access & 4 != 0);
            let descriptor = UserDescriptor {
                number: number as u32,
                base: part.base as u32,
                limit: if pages { part.limit >> 12 } else { part.limit },
                flags: u32::from(part.big)
                    | (code << 1 | down) << 1
                    | u32::from(part.access & 2 == 0) << 3
                    | u32::from(pages) << 4
                    | u32::from(part.access & 0x80 == 0) << 5,
            };
            if libc::syscall(libc::SYS_modify_ldt, WRITE_ENTRY, &raw const descriptor, 16) != 0 {
                libc::_exit(1);
            }
        }
        let tick = libc::timeval { tv_sec: 0, tv_usec: TICK_US };
        let timer = libc::itimerval { it_interval: tick, it_value: tick };
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0);
        libc::raise(libc::SIGSTOP);
        libc::_exit(0)
    }
}
