//! What a console client and a server say to each other (`docs/CONSOLE.md` has the table).
//!
//! A message is a kind (1 byte), a length (4 bytes, little-endian), and so many bytes.

use std::io;

use ftemu_devices::storage::Disc;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version of all this; the first thing a client says.
pub const VERSION: u32 = 1;
/// The longest message either side takes, in bytes.
pub const LIMIT: usize = 64 << 10;
/// Says that a server has not heard of a client before.
const UNKNOWN: u64 = u64::MAX;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// The first message.
    Attach {
        /// [`VERSION`].
        version: u32,
        /// A random number by which the client is known on both sides of the pair.
        client: u64,
    },
    /// Console bytes are wanted from this position on.
    From {
        /// Bytes the guest has written before.
        position: u64,
    },
    /// Something was typed.
    Type {
        /// Bytes this client has typed before.
        sequence: u64,
        /// What was typed.
        bytes: Vec<u8>,
    },
    /// A key or a button is to be pressed.
    Press(Press),
    /// A picture of the screen is wanted.
    Look,
    /// A file of the server's host is to be at hand as a CD.
    Offer {
        /// Of which of the guest's drives for CDs, from 0.
        cdrom: u8,
        /// Its path there.
        path: String,
    },
}

/// Something of the guest's machine that can be pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// A key goes down or up.
    Key {
        /// Its number among Linux input events.
        code: u16,
        /// Whether it is down now.
        pressed: bool,
    },
    /// The power button.
    Power,
    /// The reset button.
    Reset,
    /// The button at the tray of the guest's drive for CDs with this number, from 0.
    Eject(u8),
    /// A CD is put into that drive.
    Insert(u8, Disc),
}

impl Press {
    fn content(self) -> Vec<u8> {
        match self {
            Press::Key { code, pressed } => [&[0][..], &code.to_le_bytes(), &[u8::from(pressed)]].concat(),
            Press::Power => vec![1],
            Press::Reset => vec![2],
            Press::Eject(cdrom) => vec![3, cdrom],
            Press::Insert(cdrom, disc) => [&[4, cdrom][..], &disc_bytes(disc)].concat(),
        }
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        match take(rest)? {
            [0] => Some(Press::Key { code: u16::from_le_bytes(take(rest)?), pressed: take::<1>(rest)? == [1] }),
            [1] => Some(Press::Power),
            [2] => Some(Press::Reset),
            [3] => Some(Press::Eject(take::<1>(rest)?[0])),
            [4] => Some(Press::Insert(take::<1>(rest)?[0], take_disc(rest)?)),
            _ => None,
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// How this server stands; said after [`FromClient::Attach`] and whenever it changes.
    Standing {
        /// It is the side that runs the guest.
        live: bool,
        /// Of two live servers the one with the higher term is right.
        term: u64,
        /// Bytes of this client's typing that have reached the guest; `None`: it has not typed here yet.
        typed: Option<u64>,
    },
    /// Console bytes.
    Output {
        /// Of the first one.
        position: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// What the client typed before this sequence number survives a failover.
    Taken {
        /// The number.
        sequence: u64,
    },
    /// This server ends; the guest may go on at the other one.
    Ended {
        /// The guest is off: there is nothing more anywhere.
        off: bool,
        /// Why, for the user.
        reason: String,
    },
    /// Of [`FromClient::Press`].
    Pressed {
        /// It was, because this server runs the guest.
        taken: bool,
    },
    /// Of [`FromClient::Look`]: the screen's size, zeros if there is none. As many dots follow.
    Screen {
        /// Dots in a line.
        width: u32,
        /// Lines.
        height: u32,
    },
    /// More of the screen.
    Dots {
        /// Red, green and blue of each, line by line from the top.
        bytes: Vec<u8>,
    },
    /// Of [`FromClient::Offer`]: the CD is at hand.
    Offered {
        /// It.
        disc: Disc,
        /// Both servers have the guest.
        protected: bool,
    },
    /// What was asked for cannot be done.
    Unusable {
        /// Why, for the user.
        reason: String,
    },
}

/// A message that can be sent.
pub trait Encode {
    /// Kind and content.
    fn content(&self) -> (u8, Vec<u8>);

    /// The whole message.
    fn encode(&self) -> Vec<u8> {
        let (kind, content) = self.content();
        let mut message = vec![kind];
        message.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        message.extend_from_slice(&content);
        message
    }
}

impl Encode for FromClient {
    fn content(&self) -> (u8, Vec<u8>) {
        match self {
            FromClient::Attach { version, client } => (1, [&version.to_le_bytes()[..], &client.to_le_bytes()].concat()),
            FromClient::From { position } => (2, position.to_le_bytes().to_vec()),
            FromClient::Type { sequence, bytes } => (3, [&sequence.to_le_bytes()[..], bytes].concat()),
            FromClient::Press(press) => (4, press.content()),
            FromClient::Look => (5, Vec::new()),
            FromClient::Offer { cdrom, path } => (6, [&[*cdrom][..], path.as_bytes()].concat()),
        }
    }
}

impl Encode for FromServer {
    fn content(&self) -> (u8, Vec<u8>) {
        match self {
            FromServer::Standing { live, term, typed } => {
                let typed = typed.unwrap_or(UNKNOWN).to_le_bytes();
                (16, [&[u8::from(*live)][..], &term.to_le_bytes(), &typed].concat())
            }
            FromServer::Output { position, bytes } => (17, [&position.to_le_bytes()[..], bytes].concat()),
            FromServer::Taken { sequence } => (18, sequence.to_le_bytes().to_vec()),
            FromServer::Ended { off, reason } => (19, [&[u8::from(*off)][..], reason.as_bytes()].concat()),
            FromServer::Pressed { taken } => (20, vec![u8::from(*taken)]),
            FromServer::Screen { width, height } => (21, [width.to_le_bytes(), height.to_le_bytes()].concat()),
            FromServer::Dots { bytes } => (22, bytes.clone()),
            FromServer::Offered { disc, protected } => (23, [&[u8::from(*protected)][..], &disc_bytes(*disc)].concat()),
            FromServer::Unusable { reason } => (24, reason.as_bytes().to_vec()),
        }
    }
}

impl FromClient {
    /// Reads the content of a message.
    pub fn decode(kind: u8, content: &[u8]) -> Option<Self> {
        let mut rest = content;
        let message = match kind {
            1 => FromClient::Attach { version: u32::from_le_bytes(take(&mut rest)?), client: number(&mut rest)? },
            2 => FromClient::From { position: number(&mut rest)? },
            3 => FromClient::Type { sequence: number(&mut rest)?, bytes: std::mem::take(&mut rest).to_vec() },
            4 => FromClient::Press(Press::decode(&mut rest)?),
            5 => FromClient::Look,
            6 => FromClient::Offer {
                cdrom: take::<1>(&mut rest)?[0],
                path: String::from_utf8(std::mem::take(&mut rest).to_vec()).ok()?,
            },
            _ => return None,
        };
        rest.is_empty().then_some(message)
    }
}

impl FromServer {
    /// Reads the content of a message.
    pub fn decode(kind: u8, content: &[u8]) -> Option<Self> {
        let mut rest = content;
        let message = match kind {
            16 => FromServer::Standing {
                live: take::<1>(&mut rest)? == [1],
                term: number(&mut rest)?,
                typed: Some(number(&mut rest)?).filter(|typed| *typed != UNKNOWN),
            },
            17 => FromServer::Output { position: number(&mut rest)?, bytes: std::mem::take(&mut rest).to_vec() },
            18 => FromServer::Taken { sequence: number(&mut rest)? },
            19 => FromServer::Ended {
                off: take::<1>(&mut rest)? == [1],
                reason: String::from_utf8_lossy(std::mem::take(&mut rest)).into_owned(),
            },
            20 => FromServer::Pressed { taken: take::<1>(&mut rest)? == [1] },
            21 => FromServer::Screen {
                width: u32::from_le_bytes(take(&mut rest)?),
                height: u32::from_le_bytes(take(&mut rest)?),
            },
            22 => FromServer::Dots { bytes: std::mem::take(&mut rest).to_vec() },
            23 => FromServer::Offered { protected: take::<1>(&mut rest)? == [1], disc: take_disc(&mut rest)? },
            24 => FromServer::Unusable { reason: String::from_utf8_lossy(std::mem::take(&mut rest)).into_owned() },
            _ => return None,
        };
        rest.is_empty().then_some(message)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, back) = rest.split_first_chunk::<N>()?;
    *rest = back;
    Some(*front)
}

fn disc_bytes(disc: Disc) -> Vec<u8> {
    [&disc.sectors.to_le_bytes()[..], &disc.hash].concat()
}

fn take_disc(rest: &mut &[u8]) -> Option<Disc> {
    Some(Disc { sectors: number(rest)?, hash: take(rest)? })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

/// Reads one message: its kind and content.
///
/// # Errors
/// When the connection ends, or the message is too long.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    Ok((kind, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back() {
        for message in [
            FromClient::Attach { version: VERSION, client: 7 },
            FromClient::From { position: 1 << 40 },
            FromClient::Type { sequence: 3, bytes: b"ls\r".to_vec() },
            FromClient::Press(Press::Key { code: 0x1234, pressed: true }),
            FromClient::Press(Press::Power),
            FromClient::Press(Press::Reset),
            FromClient::Look,
            FromClient::Press(Press::Eject(1)),
            FromClient::Press(Press::Insert(1, Disc { sectors: 9, hash: [3; 32] })),
            FromClient::Offer { cdrom: 1, path: "/a.iso".into() },
        ] {
            let (kind, content) = message.content();
            assert_eq!(FromClient::decode(kind, &content), Some(message));
        }
        for message in [
            FromServer::Standing { live: true, term: 3, typed: Some(4) },
            FromServer::Standing { live: false, term: 0, typed: None },
            FromServer::Output { position: 9, bytes: vec![1, 2] },
            FromServer::Taken { sequence: 4 },
            FromServer::Ended { off: true, reason: "off".into() },
            FromServer::Pressed { taken: true },
            FromServer::Screen { width: 720, height: 400 },
            FromServer::Dots { bytes: vec![1, 2, 3] },
            FromServer::Offered { disc: Disc { sectors: 9, hash: [3; 32] }, protected: true },
            FromServer::Unusable { reason: "no".into() },
        ] {
            let (kind, content) = message.content();
            assert_eq!(FromServer::decode(kind, &content), Some(message));
        }
    }

    #[test]
    fn nonsense_is_no_message() {
        for kind in 0..=255 {
            for length in 0..20 {
                let content = vec![0xff; length];
                let _ = (FromClient::decode(kind, &content), FromServer::decode(kind, &content));
            }
        }
        assert_eq!(FromClient::decode(1, &[0; 11]), None);
        assert_eq!(FromClient::decode(2, &[0; 9]), None);
    }
}
