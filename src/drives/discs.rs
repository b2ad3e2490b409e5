//! Discs that were offered while the guest runs: files of this host, known by what is on them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use ftemu_devices::storage::{Disc, SECTOR_BYTES};
use ftemu_images::{Disk, Format, Options};

/// Bytes that are hashed at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Where a CD or DVD describes its volumes, in bytes (ECMA-119 §6.2.1, ECMA-167 2/8.3.1); a description begins with a number and
/// a word: of ISO 9660, of UDF.
const VOLUMES: u64 = 16 * 2048;
const VOLUME_WORDS: [&[u8; 5]; 2] = [b"CD001", b"BEA01"];

/// The discs, and the drives that they may be put into. Clones are the same.
#[derive(Clone, Default)]
pub struct Discs(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    drives: Vec<u8>,
    files: Vec<(Disc, PathBuf)>,
}

impl Discs {
    /// The guest's drives for CDs have these numbers among all of its drives.
    pub fn set_drives(&self, drives: Vec<u8>) {
        self.lock().drives = drives;
    }

    /// The number of the guest's first, second ... drive for CDs among all of its drives.
    ///
    /// # Errors
    /// It has no such drive.
    pub fn drive(&self, cdrom: u8) -> Result<u8> {
        let drives = self.lock().drives.clone();
        drives.get(usize::from(cdrom)).copied().with_context(|| match drives.len() {
            0 => "the guest has no CD-ROM drive; it gets an empty one by --cdrom none at its start".to_owned(),
            count => format!("the guest has {count} CD-ROM drive(s); they are numbered from 0"),
        })
    }

    /// Reads a file that is to be a disc, and remembers it.
    ///
    /// # Errors
    /// It cannot be used or read, or is no CD: whoever reaches the console is not to read any file of this host.
    pub fn offer(&self, path: &Path) -> Result<Disc> {
        let file = open(path)?;
        let bytes = file.bytes();
        let mut word = [0; 5];
        if bytes >= VOLUMES + 2048 {
            file.read_at(VOLUMES + 1, &mut word)?;
        }
        anyhow::ensure!(VOLUME_WORDS.contains(&&word), "{} is no CD or DVD (ISO 9660 or UDF)", path.display());
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < bytes {
            let mut piece = vec![0; usize::try_from(PIECE_BYTES.min(bytes - at))?];
            file.read_at(at, &mut piece)?;
            hasher.update(&piece);
            at += piece.len() as u64;
        }
        let disc = Disc { sectors: bytes / SECTOR_BYTES, hash: *hasher.finalize().as_bytes() };
        let known = &mut self.lock().files;
        known.retain(|(other, _)| *other != disc);
        known.push((disc, path.to_owned()));
        Ok(disc)
    }

    /// The file of a disc that the guest gets now.
    ///
    /// # Errors
    /// It was not offered here, or is another one now.
    pub fn open(&self, disc: &Disc) -> Result<Disk> {
        let found = self.lock().files.iter().find(|(other, _)| other == disc).map(|(_, path)| path.clone());
        let path = found.with_context(|| {
            format!(
                "the guest was given a CD of {} bytes that this server does not have: `ftemu insert` needs the consoles \
                 of both servers",
                disc.sectors * SECTOR_BYTES
            )
        })?;
        let file = open(&path)?;
        anyhow::ensure!(file.bytes() == disc.sectors * SECTOR_BYTES, "{} has changed", path.display());
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<Disk> {
    let options = Options { read_only: true, format: Some(Format::Raw), ..Options::default() };
    Disk::open(path, &options).context("cannot use the CD image")
}
