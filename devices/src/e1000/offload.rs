//! What the chip does to a packet before it sends it: checksums and TCP segmentation (manual §3.5, §3.6), as a
//! context descriptor says.

use super::checksum::{add, fold};
use crate::state::saved;

const TUCMD_TCP: u8 = 1 << 0;
const TUCMD_IP: u8 = 1 << 1;
/// POPTS of a data descriptor: insert IP's sum, TCP's or UDP's.
pub const POPTS_IXSM: u8 = 1 << 0;
pub const POPTS_TXSM: u8 = 1 << 1;

const TCP_FIN: u8 = 1 << 0;
const TCP_PSH: u8 = 1 << 3;

/// A context descriptor's content (§3.3.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    ipcss: u8,
    ipcso: u8,
    ipcse: u16,
    tucss: u8,
    tucso: u8,
    tucse: u16,
    paylen: u32,
    tucmd: u8,
    hdrlen: u8,
    mss: u16,
}
saved!(Offload { ipcss, ipcso, ipcse, tucss, tucso, tucse, paylen, tucmd, hdrlen, mss });

/// Sums `frame[start..=end]` (to the end of the packet if `end` is 0) and puts the complement at `at`.
pub fn insert(frame: &mut [u8], start: usize, end: usize, at: usize) {
    let end = if end == 0 { frame.len() } else { frame.len().min(end + 1) };
    let Some(bytes) = frame.get(start..end) else { return };
    let sum = match !fold(add(0, bytes)) {
        0 => 0xffff, // a UDP sum of 0 would mean that there is none
        sum => sum,
    };
    put(frame, at, sum);
}

fn get(frame: &[u8], at: usize) -> u16 {
    frame.get(at..at + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(pair) = frame.get_mut(at..at + 2) {
        pair.copy_from_slice(&value.to_be_bytes());
    }
}

impl Offload {
    /// Reads a context descriptor.
    pub fn from_descriptor(descriptor: &[u8; 16]) -> Offload {
        let d = descriptor;
        let half = |at: usize| u16::from_le_bytes([d[at], d[at + 1]]);
        Offload {
            ipcss: d[0],
            ipcso: d[1],
            ipcse: half(2),
            tucss: d[4],
            tucso: d[5],
            tucse: half(6),
            paylen: u32::from_le_bytes([d[8], d[9], d[10] & 15, 0]),
            tucmd: d[11],
            hdrlen: d[13],
            mss: half(14),
        }
    }

    /// Inserts the sums that `popts` asks for.
    pub fn finish(&self, frame: &mut [u8], popts: u8) {
        if popts & POPTS_TXSM != 0 {
            insert(frame, self.tucss.into(), self.tucse.into(), self.tucso.into());
        }
        if popts & POPTS_IXSM != 0 {
            insert(frame, self.ipcss.into(), self.ipcse.into(), self.ipcso.into());
        }
    }

    /// Cuts a packet into segments with headers of their own. One that cannot be cut goes as it is.
    pub fn segments(&self, packet: &[u8], popts: u8) -> Vec<Vec<u8>> {
        let Some((header, payload)) = packet.split_at_checked(self.hdrlen.into()) else { return vec![packet.to_vec()] };
        if self.mss == 0 || payload.is_empty() {
            return vec![packet.to_vec()];
        }
        let pieces = payload.chunks(self.mss.into());
        let last = pieces.len() - 1;
        let segment = |(index, piece): (usize, &[u8])| {
            let mut frame = [header, piece].concat();
            self.renumber(&mut frame, index, index == last);
            self.finish(&mut frame, popts);
            frame
        };
        pieces.enumerate().map(segment).collect()
    }

    /// Sets what differs from one segment to the next: lengths, the IP identification, the sequence number, the flags.
    fn renumber(&self, frame: &mut [u8], index: usize, last: bool) {
        let (ip, transport) = (usize::from(self.ipcss), usize::from(self.tucss));
        let behind = |start: usize| frame.len().saturating_sub(start) as u16;
        let (ip_length, length) = (behind(ip), behind(transport));
        match self.tucmd & TUCMD_IP != 0 {
            true => {
                put(frame, ip + 2, ip_length);
                let identification = get(frame, ip + 4).wrapping_add(index as u16);
                put(frame, ip + 4, identification);
            }
            false => put(frame, ip + 4, ip_length.saturating_sub(40)),
        }
        if self.tucmd & TUCMD_TCP != 0 {
            let offset = (index as u32).wrapping_mul(self.mss.into());
            let sequence = u32::from(get(frame, transport + 4)) << 16 | u32::from(get(frame, transport + 6));
            let sequence = sequence.wrapping_add(offset);
            put(frame, transport + 4, (sequence >> 16) as u16);
            put(frame, transport + 6, sequence as u16);
            if let Some(flags) = frame.get_mut(transport + 13).filter(|_| !last) {
                *flags &= !(TCP_FIN | TCP_PSH);
            }
        } else {
            put(frame, transport + 4, length);
        }
        // Software has put the pseudo header's sum there, without the length.
        let field = usize::from(self.tucso);
        let pseudo = fold(u64::from(get(frame, field)) + u64::from(length));
        put(frame, field, pseudo);
    }
}
