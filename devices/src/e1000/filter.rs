//! Which frames are for this station: exact addresses, the multicast hash table, VLANs (manual §3.2.1, §9.4, §13.5).

use super::registers::{RCTL_BAM, RCTL_CFI, RCTL_CFIEN, RCTL_MPE, RCTL_UPE, RCTL_VFE};
use crate::state::saved;

/// RAH: the entry is valid; it compares the source.
const RAH_AV: u32 = 1 << 31;
const RAH_AS: u32 = 3 << 16;

/// The tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// RAL and RAH, alternating.
    pub addresses: [u32; 32],
    /// Multicast table.
    pub multicast: [u32; 128],
    /// VLAN filter table.
    pub vlans: [u32; 128],
}
saved!(Filter { addresses, multicast, vlans });

impl Filter {
    /// Only `mac` passes.
    pub fn new(mac: [u8; 6]) -> Filter {
        let mut filter = Filter { addresses: [0; 32], multicast: [0; 128], vlans: [0; 128] };
        let [a, b, c, d, e, f] = mac;
        filter.addresses[0] = u32::from_le_bytes([a, b, c, d]);
        filter.addresses[1] = u32::from(u16::from_le_bytes([e, f])) | RAH_AV;
        filter
    }

    /// A frame to `destination` is for this station, as RCTL says.
    pub fn takes(&self, rctl: u32, destination: [u8; 6]) -> bool {
        let promiscuous = if destination[0] & 1 != 0 { RCTL_MPE } else { RCTL_UPE };
        rctl & promiscuous != 0
            || destination == [0xff; 6] && rctl & RCTL_BAM != 0
            || self.is_listed(destination)
            || destination[0] & 1 != 0 && self.is_hashed(rctl, destination)
    }

    fn is_listed(&self, destination: [u8; 6]) -> bool {
        let [a, b, c, d, e, f] = destination;
        let (low, high) = (u32::from_le_bytes([a, b, c, d]), u32::from(u16::from_le_bytes([e, f])));
        let same = |pair: &[u32]| pair[0] == low && pair[1] & (RAH_AV | RAH_AS | 0xffff) == RAH_AV | high;
        self.addresses.chunks(2).any(same)
    }

    fn is_hashed(&self, rctl: u32, destination: [u8; 6]) -> bool {
        let shift = [4, 3, 2, 0][(rctl >> 12 & 3) as usize];
        let hash = u16::from_le_bytes([destination[4], destination[5]]) >> shift & 0xfff;
        self.multicast[usize::from(hash >> 5)] >> (hash & 31) & 1 != 0
    }

    /// A frame with this VLAN tag passes.
    pub fn takes_tag(&self, rctl: u32, tag: u16) -> bool {
        if rctl & RCTL_VFE == 0 {
            return true;
        }
        let canonical = rctl & RCTL_CFIEN == 0 || (tag >> 12 & 1 != 0) == (rctl & RCTL_CFI != 0);
        let vlan = tag & 0xfff;
        canonical && self.vlans[usize::from(vlan >> 5)] >> (vlan & 31) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_address_passes_by_its_own_rule() {
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        let mut filter = Filter::new(mac);
        assert!(filter.takes(0, mac));
        assert!(!filter.takes(0, [0x52, 0x54, 0, 1, 2, 4]));
        assert!(filter.takes(RCTL_UPE, [0x52, 0x54, 0, 1, 2, 4]));
        assert!(!filter.takes(RCTL_UPE, [0xff; 6]));
        assert!(filter.takes(RCTL_BAM, [0xff; 6]));
        let group = [1, 0, 0x5e, 0, 0, 0xfb];
        assert!(!filter.takes(RCTL_BAM | RCTL_UPE, group));
        assert!(filter.takes(RCTL_MPE, group));
        // MO 0: bits 47:36, here fb0h.
        filter.multicast[0xfb0 >> 5] = 1 << (0xfb0 & 31);
        assert!(filter.takes(0, group));
        assert!(!filter.takes(3 << 12, group), "MO 3: bits 43:32");
        filter.vlans[0] = 1 << 7;
        assert!(filter.takes_tag(RCTL_VFE, 7) && !filter.takes_tag(RCTL_VFE, 8) && filter.takes_tag(0, 8));
    }
}
