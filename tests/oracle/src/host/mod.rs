//! The host's own CPU as an oracle for user-mode instructions: a forked child maps the case's pages at their
//! addresses, loads every register, jumps, and reports the first signal.
//!
//! Parent and child share an arena of slots; a byte through a pipe hands a batch over in either direction.
#![allow(unsafe_code)]

mod child;
mod entry;

use crate::case::{Case, LONGEST, Line, Outcome, Patch, Program, Registers, Subject};
use crate::catalogue;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Cases that are handed over at a time.
pub const BATCH: usize = 64;
/// Changed lines that a slot can report.
const LINES: usize = 192;
/// Patches that a slot can carry.
const PATCHES: usize = 8;
/// The child made no answer for this long: the case does not end.
const PATIENCE_MS: i32 = 500;

/// How a slot's run ended.
mod status {
    pub const FAULT: u32 = 1;
    pub const TOO_MANY_LINES: u32 = 2;
}

/// One case on its way to the child and back.
#[repr(C, align(64))]
struct Slot {
    registers: Registers,
    code: [u8; LONGEST],
    code_start: u32,
    code_length: u32,
    image: u32,
    patch_count: u32,
    patches: [Patch; PATCHES],
    /// Run it in single steps first.
    stepping: u32,
    status: u32,
    vector: u32,
    error: u32,
    line_count: u32,
    cr2: u64,
    steps: u64,
    result: Registers,
    lines: [Line; LINES],
}

/// What parent and child share.
#[repr(C)]
struct Arena {
    count: u32,
    /// Cases that have ended.
    done: AtomicU32,
    slots: [Slot; BATCH],
}

/// The child with its arena and pipes.
pub struct Host {
    arena: *mut Arena,
    child: libc::pid_t,
    to_child: File,
    from_child: File,
}

impl Host {
    /// Starts the child.
    ///
    /// # Errors
    /// The kernel does not give user mode the FSGSBASE instructions, or has no room for another process.
    pub fn new() -> Result<Host> {
        const HWCAP2_FSGSBASE: u64 = 2;
        // SAFETY: getauxval reads the auxiliary vector; any key is allowed.
        let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        ensure!(capabilities & HWCAP2_FSGSBASE != 0, "this kernel does not let programs set FS and GS bases");
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a fresh anonymous mapping that nothing else refers to.
        let arena = unsafe {
            libc::mmap(std::ptr::null_mut(), size_of::<Arena>(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        ensure!(arena != libc::MAP_FAILED, "no memory for the arena");
        let (child_reads, to_child) = pipe()?;
        let (from_child, child_writes) = pipe()?;
        // Made before the fork: the child must not allocate, for other threads may have held the allocator's lock.
        let images: Vec<Vec<u8>> = (0..crate::layout::IMAGES).map(crate::layout::image).collect();
        // SAFETY: the child calls nothing but system calls and code that neither allocates nor locks, and never returns.
        let child = unsafe { libc::fork() };
        ensure!(child >= 0, "fork failed: {}", std::io::Error::last_os_error());
        if child == 0 {
            // SAFETY: these are the parent's ends; the child must see end of file when the parent dies.
            unsafe {
                libc::close(to_child.as_raw_fd());
                libc::close(from_child.as_raw_fd());
                child::serve(arena.cast(), &images, child_reads.as_raw_fd(), child_writes.as_raw_fd());
            }
        }
        Ok(Host { arena: arena.cast(), child, to_child, from_child })
    }

    /// Hands a batch of at most [`BATCH`] cases to the child, which works on it at once.
    ///
    /// # Errors
    /// The child is gone.
    pub fn submit(&mut self, cases: &[(Case, Program)]) -> Result<()> {
        assert!(cases.len() <= BATCH);
        // SAFETY: the child waits for the byte below and does not touch the arena until then.
        let arena = unsafe { &mut *self.arena };
        arena.count = cases.len() as u32;
        arena.done = AtomicU32::new(0);
        for (slot, (case, program)) in arena.slots.iter_mut().zip(cases) {
            slot.fill(case, program);
        }
        self.to_child.write_all(&[1]).context("the host oracle's process is gone")
    }

    /// Waits for the batch. Cases after one that does not end are `None` too.
    ///
    /// # Errors
    /// The child could not be started again after a case that did not end.
    pub fn collect(&mut self, cases: &[(Case, Program)]) -> Result<Vec<Option<Outcome>>> {
        let answered = self.answered()?;
        // SAFETY: the child has answered and waits for the next batch, or is stuck behind the slots that are read.
        let arena = unsafe { &*self.arena };
        let done = if answered { cases.len() } else { arena.done.load(Ordering::Acquire) as usize };
        let outcome = |(number, slot): (usize, &Slot)| if number < done { slot.outcome() } else { None };
        let outcomes = arena.slots[..cases.len()].iter().enumerate().map(outcome).collect();
        if !answered {
            *self = Host::new()?;
        }
        Ok(outcomes)
    }

    /// Waits for the child's byte; false if it died or ran out of patience.
    fn answered(&mut self) -> Result<bool> {
        let mut poll = libc::pollfd { fd: self.from_child.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&mut poll, 1, PATIENCE_MS) };
        if ready <= 0 {
            return Ok(false);
        }
        Ok(self.from_child.read(&mut [0])? == 1)
    }
}

impl Subject for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn run(&mut self, case: &Case, program: &Program) -> Option<Outcome> {
        let batch = [(case.clone(), program.clone())];
        self.submit(&batch).ok()?;
        self.collect(&batch).ok()?.pop()?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: our own child, not yet waited for, and our own mapping.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, std::ptr::null_mut(), 0);
            libc::munmap(self.arena.cast(), size_of::<Arena>());
        }
    }
}

impl Slot {
    fn fill(&mut self, case: &Case, program: &Program) {
        self.registers = case.registers;
        self.registers.rip = program.address;
        self.code[..program.bytes.len()].copy_from_slice(&program.bytes);
        self.code_start = case.start as u32;
        self.code_length = program.bytes.len() as u32;
        self.image = case.image as u32;
        self.stepping = u32::from(case.seed.is_multiple_of(8) && catalogue::is_countable(case, program));
        self.patch_count = case.patches.len() as u32;
        self.patches[..case.patches.len()].copy_from_slice(&case.patches);
    }

    fn outcome(&self) -> Option<Outcome> {
        (self.status == status::FAULT).then(|| Outcome {
            vector: self.vector as u8,
            error: self.error,
            cr2: self.cr2,
            registers: self.result,
            lines: self.lines[..self.line_count as usize].to_vec(),
            // INT3 completes, but without a step's trap.
            count: (self.stepping != 0 && self.steps < child::STEPS)
                .then_some(self.steps + u64::from(self.vector == 3)),
            system: None,
        })
    }
}

/// A pipe: the end to read, the end to write.
fn pipe() -> Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: two descriptors fit; they become owned by the files at once.
    unsafe {
        ensure!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == 0, "no pipe");
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}
