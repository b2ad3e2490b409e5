//! Messages as bytes: one byte for the kind, then the fields in order.

use super::{Begin, Message, Side, Stream, Way};
use crate::chain::Chain;
use crate::guest::{PAGE_BYTES, Page};
use crate::handshake::Identity;
use crate::mirror::{BATCH_BLOCKS, Hash};
use crate::record::Position;
use crate::wire::{Bad, Reader, put_bytes, put_number, put_text};
use ftemu_cpu::Icount;

/// Pages in one message at most.
const MOST_PAGES: u64 = 4096;
/// Drives at most.
const MOST_DRIVES: u64 = 256;

impl Message {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Message::Hello { identity, incarnation, side, term, position } => {
                out.push(0);
                identity.encode(&mut out);
                put_number(&mut out, *incarnation);
                out.push(u8::from(*side == Side::Primary));
                put_number(&mut out, *term);
                out.push(u8::from(position.is_some()));
                position.iter().for_each(|position| position.encode(&mut out));
            }
            Message::Welcome { term, resume } => {
                out.push(1);
                put_number(&mut out, *term);
                out.push(u8::from(*resume));
            }
            Message::Refused { reason } => {
                out.push(2);
                put_text(&mut out, reason);
            }
            Message::Begin(begin) => {
                out.push(3);
                begin.encode(&mut out);
            }
            Message::History { port, bytes } => {
                out.extend([4, *port]);
                put_bytes(&mut out, bytes);
            }
            Message::Pages { chunk, pages } => {
                out.push(5);
                put_number(&mut out, *chunk);
                put_number(&mut out, pages.len() as u64);
                for (index, page) in pages {
                    put_number(&mut out, u64::from(*index));
                    out.extend_from_slice(&page[..]);
                }
            }
            Message::State { chunk, bytes } => {
                out.push(15);
                put_number(&mut out, *chunk);
                put_bytes(&mut out, bytes);
            }
            Message::Complete { chunks } => {
                out.push(6);
                put_number(&mut out, *chunks);
            }
            Message::Taken { chunks } => {
                out.push(7);
                put_number(&mut out, *chunks);
            }
            Message::Ready { digest } => {
                out.push(8);
                out.extend_from_slice(digest);
            }
            Message::Log { first, released, records, chain } => {
                out.push(9);
                put_number(&mut out, *first);
                put_number(&mut out, released.0);
                put_bytes(&mut out, records);
                out.extend_from_slice(&chain.0);
            }
            Message::Acknowledge { received, executed, agreed } => {
                out.push(10);
                put_number(&mut out, *received);
                put_number(&mut out, executed.0);
                put_number(&mut out, agreed.0);
            }
            Message::Heartbeat { term, now_ns } => {
                out.push(11);
                put_number(&mut out, *term);
                put_number(&mut out, *now_ns);
            }
            Message::Differs { count, digest } => {
                out.push(12);
                put_number(&mut out, count.0);
                out.extend_from_slice(digest);
            }
            Message::Findings { text } => {
                out.push(13);
                put_text(&mut out, text);
            }
            Message::Goodbye { finished } => out.extend([14, u8::from(*finished)]),
            Message::Mirror { sectors } => {
                out.push(16);
                put_number(&mut out, sectors.len() as u64);
                sectors.iter().for_each(|sectors| put_number(&mut out, *sectors));
            }
            Message::Hashes { first, hashes } => {
                out.push(17);
                put_number(&mut out, *first);
                put_number(&mut out, hashes.len() as u64);
                out.extend(hashes.iter().flatten());
            }
            Message::Block { chunk, id: (drive, block), bytes } => {
                out.push(18);
                put_number(&mut out, *chunk);
                out.push(*drive);
                put_number(&mut out, *block);
                put_bytes(&mut out, bytes);
            }
            Message::Compared { next } => {
                out.push(19);
                put_number(&mut out, *next);
            }
        }
        out
    }

    /// Reads what [`Message::encode`] wrote.
    ///
    /// # Errors
    /// What is wrong and at which byte.
    pub fn decode(bytes: &[u8]) -> Result<Message, Bad> {
        let mut reader = Reader::new(bytes);
        let message = Self::read(&mut reader)?;
        reader.end()?;
        Ok(message)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Message, Bad> {
        Ok(match reader.byte()? {
            0 => Message::Hello {
                identity: Identity::decode(reader)?,
                incarnation: reader.number()?,
                side: if flag(reader)? { Side::Primary } else { Side::Standby },
                term: reader.number()?,
                position: if flag(reader)? { Some(Position::decode(reader)?) } else { None },
            },
            1 => Message::Welcome { term: reader.number()?, resume: flag(reader)? },
            2 => Message::Refused { reason: reader.text()? },
            3 => Message::Begin(Box::new(Begin::decode(reader)?)),
            4 => Message::History { port: reader.byte()?, bytes: reader.bytes()?.to_vec() },
            5 => Message::Pages { chunk: reader.number()?, pages: pages(reader)? },
            6 => Message::Complete { chunks: reader.number()? },
            7 => Message::Taken { chunks: reader.number()? },
            8 => Message::Ready { digest: reader.array()? },
            9 => Message::Log {
                first: reader.number()?,
                released: Icount(reader.number()?),
                records: reader.bytes()?.to_vec(),
                chain: Chain(reader.array()?),
            },
            10 => Message::Acknowledge {
                received: reader.number()?,
                executed: Icount(reader.number()?),
                agreed: Icount(reader.number()?),
            },
            11 => Message::Heartbeat { term: reader.number()?, now_ns: reader.number()? },
            12 => Message::Differs { count: Icount(reader.number()?), digest: reader.array()? },
            13 => Message::Findings { text: reader.text()? },
            15 => Message::State { chunk: reader.number()?, bytes: reader.bytes()?.to_vec() },
            14 => Message::Goodbye { finished: flag(reader)? },
            16 => Message::Mirror { sectors: sectors(reader)? },
            17 => Message::Hashes { first: reader.number()?, hashes: hashes(reader)? },
            18 => Message::Block {
                chunk: reader.number()?,
                id: (reader.byte()?, reader.number()?),
                bytes: reader.bytes()?.to_vec(),
            },
            19 => Message::Compared { next: reader.number()? },
            _ => return Err(reader.bad("no such kind of message")),
        })
    }
}

impl Begin {
    fn encode(&self, out: &mut Vec<u8>) {
        let Begin { term, position, config, state_bytes, digest, pages, streams } = self;
        put_number(out, *term);
        position.encode(out);
        put_bytes(out, config);
        put_number(out, *state_bytes);
        out.extend_from_slice(digest);
        put_number(out, *pages);
        put_number(out, streams.len() as u64);
        for Stream { way, start, end } in streams {
            out.extend(match way {
                Way::Serial(port) => [0, *port],
                Way::Nic(nic) => [1, *nic],
            });
            put_number(out, *start);
            put_number(out, *end);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Begin {
            term: reader.number()?,
            position: Position::decode(reader)?,
            config: reader.bytes()?.to_vec(),
            state_bytes: reader.number()?,
            digest: reader.array()?,
            pages: reader.number()?,
            streams: streams(reader)?,
        })
    }
}

fn sectors(reader: &mut Reader<'_>) -> Result<Vec<u64>, Bad> {
    let count = reader.number()?;
    if count > MOST_DRIVES {
        return Err(reader.bad("too many drives"));
    }
    (0..count).map(|_| reader.number()).collect()
}

fn hashes(reader: &mut Reader<'_>) -> Result<Vec<Hash>, Bad> {
    let count = reader.number()?;
    if count > BATCH_BLOCKS {
        return Err(reader.bad("too many hashes"));
    }
    (0..count).map(|_| reader.array()).collect()
}

fn streams(reader: &mut Reader<'_>) -> Result<Vec<Stream>, Bad> {
    let count = reader.number()?;
    if count > 512 {
        return Err(reader.bad("too many ways out"));
    }
    (0..count)
        .map(|_| {
            let way = match reader.byte()? {
                0 => Way::Serial(reader.byte()?),
                1 => Way::Nic(reader.byte()?),
                _ => return Err(reader.bad("no such kind of way out")),
            };
            let stream = Stream { way, start: reader.number()?, end: reader.number()? };
            if stream.start > stream.end { Err(reader.bad("history past its end")) } else { Ok(stream) }
        })
        .collect()
}

fn pages(reader: &mut Reader<'_>) -> Result<Vec<(u32, Box<Page>)>, Bad> {
    let count = reader.number()?;
    if count > MOST_PAGES {
        return Err(reader.bad("too many pages"));
    }
    (0..count).map(|_| Ok((reader.number32()?, Box::new(reader.array::<PAGE_BYTES>()?)))).collect()
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Bad> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reader.bad("neither yes nor no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::tests::example;

    fn examples() -> Vec<Message> {
        let position = Position { index: 7, count: Icount(1 << 33), chain: Chain([3; 16]) };
        let begin = Begin {
            term: 2,
            position,
            config: vec![1, 2],
            state_bytes: 300,
            digest: [4; 32],
            pages: 9,
            streams: vec![
                Stream { way: Way::Serial(0), start: 5, end: 6 },
                Stream { way: Way::Nic(1), start: 9, end: 9 },
            ],
        };
        vec![
            Message::Hello {
                identity: example(),
                incarnation: 5,
                side: Side::Standby,
                term: 1,
                position: Some(position),
            },
            Message::Hello { identity: example(), incarnation: 5, side: Side::Primary, term: 1, position: None },
            Message::Welcome { term: 1, resume: true },
            Message::Refused { reason: "no".into() },
            Message::Begin(Box::new(begin)),
            Message::History { port: 1, bytes: b"boot".to_vec() },
            Message::Pages { chunk: 3, pages: vec![(8, Box::new([6; PAGE_BYTES]))] },
            Message::Complete { chunks: 4 },
            Message::State { chunk: 0, bytes: vec![1, 2, 3] },
            Message::Taken { chunks: 2 },
            Message::Ready { digest: [8; 32] },
            Message::Log { first: 4, released: Icount(70), records: vec![9; 20], chain: Chain([1; 16]) },
            Message::Acknowledge { received: 4, executed: Icount(5), agreed: Icount(7) },
            Message::Heartbeat { term: 1, now_ns: 1 << 40 },
            Message::Differs { count: Icount(3), digest: [1; 32] },
            Message::Findings { text: "RAX".into() },
            Message::Goodbye { finished: true },
        ]
    }

    #[test]
    fn messages_round_trip_and_no_cut_is_taken_for_whole() {
        for message in examples() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message.clone()));
            for length in 0..bytes.len() {
                assert!(Message::decode(&bytes[..length]).is_err(), "{message:?} cut to {length}");
            }
        }
    }

    #[test]
    fn altered_bytes_never_panic() {
        for message in examples() {
            let bytes = message.encode();
            for place in 0..bytes.len().min(64) {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut altered = bytes.clone();
                    altered[place] = value;
                    let _ = Message::decode(&altered);
                }
            }
        }
    }
}
