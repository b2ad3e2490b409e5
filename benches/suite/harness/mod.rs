//! The benchmark itself, used by `cargo bench --bench suite` and, in its tiny form, by a test.

pub mod arguments;
mod console;
pub mod contender;
#[allow(dead_code, reason = "shared with the benchmark of pairs, which uses other parts")]
pub mod host;
pub mod report;
pub mod samples;
pub mod stage;
mod tree;
pub mod workloads;

use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};

use arguments::Arguments;
use contender::{Contender, Running, Start};
use samples::Samples;
use stage::Stage;
use workloads::Workload;

/// Boots everybody once, and lets them take turns: each workload by each, then all of it again, so that a change of the
/// host's mood meets them all. The boots are measured as often.
pub fn measure(arguments: &Arguments, stage: &Stage, start: &Start, members: &[&'static Workload]) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut running = Vec::new();
    let boots: Vec<&'static Workload> = members.iter().copied().filter(|workload| workload.is_boot()).collect();
    let last = if boots.is_empty() { 1 } else { arguments.repeats };
    for boot in 1..=last {
        for &contender in &arguments.contenders {
            eprintln!("{}: boot {boot}", contender.name());
            let mut guest =
                Running::start(contender, stage, start).with_context(|| format!("starting {}", contender.name()))?;
            for workload in boots.iter().filter(|_| contender != Contender::Native) {
                samples.add(workload, contender, guest.measure(workload, 0, &mut |_| {})?)?;
            }
            if boot == last {
                running.push(guest);
            }
        }
    }
    for repeat in 1..=arguments.repeats {
        for workload in members.iter().filter(|workload| !workload.is_boot()) {
            for guest in &mut running {
                one(arguments, &mut samples, workload, guest)
                    .with_context(|| format!("{} by {}, repeat {repeat}", workload.name, guest.contender.name()))?;
            }
        }
    }
    for guest in running.iter().filter(|guest| guest.contender != Contender::Native) {
        samples.peak_kib.insert(guest.contender, guest.peak_kib());
    }
    Ok(samples)
}

fn one(arguments: &Arguments, samples: &mut Samples, workload: &Workload, guest: &mut Running) -> Result<()> {
    let size = if arguments.tiny { workload.tiny } else { workload.size };
    let mut perf = None;
    let folder = arguments.perf.as_deref().filter(|_| guest.contender == Contender::Ftemu);
    let measured = guest.measure(workload, size, &mut |process| {
        perf = folder.and_then(|folder| record(folder, workload.name, process));
    })?;
    if let Some(mut perf) = perf {
        // perf writes its file when the interrupt key would have ended it.
        rustix::process::kill_process(rustix::process::Pid::from_child(&perf), rustix::process::Signal::INT)?;
        perf.wait()?;
    }
    let (name, seconds, cpu) = (guest.contender.name(), measured.seconds, measured.cpu);
    eprintln!("{:>10} {name:<10} {seconds:8.3} s, {cpu:8.3} s of CPU", workload.name);
    samples.add(workload, guest.contender, measured)
}

fn record(folder: &Path, name: &str, process: u32) -> Option<Child> {
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", "999", "-o"]).arg(folder.join(format!("{name}.data")));
    command.arg("-p").arg(process.to_string()).spawn().ok()
}
