//! What is wrong with an image, as a parser sees it: without the image's name.

use std::io;
use std::path::Path;

use super::{Format, ImageError};

/// What is wrong with an image.
#[derive(Debug)]
pub(crate) enum Fault {
    Truncated(String),
    Damaged(String),
    Unsupported(String),
    Io(io::Error),
}

impl Fault {
    /// The error to show for the image at `path`.
    pub(crate) fn of(self, path: &Path, format: Format) -> ImageError {
        let path = path.to_owned();
        match self {
            Self::Truncated(reason) => ImageError::Truncated { path, reason },
            Self::Damaged(reason) => ImageError::Damaged { path, format, reason },
            Self::Unsupported(reason) => ImageError::Unsupported { path, reason },
            Self::Io(error) => ImageError::io(&path, "read")(error),
        }
    }
}

/// A shorthand for [`Fault::Damaged`].
pub(crate) fn damaged<T>(reason: &str) -> Result<T, Fault> {
    Err(Fault::Damaged(reason.to_owned()))
}

/// A shorthand for [`Fault::Unsupported`].
pub(crate) fn unsupported<T>(reason: &str) -> Result<T, Fault> {
    Err(Fault::Unsupported(reason.to_owned()))
}
