//! The child's side: maps the pages, then runs one batch after the other. It must not allocate (it was forked).
#![allow(unsafe_code)]

use super::entry::{self, TRAP};
use super::{Arena, LINES, Slot, status};
use crate::layout::{CODE_FRAME, DATA_BYTES, FRAMES, PAGE, PAGES};
use std::ffi::c_void;
use std::ptr::{addr_of_mut, null_mut};
use std::sync::atomic::Ordering;

/// The frames through a mapping of our own, and which initial data they hold.
struct Frames<'a> {
    bytes: &'static mut [u8; FRAMES * PAGE],
    images: &'a [Vec<u8>],
    holds: usize,
}

/// Serves batches until the parent closes its pipe. Never returns.
///
/// # Safety
/// Call it only in a freshly forked child; `arena` is the shared mapping.
pub unsafe fn serve(arena: *mut Arena, images: &[Vec<u8>], input: i32, output: i32) -> ! {
    // SAFETY: the process has one thread and owns all that it maps; the arena is ours between two bytes of the pipes.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::munmap(LOWEST as *mut c_void, (INHERITED - LOWEST) as usize);
        let mut frames = Frames { bytes: map_frames(), images, holds: usize::MAX };
        install_handler();
        let mut byte = 0u8;
        while libc::read(input, addr_of_mut!(byte).cast(), 1) == 1 {
            let count = (*arena).count as usize;
            for slot in &mut (&mut (*arena).slots)[..count] {
                run(&mut frames, slot);
                (*arena).done.fetch_add(1, Ordering::Release);
            }
            if libc::write(output, addr_of_mut!(byte).cast(), 1) != 1 {
                break;
            }
        }
        libc::_exit(0)
    }
}

/// The lowest address that can be mapped, and the end of what a case's addresses reach by displacements alone. What the
/// parent has mapped there (its engine's code) a case could meet, where a guest has nothing.
const LOWEST: u64 = 0x1_0000;
const INHERITED: u64 = 1 << 31;

/// Most single steps of a run.
pub const STEPS: u64 = 10_000;

/// Runs one slot, once more in single steps if asked to, and puts the frames back.
unsafe fn run(frames: &mut Frames, slot: &mut Slot) {
    slot.steps = 0;
    if slot.stepping != 0 {
        frames.load(slot);
        let mut registers = slot.registers;
        registers.rflags |= 0x100;
        // SAFETY: as below.
        slot.steps = unsafe { entry::enter_stepping(&registers, STEPS) };
        frames.restore(slot);
    }
    frames.load(slot);
    // SAFETY: the handler is installed; whatever the case does to other memory is its own process's harm.
    let trap = unsafe {
        entry::enter(&slot.registers);
        &*addr_of_mut!(TRAP)
    };
    slot.vector = trap.vector;
    slot.error = if has_error_code(trap.vector) { trap.error } else { 0 };
    slot.cr2 = if trap.vector == 14 { trap.cr2 } else { 0 };
    if let Some(registers) = trap.registers {
        slot.result = registers;
    }
    slot.status = status::FAULT;
    frames.restore(slot);
}

impl Frames<'_> {
    /// Puts the slot's bytes in.
    fn load(&mut self, slot: &Slot) {
        self.prepare(slot.image as usize);
        for patch in &slot.patches[..slot.patch_count as usize] {
            self.bytes[patch.offset as usize..][..16].copy_from_slice(&patch.bytes);
        }
        let code = CODE_FRAME * PAGE + slot.code_start as usize;
        let length = slot.code_length as usize;
        self.bytes[code..][..length].copy_from_slice(&slot.code[..length]);
    }

    /// Notes the lines that have changed and puts them back.
    fn restore(&mut self, slot: &mut Slot) {
        let image = &self.images[slot.image as usize];
        slot.line_count = 0;
        for start in (0..FRAMES * PAGE).step_by(64) {
            let line: &mut [u8; 64] = (&mut self.bytes[start..start + 64]).try_into().expect("64 bytes");
            let mut initial = [0xcc; 64];
            if start < DATA_BYTES {
                initial.copy_from_slice(&image[start..start + 64]);
            }
            if *line == initial {
                continue;
            }
            if slot.line_count as usize == LINES {
                slot.status = status::TOO_MANY_LINES;
            } else {
                slot.lines[slot.line_count as usize] = crate::case::Line { offset: start as u32, bytes: *line };
                slot.line_count += 1;
            }
            *line = initial;
        }
    }

    /// Fills the frames with initial data, if they hold another's; every run leaves them as it found them.
    fn prepare(&mut self, image: usize) {
        if self.holds != image {
            self.bytes[..DATA_BYTES].copy_from_slice(&self.images[image]);
            self.bytes[DATA_BYTES..].fill(0xcc);
            self.holds = image;
        }
    }
}

/// Whether an exception pushes an error code (APM vol. 2 table 8-1).
fn has_error_code(vector: u32) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

/// Maps the frames once for us and at every address of the layout.
unsafe fn map_frames() -> &'static mut [u8; FRAMES * PAGE] {
    // SAFETY: MAP_FIXED_NOREPLACE never takes somebody else's pages; the rest is fresh.
    unsafe {
        let file = libc::memfd_create(c"oracle".as_ptr(), 0);
        require(file >= 0 && libc::ftruncate(file, (FRAMES * PAGE) as i64) == 0);
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
        let ours = libc::mmap(null_mut(), FRAMES * PAGE, both, shared, file, 0);
        require(ours != libc::MAP_FAILED);
        for page in PAGES {
            let protection = libc::PROT_READ
                | if page.writable { libc::PROT_WRITE } else { 0 }
                | if page.executable { libc::PROT_EXEC } else { 0 };
            let wanted = page.linear as *mut c_void;
            let flags = shared | libc::MAP_FIXED_NOREPLACE;
            require(libc::mmap(wanted, PAGE, protection, flags, file, (page.frame * PAGE) as i64) == wanted);
        }
        &mut *ours.cast()
    }
}

/// Installs the handler on a stack of its own.
unsafe fn install_handler() {
    const STACK: usize = 1 << 16;
    // SAFETY: a fresh mapping for the stack; a handler with the right signature.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let memory = libc::mmap(null_mut(), STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        require(memory != libc::MAP_FAILED);
        let stack = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: STACK };
        require(libc::sigaltstack(&stack, null_mut()) == 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = entry::handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
            require(libc::sigaction(signal, &action, null_mut()) == 0);
        }
    }
}

/// Ends the child if what it needs is not there; the parent reports that it is gone.
unsafe fn require(condition: bool) {
    if !condition {
        // SAFETY: ends the process at once, running nothing of the parent's.
        unsafe { libc::_exit(102) }
    }
}
