//! What a driver leaves to the network device (Virtio 1.2 §5.1.6.2): the checksum of a packet, and cutting a long TCP
//! packet into segments.

/// Feature bits (§5.1.3).
pub const CSUM: u64 = 1 << 0;
pub const HOST_TSO4: u64 = 1 << 11;
pub const HOST_TSO6: u64 = 1 << 12;
/// struct virtio_net_hdr.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Bytes of payload in a segment, at least: a bound for how many a packet becomes.
const SMALLEST_SEGMENT: usize = 64;

const ETHERTYPE: usize = 12;
const VLAN: u16 = 0x8100;
const IPV6_HEADER: usize = 40;
const TCP_FIN: u8 = 1 << 0;
const TCP_PSH: u8 = 1 << 3;

/// What the header before a packet asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    flags: u8,
    gso_type: u8,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Offload {
    /// Reads struct virtio_net_hdr; the length of headers in it is a hint that nobody needs.
    pub fn from_header(header: &[u8; 10]) -> Offload {
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (flags, gso_type) = (header[0], header[1]);
        Offload { flags, gso_type, gso_size: half(4), csum_start: half(6), csum_offset: half(8) }
    }

    /// What the driver may ask for with these features; anything else counts as not asked for.
    pub fn allowed(self, features: u64) -> Offload {
        let segments = match self.gso_type {
            GSO_TCPV4 => features & HOST_TSO4 != 0,
            GSO_TCPV6 => features & HOST_TSO6 != 0,
            _ => false,
        };
        match (features & CSUM != 0, segments) {
            (true, true) => self,
            (true, false) => Offload { gso_type: GSO_NONE, ..self },
            (false, _) => Offload::default(),
        }
    }

    /// The frames to send for a packet. What cannot be done as asked is sent as nothing.
    pub fn frames(self, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
        if self.gso_type != GSO_NONE {
            return self.segments(&packet).unwrap_or_default();
        }
        if self.flags & NEEDS_CSUM == 0 {
            return vec![packet];
        }
        match self.complete(&mut packet) {
            Some(()) => vec![packet],
            None => Vec::new(),
        }
    }

    /// Replaces the pseudo header's sum by the checksum.
    fn complete(self, frame: &mut [u8]) -> Option<()> {
        let start = usize::from(self.csum_start);
        let sum = match !fold(sum(frame.get(start..)?)) {
            0 => 0xffff, // a UDP sum of 0 would mean that there is none
            sum => sum,
        };
        put(frame, start + usize::from(self.csum_offset), sum)
    }

    /// Cuts a packet into segments with headers of their own.
    fn segments(self, packet: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (transport, size) = (usize::from(self.csum_start), usize::from(self.gso_size));
        if self.flags & NEEDS_CSUM == 0 || size < SMALLEST_SEGMENT {
            return None;
        }
        let header = transport + usize::from(packet.get(transport + 12)? >> 4) * 4;
        let (header, payload) = packet.split_at_checked(header)?;
        let pieces = payload.chunks(size);
        let last = pieces.len().checked_sub(1)?;
        let segment = |(index, piece): (usize, &[u8])| {
            let mut frame = [header, piece].concat();
            self.renumber(&mut frame, index, index == last, packet.len())?;
            self.complete(&mut frame)?;
            Some(frame)
        };
        pieces.enumerate().map(segment).collect()
    }

    /// Sets what differs from one segment to the next: lengths, the IP identification and sum, the sequence number, the
    /// flags.
    fn renumber(self, frame: &mut [u8], index: usize, last: bool, whole: usize) -> Option<()> {
        let ip = if get(frame, ETHERTYPE)? == VLAN { ETHERTYPE + 6 } else { ETHERTYPE + 2 };
        let transport = usize::from(self.csum_start);
        let ip_length = frame.len().checked_sub(ip)?;
        match self.gso_type {
            GSO_TCPV4 => {
                put(frame, ip + 2, ip_length as u16)?;
                let identification = get(frame, ip + 4)?.wrapping_add(index as u16);
                put(frame, ip + 4, identification)?;
                put(frame, ip + 10, 0)?;
                let length = usize::from(frame.get(ip)? & 15) * 4;
                let sum = !fold(sum(frame.get(ip..ip + length)?));
                put(frame, ip + 10, sum)?;
            }
            _ => put(frame, ip + 4, ip_length.checked_sub(IPV6_HEADER)? as u16)?,
        }
        let offset = (index as u32).wrapping_mul(u32::from(self.gso_size));
        let sequence = u32::from(get(frame, transport + 4)?) << 16 | u32::from(get(frame, transport + 6)?);
        let sequence = sequence.wrapping_add(offset);
        put(frame, transport + 4, (sequence >> 16) as u16)?;
        put(frame, transport + 6, sequence as u16)?;
        if !last {
            *frame.get_mut(transport + 13)? &= !(TCP_FIN | TCP_PSH);
        }
        // The pseudo header's sum is there, with the length of the whole.
        let field = transport + usize::from(self.csum_offset);
        let (old, new) = (whole.checked_sub(transport)? as u16, (frame.len() - transport) as u16);
        let pseudo = fold(u64::from(get(frame, field)?) + u64::from(!old) + u64::from(new));
        put(frame, field, pseudo)
    }
}

/// The sum of big-endian words, an odd byte at the end counting as a high one (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    words.sum()
}

/// A sum with its carries added back in.
fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn get(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

fn put(frame: &mut [u8], at: usize, value: u16) -> Option<()> {
    *frame.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests;
