//! New, empty disks.

use std::fs::OpenOptions;
use std::path::Path;

use imago::FormatCreateBuilder;
use imago::qcow2::Qcow2;

use super::{Disk, Format, ImageError, Options, open};

/// Makes an empty disk in a new file; `backing` is an image that it builds on, as its own folder sees it, with its format.
///
/// # Errors
/// The file exists, the size is no disk's, the format cannot be written, or what the system says. No file is left then.
pub fn create(path: &Path, bytes: u64, format: Format, backing: Option<(&str, Format)>) -> Result<(), ImageError> {
    if bytes == 0 || !bytes.is_multiple_of(512) || bytes > 1 << 50 {
        let text = format!("{bytes} bytes are no disk's size: a multiple of 512 is, up to 1024T");
        return Err(ImageError::Size(text));
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    let file = file.map_err(ImageError::io(path, "make"))?;
    let made = match format {
        Format::Raw if backing.is_none() => file.set_len(bytes).map_err(ImageError::io(path, "make")),
        Format::Qcow2 => open::storage(file, path, true).and_then(|storage| {
            let mut create = Qcow2::<imago::file::File>::create_builder(storage).size(bytes);
            if let Some((name, format)) = backing {
                create = create.backing(name.to_owned(), format.to_string());
            }
            create.create().map_err(ImageError::io(path, "make"))
        }),
        _ => Err(ImageError::Unsupported {
            path: path.to_owned(),
            reason: format!(
                "{format} disks are not made here; raw and qcow2 ones are, the latter on a backing file too"
            ),
        }),
    };
    // What was just made is looked at as any image is: its backing file must be there.
    let looked =
        made.and_then(|()| Disk::open(path, &Options { format: Some(format), ..Options::default() }).map(drop));
    if looked.is_err() {
        let _ = std::fs::remove_file(path);
    }
    looked
}
