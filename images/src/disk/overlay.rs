//! The overlay of `--snapshot`: a qcow2 file without a name, so that it is gone however the process ends.

use std::path::PathBuf;

use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder};

use super::{Disk, ImageError, Options, open};

/// Puts an empty overlay over an open disk.
pub(super) fn over(base: Disk, options: &Options) -> Result<Disk, ImageError> {
    let folder = options.scratch.clone().unwrap_or_else(scratch);
    let file = tempfile::tempfile_in(&folder).map_err(ImageError::io(&folder, "make a temporary file"))?;
    let written = file.try_clone().map_err(ImageError::io(&folder, "make a temporary file"))?;
    let storage = open::storage(file, &folder, true)?;
    let bytes = base.bytes;
    let Disk { access: below, format, locks, .. } = base;
    let create = Qcow2::<imago::file::File>::create_builder(storage).size(bytes);
    // The name in the header is never followed: the base is handed over open.
    let create = create.backing("base".to_owned(), "raw".to_owned());
    let overlay = create
        .create_open(DenyImplicitOpenGate::default(), |image| {
            Ok(Qcow2::builder(image).backing(Some(below)).write(true))
        })
        .map_err(ImageError::io(&folder, "make an overlay"))?;
    let access = FormatAccess::new(overlay);
    Ok(Disk { access, written, path: folder, format, bytes, read_only: false, guarded: false, locks })
}

/// A folder on a real disk, if there is one: overlays grow.
fn scratch() -> PathBuf {
    if let Some(folder) = std::env::var_os("TMPDIR").filter(|value| !value.is_empty()) {
        return folder.into();
    }
    let folder = PathBuf::from("/var/tmp");
    if folder.is_dir() { folder } else { std::env::temp_dir() }
}
