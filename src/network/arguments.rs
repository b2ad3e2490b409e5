//! What the command line says about networks.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use ftemu_devices::config::{NicConfig, NicModel};

/// The guest's networks on this server.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArguments {
    /// Where a network card's cable ends on this server; once for each card, in their order: `tap=NAME`, a tap device
    /// that you made and put into a bridge; `user`, the host's own network through passt; `none`.
    #[arg(long, value_name = "none|user|tap=NAME")]
    pub net: Vec<Net>,
    /// With `--net user`: connections to this port of the host go to that port of the guest.
    #[arg(long, value_name = "HOST:GUEST", value_delimiter = ',')]
    pub forward: Vec<Forward>,
}

/// The guest's network cards.
#[derive(Debug, Clone, Default, Args)]
pub struct CardArguments {
    /// The model of the guest's network cards.
    #[arg(long, value_name = "MODEL", default_value = "e1000")]
    pub nic: Model,
    /// The cards' addresses, in their order [default: made from this server's name and what is started].
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub mac: Vec<Mac>,
}

/// Where a cable ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Net {
    /// In the air.
    None,
    /// At passt.
    User,
    /// At this tap device.
    Tap(String),
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "none" => Ok(Net::None),
            None if text == "user" => Ok(Net::User),
            // The kernel's limit, and what it does not allow.
            Some(("tap", name)) if !name.is_empty() && name.len() < 16 && !name.contains(['/', '%', ' ']) => {
                Ok(Net::Tap(name.into()))
            }
            Some(("tap", _)) => Err("a tap's name has 1 to 15 characters".into()),
            _ => Err("say none, user or tap=NAME".into()),
        }
    }
}

/// A port of the host and the guest's port it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// On this server.
    pub host: u16,
    /// In the guest.
    pub guest: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let ports = text.split_once(':').and_then(|(host, guest)| Some((port(host)?, port(guest)?)));
        let (host, guest) = ports.ok_or("say HOST:GUEST, two port numbers, as in 2222:22")?;
        Ok(Forward { host, guest })
    }
}

/// Models of network cards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// Intel 82540EM, which every system knows.
    #[default]
    E1000,
    /// Faster, where the guest has the driver.
    Virtio,
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let byte = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2);
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let bytes: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
        match bytes.ok_or("an address has six bytes, as in 52:54:00:12:34:56")? {
            bytes if bytes[0] & 1 != 0 => Err("this is the address of a group, not of a station".into()),
            bytes => Ok(Mac(bytes)),
        }
    }
}

impl CardArguments {
    /// The guest's cards: one for each `--net`. `name` is what addresses are made from where none is given; the same
    /// guest on the same server always has the same ones.
    pub fn cards(&self, network: &NetworkArguments, name: &str) -> Vec<NicConfig> {
        let model = match self.nic {
            Model::E1000 => NicModel::E1000,
            Model::Virtio => NicModel::VirtioNet,
        };
        let card = |number: usize| {
            let given = self.mac.get(number).map(|mac| mac.0);
            NicConfig { model, mac: given.unwrap_or_else(|| made_up(name, number)) }
        };
        (0..network.net.len()).map(card).collect()
    }
}

/// A locally administered address.
fn made_up(name: &str, number: usize) -> [u8; 6] {
    let hash = blake3::hash(format!("{name} {number}").as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    [0x52, 0x54, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused_with_a_hint() {
        assert_eq!("tap=tap0".parse(), Ok(Net::Tap("tap0".into())));
        assert_eq!(("user".parse(), "none".parse()), (Ok(Net::User), Ok(Net::None)));
        for wrong in ["tap", "tap=", "tap=../x", "tap=0123456789abcdef", "bridge", ""] {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
        assert_eq!("2222:22".parse(), Ok(Forward { host: 2222, guest: 22 }));
        assert!(["22", "0:22", "a:b", "70000:22", "1:2:3"].iter().all(|wrong| wrong.parse::<Forward>().is_err()));
        assert_eq!("52:54:00:12:34:56".parse(), Ok(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
        assert!(["52:54", "53:54:00:12:34:56", "5:54:00:12:34:56:"].iter().all(|wrong| wrong.parse::<Mac>().is_err()));
    }

    #[test]
    fn made_up_addresses_are_stations_and_differ() {
        let network = NetworkArguments { net: vec![Net::User, Net::None], forward: Vec::new() };
        let cards = CardArguments::default().cards(&network, "server guest.img");
        assert_eq!(cards.len(), 2);
        assert_ne!(cards[0].mac, cards[1].mac);
        assert_eq!(cards, CardArguments::default().cards(&network, "server guest.img"));
        assert!(cards.iter().all(|card| card.mac[0] & 3 == 2));
        let given = CardArguments { mac: vec![Mac([2; 6])], ..Default::default() };
        assert_eq!(given.cards(&network, "x")[0].mac, [2; 6]);
    }
}
