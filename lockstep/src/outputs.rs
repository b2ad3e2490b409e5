//! Outputs between the guest that made them and the outside that may see them.
//!
//! Every byte that a serial port sends has a position: the number of bytes the guest sent before it. Every frame that a
//! network card sends has a number likewise. Both sides count alike, so whoever reads from the survivor can tell a byte
//! it has from one it lacks. Of bytes a history is kept; frames are gone when they are out.

use crate::event::Release;
use crate::guest::{Emitted, Output};
use crate::message::{Stream, Way};
use crate::waits::{Percentiles, Waits};
use ftemu_cpu::Icount;
use std::collections::{BTreeMap, VecDeque};

/// Held outputs, for each serial port the latest bytes, for each network card the number of frames.
#[derive(Clone, Debug)]
pub struct Outputs {
    held: VecDeque<Held>,
    held_bytes: usize,
    ports: BTreeMap<u8, Port>,
    frames: BTreeMap<u8, u64>,
    history_bytes: usize,
    waits: Waits,
}

#[derive(Clone, Debug)]
struct Held {
    /// It was made after this count ...
    from: Icount,
    /// ... and up to this one, at which it was drained.
    count: Icount,
    /// Records that must be acknowledged first.
    needs: u64,
    /// Host time at which it was made.
    made_ns: u64,
    release: Release,
}

#[derive(Clone, Debug, Default)]
struct Port {
    /// Position of the first byte of `bytes`.
    start: u64,
    /// Position after the last byte that may be seen.
    released: u64,
    bytes: VecDeque<u8>,
}

/// Console bytes for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Position of the first byte; later than asked for if the history does not reach back so far.
    pub position: u64,
    /// The bytes, up to the last that may be seen.
    pub bytes: Vec<u8>,
}

impl Port {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn trim(&mut self, most: usize) {
        let free = self.released.saturating_sub(self.start);
        let excess = (self.bytes.len().saturating_sub(most) as u64).min(free);
        self.bytes.drain(..usize::try_from(excess).unwrap_or(0));
        self.start += excess;
    }
}

impl Outputs {
    /// None yet; at most `history_bytes` of released bytes are kept per port.
    pub fn new(history_bytes: usize) -> Self {
        Self {
            held: VecDeque::new(),
            held_bytes: 0,
            ports: BTreeMap::new(),
            frames: BTreeMap::new(),
            history_bytes,
            waits: Waits::default(),
        }
    }

    /// Takes what the guest made after `from` and up to `count`; it may leave when `needs` records are acknowledged.
    /// `made` tells the host's time at which the guest was at a count.
    pub fn hold(
        &mut self,
        outputs: Vec<Emitted>,
        from: Icount,
        count: Icount,
        needs: u64,
        made: impl Fn(Icount) -> u64,
    ) {
        for Emitted { output, count: at } in outputs {
            let made_ns = made(at);
            let release = match output {
                Output::Serial { port, bytes } => {
                    let stream = self.ports.entry(port).or_default();
                    let position = stream.end();
                    stream.bytes.extend(&bytes);
                    self.held_bytes += bytes.len();
                    Release::Serial { port, position, bytes }
                }
                Output::Frame { nic, bytes } => {
                    let sent = self.frames.entry(nic).or_default();
                    let number = *sent;
                    *sent += 1;
                    self.held_bytes += bytes.len();
                    Release::Frame { nic, number, bytes }
                }
                Output::PowerOff => Release::PowerOff,
                Output::Reset => Release::Reset,
            };
            self.held.push_back(Held { from, count, needs, made_ns, release });
        }
    }

    /// Takes out what may leave at `now` (ns) when `acknowledged` records are.
    pub fn release(&mut self, acknowledged: u64, now: u64) -> Vec<Release> {
        let ready = |held: &Held| held.needs <= acknowledged;
        for held in self.held.iter().take_while(|held| ready(held)) {
            self.waits.add(now.saturating_sub(held.made_ns));
        }
        self.pop_while(ready)
    }

    /// How long what was released here had waited.
    pub fn waits(&mut self) -> &mut Waits {
        &mut self.waits
    }

    /// The same, as figures.
    pub fn waited(&self) -> Percentiles {
        self.waits.percentiles()
    }

    /// Drops what the peer has let out: everything made up to `count`.
    pub fn released_by_peer(&mut self, count: Icount) {
        self.pop_while(|held| held.count <= count);
    }

    /// Drops what is held and must never be seen.
    pub fn discard(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }

    fn pop_while(&mut self, ready: impl Fn(&Held) -> bool) -> Vec<Release> {
        let mut out = Vec::new();
        while self.held.front().is_some_and(&ready) {
            let Some(held) = self.held.pop_front() else { break };
            match &held.release {
                Release::Serial { port, position, bytes } => {
                    self.held_bytes -= bytes.len();
                    let stream = self.ports.entry(*port).or_default();
                    stream.released = position + bytes.len() as u64;
                    stream.trim(self.history_bytes);
                }
                Release::Frame { bytes, .. } => self.held_bytes -= bytes.len(),
                Release::PowerOff | Release::Reset => (),
            }
            out.push(held.release);
        }
        out
    }

    /// Everything made up to this count has been released, for a guest that was last drained at `count`.
    pub fn released_to(&self, count: Icount) -> Icount {
        self.held.front().map_or(count, |held| held.from)
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes held: of consoles and of frames.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Released bytes of `port` from position `from` on.
    pub fn piece(&self, port: u8, from: u64) -> Piece {
        let Some(stream) = self.ports.get(&port) else { return Piece { position: from, bytes: Vec::new() } };
        let position = from.max(stream.start);
        let length = stream.released.saturating_sub(position);
        let skip = usize::try_from(position - stream.start).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Piece { position, bytes: stream.bytes.iter().skip(skip).take(length).copied().collect() }
    }

    /// The heads of all ways out and their histories, for a state transfer.
    pub fn streams(&self) -> Vec<(Stream, Vec<u8>)> {
        let port = |(&port, stream): (&u8, &Port)| {
            let bytes = stream.bytes.iter().copied().collect();
            (Stream { way: Way::Serial(port), start: stream.start, end: stream.end() }, bytes)
        };
        let nic = |(&nic, &sent): (&u8, &u64)| (Stream { way: Way::Nic(nic), start: sent, end: sent }, Vec::new());
        self.ports.iter().map(port).chain(self.frames.iter().map(nic)).collect()
    }

    /// Takes over the heads of all ways out; the histories of ports follow with [`Outputs::history`].
    pub fn begin(&mut self, streams: &[Stream]) {
        self.discard();
        self.ports.clear();
        self.frames.clear();
        for &Stream { way, start, end } in streams {
            match way {
                Way::Serial(port) => {
                    self.ports.insert(port, Port { start, released: start, bytes: VecDeque::new() });
                }
                Way::Nic(nic) => {
                    self.frames.insert(nic, end);
                }
            }
        }
    }

    /// Takes over bytes of history.
    pub fn history(&mut self, port: u8, bytes: &[u8]) {
        let stream = self.ports.entry(port).or_default();
        stream.bytes.extend(bytes);
        stream.released = stream.end();
    }

    /// The ways out stand where `streams` says.
    pub fn stands_at(&self, streams: &[Stream]) -> bool {
        let end = |way| match way {
            Way::Serial(port) => self.ports.get(&port).map(Port::end),
            Way::Nic(nic) => self.frames.get(&nic).copied(),
        };
        streams.iter().all(|stream| end(stream.way) == Some(stream.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: &[u8]) -> Vec<Emitted> {
        vec![Emitted { count: Icount(0), output: Output::Serial { port: 0, bytes: bytes.to_vec() } }]
    }

    #[test]
    fn nothing_is_seen_before_its_records_are_acknowledged() {
        let mut outputs = Outputs::new(100);
        outputs.hold(sent(b"one"), Icount(0), Icount(10), 1, |_| 0);
        outputs.hold(sent(b"two"), Icount(10), Icount(20), 2, |_| 0);
        assert!(outputs.piece(0, 0).bytes.is_empty());
        assert_eq!(outputs.release(1, 0), [Release::Serial { port: 0, position: 0, bytes: b"one".to_vec() }]);
        assert_eq!(outputs.piece(0, 1), Piece { position: 1, bytes: b"ne".to_vec() });
        assert_eq!(outputs.release(2, 0), [Release::Serial { port: 0, position: 3, bytes: b"two".to_vec() }]);
        assert_eq!(outputs.piece(0, 9), Piece { position: 9, bytes: Vec::new() });
    }

    #[test]
    fn history_is_trimmed_but_never_what_is_held() {
        let mut outputs = Outputs::new(4);
        outputs.hold(sent(b"0123456789"), Icount(0), Icount(10), 1, |_| 0);
        assert_eq!(outputs.held_bytes(), 10);
        outputs.released_by_peer(Icount(9));
        assert_eq!(outputs.held_bytes(), 10);
        outputs.released_by_peer(Icount(10));
        assert_eq!(outputs.piece(0, 0), Piece { position: 6, bytes: b"6789".to_vec() });
    }

    #[test]
    fn frames_are_numbered_per_card_and_a_standby_continues_the_numbers() {
        let frame = |nic, byte| Emitted { count: Icount(0), output: Output::Frame { nic, bytes: vec![byte; 60] } };
        let release = |nic, number, byte| Release::Frame { nic, number, bytes: vec![byte; 60] };
        let mut outputs = Outputs::new(4);
        outputs.hold(vec![frame(0, 1), frame(1, 2), frame(0, 3)], Icount(0), Icount(10), 1, |_| 0);
        assert_eq!((outputs.held_bytes(), outputs.release(0, 0)), (180, vec![]));
        assert_eq!(outputs.release(1, 0), [release(0, 0, 1), release(1, 0, 2), release(0, 1, 3)]);
        assert_eq!(outputs.held_bytes(), 0);
        let (heads, _): (Vec<Stream>, Vec<Vec<u8>>) = outputs.streams().into_iter().unzip();
        let mut standby = Outputs::new(4);
        assert!(!standby.stands_at(&heads));
        standby.begin(&heads);
        assert!(standby.stands_at(&heads));
        standby.hold(vec![frame(0, 4), frame(1, 5)], Icount(10), Icount(11), 0, |_| 0);
        assert_eq!(standby.release(0, 0), [release(0, 2, 4), release(1, 1, 5)]);
    }

    #[test]
    fn a_standby_continues_the_positions() {
        let mut outputs = Outputs::new(4);
        outputs.hold(sent(b"0123456789"), Icount(0), Icount(10), 1, |_| 0);
        outputs.release(1, 0);
        let (heads, histories): (Vec<Stream>, Vec<Vec<u8>>) = outputs.streams().into_iter().unzip();
        let mut standby = Outputs::new(4);
        standby.begin(&heads);
        assert!(!standby.stands_at(&heads));
        standby.history(0, &histories[0]);
        assert!(standby.stands_at(&heads));
        standby.hold(sent(b"ab"), Icount(10), Icount(11), 0, |_| 0);
        assert_eq!(standby.release(0, 0), [Release::Serial { port: 0, position: 10, bytes: b"ab".to_vec() }]);
    }
}
