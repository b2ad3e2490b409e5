//! `ftemu run --attribution`: where the guest's thread spends its time, printed at the end and on SIGUSR1.
//!
//! A timer of the thread's own CPU time interrupts it a thousand times a second; the handler notes where it was
//! ([`sampler`]). For the report, addresses become names by the program's own symbol table ([`symbols`]), and names become
//! parts of the engine ([`parts`]). The guest cannot notice: nothing of its state is read or written, and what it does
//! depends on no host time. Without the option there is no timer, and nothing is counted but by the engine itself.

mod parts;
mod sampler;
mod symbols;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ftemu_cpu::Tally;

use parts::Part;
use symbols::Symbols;

/// How many functions the report names.
const NAMED: usize = 15;

static WANTED: AtomicBool = AtomicBool::new(false);
static STARTED: Mutex<Option<Instant>> = Mutex::new(None);
static TALLY: Mutex<Option<Tally>> = Mutex::new(None);

/// From now on the guest's thread is watched.
pub fn want() {
    *STARTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    WANTED.store(true, Ordering::Relaxed);
}

/// Whether somebody wants to know.
pub fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// The calling thread is the guest's. Without a timer the report says so.
pub fn watch_this_thread() {
    if is_wanted() {
        sampler::start();
    }
}

/// What the engine has counted so far.
pub fn counted(tally: impl FnOnce() -> Option<Tally>) {
    if is_wanted() {
        *TALLY.lock().unwrap_or_else(PoisonError::into_inner) = tally();
    }
}

/// Prints the report on SIGUSR1, until the program ends.
pub async fn on_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut signals) = signal(SignalKind::user_defined1()) else { return };
    while signals.recv().await.is_some() {
        eprint!("{}", report());
    }
}

/// What is known so far, for people.
pub fn report() -> String {
    let started = *STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let wall = started.map_or(Duration::ZERO, |started| started.elapsed());
    let samples = sampler::samples();
    let mut text = String::new();
    let all = samples.all();
    let busy = sampler::INTERVAL * u32::try_from(all).unwrap_or(u32::MAX);
    let _ = writeln!(
        text,
        "attribution: {:.1} s, of which the guest's thread was at work {:.1} s ({all} samples)",
        wall.as_secs_f64(),
        busy.as_secs_f64()
    );
    let (parts, functions) = attribute(&samples);
    for (part, count) in parts {
        let _ = writeln!(text, "  {:<36} {:6.2} %", part.name(), share(count, all));
    }
    let _ = writeln!(
        text,
        "  of all the time, asleep {:20.2} %",
        100.0 * (1.0 - busy.as_secs_f64() / wall.as_secs_f64().max(1e-9)).max(0.0)
    );
    for (name, count) in functions.iter().take(NAMED) {
        let _ = writeln!(text, "    {:6.2} %  {name}", share(*count, all));
    }
    let tally = *TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    text.push_str(&tally.map(counts).unwrap_or_default());
    text
}

fn share(count: u64, all: u64) -> f64 {
    100.0 * count as f64 / all.max(1) as f64
}

type Shares = (Vec<(Part, u64)>, Vec<(String, u64)>);

/// Parts in the order of the table, and functions by their samples.
fn attribute(samples: &sampler::Samples) -> Shares {
    let symbols = Symbols::of_this_program();
    let mut parts = BTreeMap::from([(Part::Translated, samples.translated), (Part::Kernel, samples.kernel)]);
    let mut functions: BTreeMap<String, u64> = BTreeMap::new();
    for &(address, count) in &samples.addresses {
        let name = symbols.name(address);
        *parts.entry(Part::of(name)).or_default() += count;
        *functions.entry(symbols::readable(name.unwrap_or("(another library)"))).or_default() += count;
    }
    let mut functions: Vec<(String, u64)> = functions.into_iter().collect();
    functions.sort_by_key(|(name, count)| (u64::MAX - count, name.clone()));
    (parts.into_iter().collect(), functions)
}

fn counts(tally: Tally) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Tally {
        blocks,
        kept_blocks,
        kept_bytes,
        known_bytes,
        room_bytes,
        evictions,
        chains,
        behind,
        lookups,
        jump_hits,
        walks,
        raised,
        isolated,
    } = tally;
    format!(
        "  blocks: {blocks} translated, {kept_blocks} kept; code cache {:.1} of {:.0} MiB and {:.1} MiB about it, a part forgotten {evictions} times\n\
         \x20 chains: {chains} jumps led from block to block, {behind} blocks put behind the one that leads there; dispatcher: {lookups} lookups, {:.1} % by the jump cache\n\
         \x20 memory: {walks} walks of the guest's tables; {raised} exceptions and interrupts; {isolated} instructions run alone\n",
        mib(kept_bytes),
        mib(room_bytes),
        mib(known_bytes),
        share(jump_hits, lookups),
    )
}
