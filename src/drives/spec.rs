//! What the user says about a drive: `FILE[,if=ide|virtio][,readonly][,serial=TEXT][,format=raw|qcow2][,snapshot]`.

use std::path::PathBuf;

use ftemu_devices::config::DriveKind;
use ftemu_images::Format;

/// Instead of a CD's file: the drive is empty at first.
const EMPTY: &str = "none";

/// A drive that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The image.
    pub path: PathBuf,
    /// What the guest sees.
    pub kind: DriveKind,
    /// Where it is plugged in.
    pub interface: Interface,
    /// The guest may only read.
    pub read_only: bool,
    /// What the guest reads as its serial number.
    pub serial: Option<String>,
    /// The image's format, if it should not be told from its first bytes.
    pub format: Option<Format>,
    /// Changes go to a temporary file and are gone at the end.
    pub snapshot: bool,
}

/// Kinds of controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// PIIX3 IDE: every system knows it.
    Ide,
    /// Virtio: faster, where the guest has a driver.
    Virtio,
}

impl Spec {
    /// A hard disk on IDE.
    pub fn disk(path: PathBuf) -> Self {
        Self {
            path,
            kind: DriveKind::Disk,
            interface: Interface::Ide,
            read_only: false,
            serial: None,
            format: None,
            snapshot: false,
        }
    }

    /// A CD.
    pub fn cdrom(path: PathBuf) -> Self {
        Self { kind: DriveKind::Cdrom, ..Self::disk(path) }
    }

    /// A drive for CDs without one.
    pub fn is_empty(&self) -> bool {
        self.kind == DriveKind::Cdrom && self.path.as_os_str() == EMPTY
    }

    /// Nobody writes to a CD.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.kind == DriveKind::Cdrom
    }
}

/// Takes a drive from the command line. A comma in the file's name is written twice.
///
/// # Errors
/// In words for the user.
pub fn parse(text: &str) -> Result<Spec, String> {
    let mut words = split(text).into_iter();
    let path =
        words.next().filter(|path| !path.is_empty()).ok_or("name the image's file first: --drive FILE,if=virtio")?;
    let mut spec = Spec::disk(path.into());
    for word in words {
        match word.split_once('=').unwrap_or((&word, "")) {
            ("if", "ide") => spec.interface = Interface::Ide,
            ("if", "virtio") => spec.interface = Interface::Virtio,
            ("media", "cdrom") => spec.kind = DriveKind::Cdrom,
            ("media", "disk") => spec.kind = DriveKind::Disk,
            ("readonly", "" | "on") => spec.read_only = true,
            ("snapshot", "" | "on") => spec.snapshot = true,
            ("serial", serial) if is_serial(serial) => spec.serial = Some(serial.to_owned()),
            ("serial", _) => return Err("a serial number has 1 to 20 printable ASCII characters".into()),
            ("format", format) => spec.format = Some(format.parse()?),
            _ => {
                return Err(format!(
                    "{word:?} is not known: FILE[,if=ide|virtio][,readonly][,serial=TEXT][,format=raw|qcow2][,media=cdrom][,snapshot] \
                     (a comma in the file's name is written twice)"
                ));
            }
        }
    }
    match (spec.kind, spec.interface) {
        (DriveKind::Cdrom, Interface::Virtio) => Err("a CD-ROM drive is on IDE: leave if=virtio away".into()),
        _ => Ok(spec),
    }
}

fn is_serial(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// At single commas; two of them are one in a word.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            words.push(String::new());
        } else {
            words.last_mut().expect("there is a first").push(character);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_are_described_in_words() {
        assert_eq!(parse("disk.img"), Ok(Spec::disk("disk.img".into())));
        let all = parse("a,,b.qcow2,if=virtio,readonly,serial=X 1,format=qcow2,snapshot").unwrap();
        assert_eq!(all.path, PathBuf::from("a,b.qcow2"));
        assert_eq!((all.interface, all.read_only, all.snapshot), (Interface::Virtio, true, true));
        assert_eq!(all.serial.as_deref(), Some("X 1"));
        assert_eq!(all.format, Some(Format::Qcow2));
        assert_eq!(parse("x.iso,media=cdrom"), Ok(Spec::cdrom("x.iso".into())));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for bad in ["", ",if=ide", "x,if=scsi", "x,", "x,serial=", "x,serial=123456789012345678901", "x,format=zip"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("x,media=cdrom,if=virtio").unwrap_err().contains("IDE"));
        assert!(parse("x,read-only").unwrap_err().contains("readonly"));
    }
}
