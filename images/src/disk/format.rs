//! Disk formats, and how a file tells which it has.
//!
//! Sources: QEMU's `docs/interop/qcow2.txt`; VMware's "Virtual Disk Format 5.0"; Microsoft's "Virtual Hard Disk Image
//! Format Specification" and [MS-VHDX]; VirtualBox's `VDICore.h`.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// A disk image's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes and nothing else; also CD images.
    Raw,
    /// QEMU's format, versions 2 and 3.
    Qcow2,
    /// VMware's.
    Vmdk,
    /// Microsoft's older format, fixed or dynamic.
    Vhd,
    /// Microsoft's newer format.
    Vhdx,
    /// VirtualBox's.
    Vdi,
}

impl Format {
    /// Whether a guest can run from it without an import.
    pub fn runs(self) -> bool {
        matches!(self, Self::Raw | Self::Qcow2)
    }

    /// Tells the format from a file's first bytes (512 are enough, fewer are allowed) and its last 512.
    pub fn detect(head: &[u8], tail: &[u8]) -> Self {
        if let Some(format) = Self::disguise(head) {
            return format;
        }
        // A fixed VHD has nothing but a footer.
        if tail.starts_with(b"conectix") { Self::Vhd } else { Self::Raw }
    }

    /// The format that a file beginning with these bytes would be taken for, unless it is raw.
    pub fn disguise(head: &[u8]) -> Option<Self> {
        let magics: [(&[u8], Self); 6] = [
            (b"QFI\xfb", Self::Qcow2),
            (b"KDMV", Self::Vmdk),
            (b"COWD", Self::Vmdk),
            (b"# Disk DescriptorFile", Self::Vmdk),
            (b"conectix", Self::Vhd),
            (b"vhdxfile", Self::Vhdx),
        ];
        if let Some((_, format)) = magics.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Some(*format);
        }
        // VDI: 64 bytes of text, then the signature.
        (head.get(0x40..0x44) == Some(&0xbeda_107f_u32.to_le_bytes())).then_some(Self::Vdi)
    }

    /// The format that a file's name promises: what its ending says, unless that may be anything.
    pub(crate) fn promised(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        let format: Self = if ending == "vpc" { Self::Vhd } else { ending.parse().ok()? };
        Some(format).filter(|format| *format != Self::Raw)
    }

    /// Looks at an open file.
    ///
    /// # Errors
    /// Whatever reading meets.
    pub(crate) fn of(file: &std::fs::File, length: u64) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let mut head = [0; 512];
        let mut tail = [0; 512];
        let count = usize::try_from(length).unwrap_or(512).min(512);
        file.read_exact_at(&mut head[..count], 0)?;
        file.read_exact_at(&mut tail[..count], length.saturating_sub(512))?;
        Ok(Self::detect(&head[..count], &tail[..count]))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Vdi];
        let found = all.into_iter().find(|format| format.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is not a disk format; raw, qcow2, vmdk, vhd, vhdx and vdi are"))
    }
}
