//! `ftemu image import`.

use std::process::ExitCode;

use anyhow::Result;
use ftemu_images::import;

use super::{ImportArguments, format_for, progress};
use crate::units::show_bytes;

pub(super) fn import(arguments: &ImportArguments) -> Result<ExitCode> {
    let format = format_for(&arguments.to, arguments.format)?;
    let bar = progress::bar("importing");
    let converted =
        import::convert(&arguments.from, &arguments.to, format, &mut |done, all| progress::show(&bar, done, all));
    bar.finish_and_clear();
    let summary = converted?;
    println!(
        "{}: {format}, {}, from {} ({})",
        arguments.to.display(),
        show_bytes(summary.bytes),
        arguments.from.display(),
        summary.format
    );
    Ok(ExitCode::SUCCESS)
}
