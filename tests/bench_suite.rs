//! The benchmark itself does not rot: every workload that needs no Debian disk runs in its tiny form, by everybody who is
//! here, and all compute the same.

#[path = "../benches/suite/harness/mod.rs"]
#[allow(dead_code, reason = "the benchmark uses more of it")]
mod harness;

use std::process::Command;

use harness::arguments::Arguments;
use harness::contender::{Contender, Start};
use harness::report::{self, About};
use harness::samples::Clock;
use harness::stage::Stage;
use harness::{measure, workloads};

#[test]
fn the_tiny_benchmark_measures_every_contender_and_all_agree() {
    let words = ["--tiny".to_owned()];
    let mut arguments = Arguments::parse(words.into_iter()).expect("right words").expect("no question for help");
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output().is_ok_and(|output| output.status.success());
    arguments.contenders.retain(|contender| qemu || matches!(contender, Contender::Native | Contender::Ftemu));
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::tiny(folder.path()).expect("the tiny guest's files");
    let start = Start { program: env!("CARGO_BIN_EXE_ftemu").into(), options: vec!["--attribution".to_owned()] };
    let mut members = workloads::select(&[]).expect("all workloads");
    members.retain(|workload| workload.is_everywhere());
    assert!(members.len() >= 12, "{} workloads are tiny", members.len());

    let samples = measure(&arguments, &stage, &start, &members).expect("everybody computes the same");

    let about = About { arguments: Vec::new(), guest: stage.about, build: String::new(), load: String::new() };
    let table = report::markdown(&about, &samples, &members, Clock::Wall);
    let json = report::json(&about, &samples, &members);
    let runs = json["runs"].as_array().expect("a list of runs");
    let boots = members.iter().filter(|workload| workload.is_boot()).count();
    assert_eq!(runs.len(), members.len() * arguments.contenders.len() - boots, "{json:#}");
    for workload in &members {
        assert!(table.contains(&format!("\n| {} |", workload.name)), "{table}");
    }
}

#[test]
fn unknown_words_and_workloads_are_refused() {
    assert!(Arguments::parse(["--fast".to_owned()].into_iter()).is_err());
    assert!(Arguments::parse(["--help".to_owned()].into_iter()).is_ok_and(|arguments| arguments.is_none()));
    assert!(workloads::select(&["sort".to_owned(), "nothing".to_owned()]).is_err());
    assert_eq!(workloads::select(&["sort".to_owned()]).expect("it is known").len(), 1);
}
