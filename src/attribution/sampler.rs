//! Interrupts the guest's thread a thousand times in each second of CPU time that it uses, and counts where it was.
//!
//! timer_create(2) with `SIGEV_THREAD_ID` and the thread's CPU clock: a thread that sleeps is not woken. The handler only
//! adds to counters; it runs on the signal stack that the engine gives its thread.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{mem, ptr};

/// CPU time from one sample to the next.
pub(super) const INTERVAL: Duration = Duration::from_millis(1);
/// Distinct addresses that can be told apart; further ones are counted as the library's.
const SLOTS: usize = 1 << 14;
/// How far from its place an address is looked for.
const PROBES: usize = 16;
/// SYSCALL, which an address in the kernel's service stands behind.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// `si_overrun` of a timer's siginfo_t, in words of 32 bits (sigaction(2) gives the fields, the kernel's UAPI the place).
const OVERRUN: usize = 5;

static ADDRESSES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static COUNTS: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static TRANSLATED: AtomicU64 = AtomicU64::new(0);
static KERNEL: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);
/// Where code of files is mapped; all other code is translated.
static FILES: OnceLock<Vec<(u64, u64)>> = OnceLock::new();

/// What has been counted.
pub(super) struct Samples {
    /// In translated code.
    pub(super) translated: u64,
    /// In system calls.
    pub(super) kernel: u64,
    /// In the program and its libraries.
    pub(super) addresses: Vec<(u64, u64)>,
}

impl Samples {
    /// All of them.
    pub(super) fn all(&self) -> u64 {
        self.translated + self.kernel + self.addresses.iter().map(|(_, count)| count).sum::<u64>()
    }
}

/// What has been counted so far.
pub(super) fn samples() -> Samples {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut addresses: Vec<(u64, u64)> =
        ADDRESSES.iter().zip(&COUNTS).map(|(address, count)| (load(address), load(count))).collect();
    addresses.retain(|(_, count)| *count > 0);
    addresses.push((0, load(&OTHERS)));
    Samples { translated: load(&TRANSLATED), kernel: load(&KERNEL), addresses }
}

/// Starts the timer of the calling thread. Without one nothing is counted.
pub(super) fn start() {
    FILES.get_or_init(files);
    // SAFETY: the structures live as long as the calls; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &action, ptr::null_mut());
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = ptr::null_mut();
        if libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut timer) == 0 {
            let interval = libc::timespec { tv_sec: 0, tv_nsec: INTERVAL.subsec_nanos().into() };
            let times = libc::itimerspec { it_interval: interval, it_value: interval };
            libc::timer_settime(timer, 0, &times, ptr::null_mut());
        }
    }
}

/// Executable mappings of files: proc(5), `maps`.
fn files() -> Vec<(u64, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = maps.lines().filter(|line| line.contains(" r-xp ") && (line.contains('/') || line.contains("[vdso]")));
    let range = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    code.filter_map(range).collect()
}

extern "C" fn handler(_: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid structures. A late timer has missed as many intervals as it says.
    let (address, missed) = unsafe {
        let registers = &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        (registers[libc::REG_RIP as usize] as u64, *information.cast::<i32>().add(OVERRUN))
    };
    let intervals = 1 + u64::try_from(missed).unwrap_or(0);
    let Some(&(start, _)) =
        FILES.get().and_then(|files| files.iter().find(|(start, end)| (*start..*end).contains(&address)))
    else {
        TRANSLATED.fetch_add(intervals, Ordering::Relaxed);
        return;
    };
    // SAFETY: two bytes of mapped code before an address inside of it.
    if address - start >= 2 && unsafe { ptr::read((address - 2) as *const [u8; 2]) } == SYSCALL {
        KERNEL.fetch_add(intervals, Ordering::Relaxed);
    } else {
        count(address, intervals);
    }
}

fn count(address: u64, intervals: u64) {
    let place = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as usize;
    for slot in (place..place + PROBES).map(|slot| slot % SLOTS) {
        let found = ADDRESSES[slot].compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed);
        if found.is_ok() || found == Err(address) {
            COUNTS[slot].fetch_add(intervals, Ordering::Relaxed);
            return;
        }
    }
    OTHERS.fetch_add(intervals, Ordering::Relaxed);
}
