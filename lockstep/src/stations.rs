//! Who the guest is on its networks, learnt from the frames it sends, and how a side that has taken over says that it
//! lives there now: gratuitous ARP (RFC 5227 §3), an unsolicited neighbour advertisement (RFC 4861 §7.2.6), and a
//! broadcast from each of its addresses, so that switches send to the right port. Addresses are taken only from what
//! claims them (ARP, neighbour discovery): a guest that forwards packets does not own their sources.

use std::collections::{BTreeMap, VecDeque};

/// An Ethernet address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// Ethernet types.
const ARP: [u8; 2] = [0x08, 0x06];
const RARP: [u8; 2] = [0x80, 0x35];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// ICMPv6.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Addresses remembered per network card; the ones used last.
const MOST: usize = 16;

/// What is known of one network card.
#[derive(Clone, Debug, Default)]
struct Station {
    macs: VecDeque<Mac>,
    ipv4: VecDeque<(Mac, [u8; 4])>,
    ipv6: VecDeque<(Mac, [u8; 16])>,
}

/// What is known of all.
#[derive(Clone, Debug, Default)]
pub struct Stations(BTreeMap<u8, Station>);

/// Puts `value` last, once, and keeps the list short.
fn remember<T: PartialEq>(list: &mut VecDeque<T>, value: T) {
    if list.back() == Some(&value) {
        return;
    }
    list.retain(|known| *known != value);
    if list.len() >= MOST {
        list.pop_front();
    }
    list.push_back(value);
}

fn array<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

/// The address that a frame is from.
pub fn source(frame: &[u8]) -> Option<Mac> {
    array(frame, 6).filter(|mac: &Mac| mac[0] & 1 == 0 && *mac != [0; 6])
}

impl Stations {
    /// The guest sent this frame.
    pub fn look(&mut self, nic: u8, frame: &[u8]) {
        let Some(mac) = source(frame) else { return };
        let station = self.0.entry(nic).or_default();
        remember(&mut station.macs, mac);
        match array(frame, 12) {
            Some(ARP) => {
                let claimed: Option<[u8; 4]> = array(frame, 28).filter(|ip| *ip != [0; 4]);
                if let Some(ip) = claimed.filter(|_| array(frame, 22) == Some(mac)) {
                    remember(&mut station.ipv4, (mac, ip));
                }
            }
            Some(IPV6) if frame.get(20) == Some(&58) => {
                let claimed: Option<[u8; 16]> = match frame.get(54) {
                    Some(&SOLICITATION) => array(frame, 22),
                    Some(&ADVERTISEMENT) => array(frame, 62),
                    _ => None,
                };
                if let Some(ip) = claimed.filter(|ip| *ip != [0; 16]) {
                    remember(&mut station.ipv6, (mac, ip));
                }
            }
            _ => (),
        }
    }

    /// The frame is from the guest itself.
    pub fn is_own(&self, nic: u8, frame: &[u8]) -> bool {
        let mac = source(frame);
        self.0.get(&nic).is_some_and(|station| mac.is_some_and(|mac| station.macs.contains(&mac)))
    }

    /// The frames that say where the guest is now.
    pub fn announcements(&self) -> Vec<(u8, Vec<u8>)> {
        let of = |(nic, station): (&u8, &Station)| {
            let here = station.macs.iter().map(|mac| arp(RARP, 3, *mac, [0; 4]));
            let ipv4 = station.ipv4.iter().map(|(mac, ip)| arp(ARP, 1, *mac, *ip));
            let ipv6 = station.ipv6.iter().map(|(mac, ip)| advertisement(*mac, *ip));
            here.chain(ipv4).chain(ipv6).map(|frame| (*nic, frame)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

/// A broadcast of ARP's form in which sender and target are the same.
fn arp(kind: [u8; 2], operation: u8, mac: Mac, ip: [u8; 4]) -> Vec<u8> {
    let target = if kind == RARP { mac } else { [0; 6] };
    let mut frame = [BROADCAST, mac].concat();
    frame.extend(kind);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(ip);
    frame.extend(target);
    frame.extend(ip);
    frame.resize(60, 0);
    frame
}

/// To all nodes: this address is at this station, whatever was said before.
fn advertisement(mac: Mac, ip: [u8; 16]) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(ip);
    message.extend([2, 1]); // option: the target's link-layer address
    message.extend(mac);
    let pseudo = [&ip[..], &all_nodes, &[0, 0, 0, message.len() as u8, 0, 0, 0, 58]].concat();
    let words = pseudo.chunks(2).chain(message.chunks(2));
    let mut sum = words.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut frame = [[0x33, 0x33, 0, 0, 0, 1], mac].concat();
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, 58, 255]);
    frame.extend(ip);
    frame.extend(all_nodes);
    frame.extend(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x52, 0x54, 0, 1, 2, 3];
    const IP: [u8; 4] = [10, 0, 0, 2];

    #[test]
    fn what_the_guest_claims_is_announced() {
        let mut stations = Stations::default();
        stations.look(0, &arp(ARP, 1, MAC, IP));
        let ip6 = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 1, 2, 3];
        stations.look(0, &advertisement(MAC, ip6));
        stations.look(1, &[[2; 6], [4; 6]].concat());
        let frames = stations.announcements();
        assert_eq!(
            frames,
            [
                (0, arp(RARP, 3, MAC, [0; 4])),
                (0, arp(ARP, 1, MAC, IP)),
                (0, advertisement(MAC, ip6)),
                (1, arp(RARP, 3, [4; 6], [0; 4]))
            ]
        );
        assert!(stations.is_own(0, &frames[0].1) && !stations.is_own(1, &frames[0].1));
        assert_eq!(frames[1].1[..2], [0xff; 2]);
        assert_eq!(frames[1].1[28..32], IP);
    }

    #[test]
    fn forwarded_sources_and_nonsense_are_not() {
        let mut stations = Stations::default();
        let mut other = arp(ARP, 1, MAC, IP);
        other[22] = 9;
        stations.look(0, &other);
        for length in 0..60 {
            stations.look(0, &arp(ARP, 1, [0xff; 6], IP)[..length]);
        }
        assert_eq!(stations.announcements(), [(0, arp(RARP, 3, MAC, [0; 4]))]);
        for last in 0..100 {
            stations.look(0, &[[2; 6], [2, 0, 0, 0, 0, last]].concat());
        }
        assert_eq!(stations.announcements().len(), MOST);
    }
}
