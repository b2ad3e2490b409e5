//! `ftemu image check`.

use std::process::ExitCode;

use anyhow::Result;
use ftemu_images::{Disk, Format, Options, import, qcow2};

use super::{CheckArguments, progress};

/// The disk's contents are in danger.
const CORRUPT: u8 = 2;
/// Space is lost.
const LEAKS: u8 = 3;

pub(super) fn check(arguments: &CheckArguments) -> Result<ExitCode> {
    let path = &arguments.image;
    let shown = path.display();
    let format = import::summary(path).map_or(Format::Qcow2, |summary| summary.format);
    // Tables first, as for a guest.
    let opened = if format.runs() {
        Disk::open(path, &Options { read_only: true, ..Options::default() }).map(drop)
    } else {
        import::summary(path).map(drop)
    };
    if format != Format::Qcow2 || qcow2::header(path).is_err() {
        opened?;
        println!("{shown}: {format} has no reference counts; its header and tables are right");
        return Ok(ExitCode::SUCCESS);
    }
    let bar = progress::bar("checking");
    let report = qcow2::check(path, &mut |done, all| progress::show(&bar, done, all));
    bar.finish_and_clear();
    let report = report?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("{shown}: {} of {} clusters in use, {} compressed", report.allocated, report.clusters, report.compressed);
    if report.corruptions > 0 {
        println!(
            "{} errors endanger the contents; `qemu-img check -r all` may repair a copy of it",
            report.corruptions
        );
        return Ok(ExitCode::from(CORRUPT));
    }
    if report.leaks > 0 {
        println!(
            "{} clusters are lost, the contents are fine; `ftemu image import` makes a copy without them",
            report.leaks
        );
        return Ok(ExitCode::from(LEAKS));
    }
    // Clean counts, and yet it did not open: a backing file that is gone, say.
    opened?;
    println!("no errors");
    Ok(ExitCode::SUCCESS)
}
