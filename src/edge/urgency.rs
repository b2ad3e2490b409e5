//! The thread of the link comes first: it only ever runs for microseconds, and the other server waits for it.
//!
//! On a host that is busy (with the guest, if nothing else) a thread that wakes up may wait for milliseconds until it
//! runs. Two things help, sched_setattr(2) asks for both: a short time slice, which Linux since 6.12 grants anybody and
//! lets preempt longer ones; and a better nice value, for which CAP_SYS_NICE or RLIMIT_NICE is needed. Without either the
//! link works as well on an idle host.
#![allow(unsafe_code)]

/// The nice value asked for.
const NICE: i32 = -15;
/// The time slice asked for: the least that the kernel grants.
const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of sched_setattr(2), in its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// What was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The time slice. Kernels before 6.12 take it and do nothing with it.
    pub slice: bool,
    /// The nice value.
    pub nice: bool,
}

/// Asks for urgency for the calling thread.
pub fn raise() -> Granted {
    let inherited = nice();
    let better = set(NICE.min(inherited));
    Granted { slice: better || set(inherited), nice: better }
}

/// The nice value that the thread has already.
fn nice() -> i32 {
    // SAFETY: getpriority(2) takes numbers and touches no memory; 0 is the calling thread.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

fn set(nice: i32) -> bool {
    let size = size_of::<Attributes>();
    let attributes =
        Attributes { size: u32::try_from(size).unwrap_or(0), nice, runtime: SLICE_NS, ..Attributes::default() };
    // SAFETY: the kernel reads `size` bytes of a structure that lives as long as the call; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_denied_a_short_slice() {
        let granted = std::thread::spawn(raise).join().unwrap();
        assert!(granted.slice || !granted.nice, "{granted:?}");
    }
}
