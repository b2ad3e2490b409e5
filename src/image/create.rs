//! `ftemu image create`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use ftemu_images::{Format, disk, import};

use super::{CreateArguments, format_for};
use crate::units::show_bytes;

pub(super) fn create(arguments: &CreateArguments) -> Result<ExitCode> {
    let path = &arguments.image;
    let below = match &arguments.backing {
        Some(backing) => Some((backing, import::summary(backing)?)),
        None => None,
    };
    let format = match (arguments.format, &below) {
        (None, Some(_)) => Format::Qcow2,
        (told, _) => format_for(path, told)?,
    };
    let bytes = arguments.size.or(below.as_ref().map(|(_, summary)| summary.bytes)).context("--size is missing")?;
    let backing = match &below {
        Some((backing, summary)) => {
            ensure!(format == Format::Qcow2, "only qcow2 images can build on another image");
            ensure!(summary.format.runs(), "{} must be imported first: ftemu image import", backing.display());
            Some((name_from(path, backing)?, summary.format))
        }
        None => None,
    };
    disk::create(path, bytes, format, backing.as_ref().map(|(name, format)| (name.as_str(), *format)))?;
    println!("{}: {format}, {}", path.display(), show_bytes(bytes));
    Ok(ExitCode::SUCCESS)
}

/// The backing image's name as the new image's folder sees it.
fn name_from(image: &Path, backing: &Path) -> Result<String> {
    let whole = |path: &Path| std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()));
    let folder = image.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (folder, backing) = (whole(folder)?, whole(backing)?);
    let name = backing.strip_prefix(&folder).unwrap_or(&backing);
    name.to_str().map(str::to_owned).with_context(|| format!("{} is not a name that qcow2 can hold", name.display()))
}
