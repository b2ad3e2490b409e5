//! `ftemu image check`.

use std::process::ExitCode;

use anyhow::{Error, Result, anyhow};
use ftemu_images::{Disk, Format, ImageError, Options, import, qcow2};

use super::{CheckArguments, progress};

/// The disk's contents are in danger.
const CORRUPT: u8 = 2;
/// Space is lost.
const LEAKS: u8 = 3;

pub(super) fn check(arguments: &CheckArguments) -> Result<ExitCode> {
    let path = &arguments.image;
    let shown = path.display();
    let format = import::summary(path).map_err(plainly)?.format;
    let reader = Options { read_only: true, ..Options::default() };
    if format != Format::Qcow2 {
        if format.runs() {
            Disk::open(path, &reader)?;
        }
        println!("{shown}: {format} has no reference counts; its header and tables are right");
        return Ok(ExitCode::SUCCESS);
    }
    let bar = progress::bar("checking");
    let report = qcow2::check(path, &mut |done, all| progress::show(&bar, done, all));
    bar.finish_and_clear();
    let report = report.map_err(plainly)?;
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
    // Clean counts, and yet it may not open: a backing file that is gone, say.
    Disk::open(path, &reader).map_err(plainly)?;
    println!("no errors");
    Ok(ExitCode::SUCCESS)
}

/// An error without the advice to make this check.
fn plainly(error: ImageError) -> Error {
    match error {
        ImageError::Damaged { path, format, reason } => anyhow!(
            "{}: the {format} image is damaged: {reason}; copy it again from where it came from, or repair a copy of it",
            path.display()
        ),
        other => other.into(),
    }
}
