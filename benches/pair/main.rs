//! What protection costs and what it gives, measured: `cargo bench --bench pair`.
//!
//! * the integer mix in a Debian guest, alone, beside an unprotected twin, and protected, taking turns; the link's use and
//!   memory. A twin shares caches, memory and the host with the guest just as the other half of a pair does here, and as it does not
//!   where each has a server: what is left between twin and pair is what protection itself costs.
//! * the link's use and the processor's while the guest is idle, with and without a timer that ticks 250 times a second
//! * how long an output waits: a byte typed on the console, until its echo is seen, alone and protected; and, as the
//!   server itself measures it, from the instruction that made an output until it may leave, against the round trip
//! * failover after the death of the primary's process, and after its silence, as `ftemu demo` measures them
//!
//! Arguments: `--repeats N` (of the mix, default 3), `--rounds N` (of the demonstration, default 20). On two cores
//! both guests of a pair share what an unprotected guest has alone; the figures say so by naming the host.

#[path = "../suite/harness/host.rs"]
#[allow(dead_code, reason = "shared with the benchmark of guests, which uses other parts")]
mod host;
#[path = "../guests/marks.rs"]
#[allow(dead_code, reason = "as above")]
mod marks;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ftemu_images::{Catalogue, Guest, debian, tiny};
use marks::{Marks, PROGRAMS};
use serde_json::{Value, json};
use server::{Alone, Protected, Served};

/// How many bytes are typed to measure latency.
const ECHOES: usize = 300;
/// How long an idle guest is watched.
const IDLE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let (mut repeats, mut rounds) = (3, 20);
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let number = words.next().and_then(|text| text.parse().ok());
        match (word.as_str(), number) {
            ("--repeats", Some(number)) => repeats = number,
            ("--rounds", Some(number)) => rounds = number,
            _ => anyhow::bail!("{word}: known are --repeats N and --rounds N"),
        }
    }
    let folder = tempfile::Builder::new().prefix("ftemu-bench-").tempdir()?;
    let mut results = vec![("host", json!({ "date": host::date(), "cpu": host::cpu(), "load": host::load() }))];
    println!("date {}; host {}; load {}", host::date(), host::cpu(), host::load());
    results.push(("mix", mix(folder.path(), repeats)?));
    results.push(("idle", idle(folder.path())?));
    results.push(("latency", latency(folder.path())?));
    for (name, silence) in [("death", false), ("silence", true)] {
        results.push((name, failover(folder.path(), rounds, silence)?));
    }
    let results: serde_json::Map<String, Value> =
        results.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results").join(format!("pair-{}.json", host::date()));
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(&path, serde_json::to_string_pretty(&results)?)?;
    println!("written to {}", path.display());
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

/// Seconds for the mix, alone, beside a twin, and protected.
fn mix(folder: &Path, repeats: usize) -> Result<Value> {
    let guest = Catalogue::user()?.debian(debian::Mode::Bench, &mut |progress| eprintln!("{progress:?}"))?;
    let (mut alone, mut beside, mut protected, mut link) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut peaks = [0; 2];
    for _ in 0..repeats {
        alone.push(mix_seconds(&mut Alone::start(folder, &guest, "alone")?)?.0);
        let (mut measured, _twin) = (Alone::start(folder, &guest, "alone")?, Alone::start(folder, &guest, "twin")?);
        beside.push(mix_seconds(&mut measured)?.0);
        let mut pair = Protected::start(folder, &guest)?;
        let (seconds, peaks_now) = mix_seconds(&mut pair)?;
        protected.push(seconds);
        link.push(pair.link_mbits());
        peaks.iter_mut().zip(peaks_now).for_each(|(peak, now)| *peak = now.max(*peak));
    }
    let link = median(&mut link);
    let (alone_s, beside_s, protected_s) = (median(&mut alone), median(&mut beside), median(&mut protected));
    // The lists are sorted now. The least is what others on this host disturbed least.
    let least = |times: &[f64]| times.first().copied().unwrap_or(f64::NAN);
    let percent = |more: f64, less: f64| (more / less - 1.0) * 100.0;
    let (cost, least_cost) = (percent(protected_s, alone_s), percent(least(&protected), least(&alone)));
    let (own, least_own) = (percent(protected_s, beside_s), percent(least(&protected), least(&beside)));
    println!("the mix: {alone_s:.2} s alone, {beside_s:.2} s beside a twin, {protected_s:.2} s protected");
    println!("         protected {cost:.1} % longer than alone, {own:.1} % longer than beside a twin");
    println!("         by the shortest of {repeats} runs each: {least_cost:.1} % and {least_own:.1} %");
    println!("link, busy: {link:.3} Mbit/s; memory of a guest of 512 MiB: {} MiB, {} MiB at most", peaks[0], peaks[1]);
    Ok(json!({
        "alone_s": alone_s, "beside_a_twin_s": beside_s, "protected_s": protected_s,
        "alone_all_s": alone, "beside_a_twin_all_s": beside, "protected_all_s": protected,
        "cost_percent": cost, "least_cost_percent": least_cost,
        "over_twin_percent": own, "least_over_twin_percent": least_own,
        "busy_link_mbits": link, "primary_peak_mib": peaks[0], "standby_peak_mib": peaks[1]
    }))
}

/// How long the mix took, and what memory each server has needed.
fn mix_seconds(served: &mut impl Served) -> Result<(f64, Vec<u64>)> {
    let console = served.console().stdout.take().context("the console's output is piped")?;
    let servers = served.servers();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // Of a process that has ended, nothing can be read any more.
    let watch = std::thread::spawn(move || {
        let mut peaks = vec![0; servers.len()];
        while stopped.recv_timeout(Duration::from_millis(50)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            peaks.iter_mut().zip(&servers).for_each(|(peak, server)| *peak = server::peak_mib(*server).max(*peak));
        }
        peaks
    });
    let marks = Marks::read(console, Instant::now(), None)?;
    drop(stop);
    let peaks = watch.join().ok().context("the watch over memory")?;
    let times: Result<Vec<Duration>> = PROGRAMS.iter().map(|name| Ok(marks.program(name)?.0)).collect();
    Ok((times?.iter().sum::<Duration>().as_secs_f64(), peaks))
}

/// What a guest that sits in HLT costs: a tiny guest, Linux at a shell's prompt, and Linux whose timer always ticks.
fn idle(folder: &Path) -> Result<Value> {
    let linux = Catalogue::user()?.debian(debian::Mode::Shell, &mut |_| {})?;
    let mut ticking = linux.clone();
    ticking.command_line += " nohz=off highres=off";
    let mut results = serde_json::Map::new();
    for (name, guest, ready) in [
        ("tiny", tiny::echo(), "ftemu-mark echo"),
        ("linux", linux, "ftemu-mark init"),
        ("ticking", ticking, "ftemu-mark init"),
    ] {
        let (link, cores) = idle_use(folder, &guest, ready)?;
        let [primary, standby] = cores;
        println!("idle, {name}: link {link:.3} Mbit/s, {primary:.2} % and {standby:.2} % of a core");
        let value = json!({ "link_mbits": link, "primary_core_percent": primary, "standby_core_percent": standby });
        results.insert(name.into(), value);
    }
    Ok(Value::Object(results))
}

fn idle_use(folder: &Path, guest: &Guest, ready: &str) -> Result<(f64, [f64; 2])> {
    let mut pair = Protected::start(folder, guest)?;
    server::wait_for(pair.console(), ready)?;
    // What the start still causes shall be over.
    std::thread::sleep(IDLE / 5);
    let (from, servers) = (host::unix_ns(), pair.servers());
    let before: Vec<f64> = servers.iter().map(|server| server::cpu_seconds(*server)).collect();
    std::thread::sleep(IDLE);
    let used = |place: usize| {
        let (server, before) = (servers.get(place).copied().unwrap_or(0), before.get(place).copied().unwrap_or(0.0));
        (server::cpu_seconds(server) - before) / IDLE.as_secs_f64() * 100.0
    };
    Ok((pair.link_mbits_since(from), [used(0), used(1)]))
}

/// Microseconds from a byte typed to its echo.
fn latency(folder: &Path) -> Result<Value> {
    let mut lone = Alone::start(folder, &tiny::echo(), "alone")?;
    let mut alone = echoes(&mut lone)?;
    let waited_alone = lone.status();
    drop(lone);
    let mut pair = Protected::start(folder, &tiny::echo())?;
    let mut protected = echoes(&mut pair)?;
    let waited = pair.status();
    let late = |status: &Value| status["output_wait_us"]["p99"].as_f64().unwrap_or(f64::NAN);
    let round_trip = waited["round_trip_us"].as_f64().unwrap_or(f64::NAN);
    let added = late(&waited) - late(&waited_alone);
    println!(
        "an output waits (99 %): {:.0} us alone, {:.0} us protected: {added:.0} us more; round trip {round_trip:.0} us",
        late(&waited_alone),
        late(&waited)
    );
    let (middle_alone, middle_protected) = (median(&mut alone), median(&mut protected));
    let (late_alone, late_protected) = (percentile(&alone, 95), percentile(&protected, 95));
    println!("echo of a byte: {middle_alone:.0} us alone, {middle_protected:.0} us protected (median of {ECHOES})");
    println!("                {late_alone:.0} us alone, {late_protected:.0} us protected (95 %)");
    Ok(json!({
        "output_wait_alone_us": waited_alone["output_wait_us"], "output_wait_us": waited["output_wait_us"],
        "round_trip_us": round_trip, "added_99_us": added,
        "alone_us": middle_alone, "protected_us": middle_protected, "alone_95_us": late_alone, "protected_95_us": late_protected
    }))
}

fn echoes(served: &mut impl Served) -> Result<Vec<f64>> {
    server::wait_for(served.console(), "ftemu-mark echo\r\n")?;
    let times = (0..ECHOES).map(|_| server::echo(served.console()).map(|time| time.as_secs_f64() * 1e6)).collect();
    // The next status has them all.
    std::thread::sleep(server::STATUS_INTERVAL * 2);
    times
}

/// What the demonstration measures over some rounds with the tiny guest.
fn failover(folder: &Path, rounds: usize, silence: bool) -> Result<Value> {
    let path = folder.join("figures");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ftemu"));
    command.args([
        "demo",
        "--quiet",
        "--guest",
        "tiny",
        "--lines",
        "60",
        "--seed",
        "1",
        "--rounds",
        &rounds.to_string(),
    ]);
    command.arg("--figures").arg(&path).args(silence.then_some("--silence")).stdout(std::process::Stdio::null());
    ensure!(command.status()?.success(), "the demonstration did not hold");
    let text = std::fs::read_to_string(&path)?;
    let figures: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |field: &str| -> Vec<f64> { figures.iter().filter_map(|round| round.get(field)?.as_f64()).collect() };
    let (mut detection, mut failover) = (of("detection_ms"), of("failover_ms"));
    let (middle_detection, middle_failover) = (median(&mut detection), median(&mut failover));
    let worst = failover.last().copied().unwrap_or(f64::NAN);
    let cause = if silence { "silence" } else { "death" };
    println!(
        "after {cause}: detection {middle_detection:.1} ms, failover {middle_failover:.1} ms, worst {worst:.1} ms ({rounds} rounds)"
    );
    Ok(json!({ "rounds": rounds, "detection_ms": middle_detection, "failover_ms": middle_failover, "worst_ms": worst }))
}
