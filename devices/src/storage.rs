//! What a drive keeps its sectors in, as the machine sees it: requests go in, answers are asked for when they are due.
//!
//! The host may take its time in the background between the two; [`Storage::finish`] then blocks the host, never
//! virtual time. So how fast the host's disk is cannot be seen from within.

pub mod memory;

pub use memory::MemoryStorage;

use crate::state::Saved;

/// Bytes in a sector.
pub const SECTOR_BYTES: u64 = 512;
/// Tickets from here on belong to those who copy or compare disks, not to requests of the guest.
pub const HOUSEKEEPING: u64 = 1 << 63;

/// A request to a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads whole sectors.
    Read {
        /// The first one.
        sector: u64,
        /// How many.
        count: u32,
    },
    /// Writes whole sectors.
    Write {
        /// The first one.
        sector: u64,
        /// Their bytes: a multiple of 512.
        bytes: Vec<u8>,
    },
    /// Whatever was written before is on the medium when this is finished.
    Flush,
    /// The sectors are not needed any more; they read as zeroes from now on.
    Discard {
        /// The first one.
        sector: u64,
        /// How many.
        count: u64,
    },
}

impl Request {
    /// The first sector it touches and how many; `None` for a flush.
    pub fn sectors(&self) -> Option<(u64, u64)> {
        match self {
            Request::Read { sector, count } => Some((*sector, u64::from(*count))),
            Request::Write { sector, bytes } => Some((*sector, (bytes.len() as u64).div_ceil(SECTOR_BYTES))),
            Request::Flush => None,
            Request::Discard { sector, count } => Some((*sector, *count)),
        }
    }

    /// Whether it changes what is on the disk.
    pub fn changes(&self) -> bool {
        matches!(self, Request::Write { .. } | Request::Discard { .. })
    }
}

impl Saved for Request {
    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Request::Read { sector, count } => {
                out.push(0);
                sector.save(out);
                count.save(out);
            }
            Request::Write { sector, bytes } => {
                out.push(1);
                sector.save(out);
                bytes.save(out);
            }
            Request::Flush => out.push(2),
            Request::Discard { sector, count } => {
                out.push(3);
                sector.save(out);
                count.save(out);
            }
        }
    }

    fn load(bytes: &mut &[u8]) -> Option<Self> {
        match u8::load(bytes)? {
            0 => Some(Request::Read { sector: u64::load(bytes)?, count: u32::load(bytes)? }),
            1 => Some(Request::Write { sector: u64::load(bytes)?, bytes: Vec::load(bytes)? }),
            2 => Some(Request::Flush),
            3 => Some(Request::Discard { sector: u64::load(bytes)?, count: u64::load(bytes)? }),
            _ => None,
        }
    }
}

/// A disc that is put into a drive for CDs and DVDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disc {
    /// Its size, in sectors of 512 bytes.
    pub sectors: u64,
    /// BLAKE3 of its bytes: both servers must have the same one.
    pub hash: [u8; 32],
}

/// The host cannot do what was asked: what happened, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageFault(pub String);

/// The sectors of one drive.
///
/// Requests take effect in the order submitted, as if one at a time. A ticket is submitted once and finished once;
/// requests lie within the drive.
pub trait Storage: Send {
    /// Its size, in sectors of 512 bytes. Changes with the disc only.
    fn sectors(&self) -> u64;
    /// Takes a request; it may be worked on in the background.
    fn submit(&mut self, ticket: u64, request: &Request);
    /// Waits for a request's end. For a read: exactly the bytes of its sectors; otherwise nothing.
    ///
    /// # Errors
    /// The host could not do it. Of a write, any part may have been done.
    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault>;
    /// The guest is told that this request failed, whether it did here or not. Instead of [`Storage::finish`], or
    /// after it has failed.
    fn revoke(&mut self, ticket: u64) {
        let _ = self.finish(ticket);
    }
    /// From here on requests are about this disc. A host that does not have it fails them.
    fn change(&mut self, disc: &Disc) {
        let _ = disc;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::assert_round_trip;

    #[test]
    fn requests_round_trip_and_know_their_sectors() {
        let requests = [
            (Request::Read { sector: 7, count: 2 }, Some((7, 2)), false),
            (Request::Write { sector: 9, bytes: vec![1; 1024] }, Some((9, 2)), true),
            (Request::Flush, None, false),
            (Request::Discard { sector: 1, count: 1 << 40 }, Some((1, 1 << 40)), true),
        ];
        for (request, sectors, changes) in requests {
            assert_round_trip(&request);
            assert_eq!((request.sectors(), request.changes()), (sectors, changes));
        }
        assert_eq!(Request::load(&mut &[4u8][..]), None);
    }
}
