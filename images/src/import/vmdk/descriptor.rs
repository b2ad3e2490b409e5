//! The descriptor: lines of `key = value`, and a line for each extent.

use crate::disk::{Fault, damaged, unsupported};

/// What an extent is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flat,
    Sparse,
    Zero,
}

/// `ACCESS SECTORS KIND "FILE" OFFSET`.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) sectors: u64,
    pub(super) kind: Kind,
    pub(super) file: Option<String>,
    pub(super) offset: u64,
}

/// What the descriptor says.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) extents: Vec<Line>,
    parent: Option<String>,
}

impl Descriptor {
    pub(super) fn parse(text: &[u8]) -> Result<Self, Fault> {
        let mut descriptor = Self { extents: Vec::new(), parent: None };
        // An embedded descriptor is filled up with zeros.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.trim();
            if ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access)) {
                descriptor.extents.push(Line::parse(line)?);
            } else if let Some((key, value)) = line.split_once('=')
                && key.trim() == "parentCID"
            {
                descriptor.parent = Some(value.trim().to_ascii_lowercase());
            }
        }
        Ok(descriptor)
    }

    /// A disk that is the difference to another one cannot be read alone.
    pub(super) fn check_whole(&self) -> Result<(), Fault> {
        match self.parent.as_deref() {
            None | Some("ffffffff") => Ok(()),
            Some(_) => unsupported("it holds only the differences to another VMDK; merge the two first"),
        }
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self, Fault> {
        let (front, rest) = line.split_once('"').unwrap_or((line, ""));
        let mut words = front.split_whitespace().skip(1);
        let (Some(sectors), Some(kind)) = (words.next().and_then(|word| word.parse().ok()), words.next()) else {
            return damaged("a line of the descriptor makes no sense");
        };
        let kind = match kind {
            "FLAT" | "VMFS" => Kind::Flat,
            "SPARSE" => Kind::Sparse,
            "ZERO" => Kind::Zero,
            other => return unsupported(&format!("parts of the kind {other} are not supported")),
        };
        let (file, after) = match rest.split_once('"') {
            Some((name, after)) => (Some(name.to_owned()), after.trim()),
            None if kind == Kind::Zero => (None, ""),
            None => return damaged("a line of the descriptor names no file"),
        };
        let offset = if after.is_empty() { 0 } else { after.parse().unwrap_or(u64::MAX) };
        Ok(Self { sectors, kind, file, offset })
    }
}
