//! Two sides of a pair with a hostile line between them: whatever one says can be changed, doubled, lost or invented before
//! the other hears it. A real line is authenticated; all that is asked here is that nobody panics or goes on for ever.

use std::collections::VecDeque;

use ftemu_devices::storage::Storage;
use ftemu_lockstep::chain::Chain;
use ftemu_lockstep::log::read_batch;
use ftemu_lockstep::record::Position;
use ftemu_lockstep::{
    Action, Class, Driver, Event, Hands, Identity, Input, Message, Node, PROTOCOL, Place, Settings, Step, Verdict,
};

use crate::toy::{DRIVES, Disks, Toy};

/// Turns of one input at most.
const TURNS: usize = 400;
/// Messages under way in one direction at most.
const UNDER_WAY: usize = 64;
const MILLISECOND: u64 = 1_000_000;

struct Side {
    driver: Driver<Toy>,
    /// What it has said and the other not yet heard.
    said: VecDeque<Vec<u8>>,
    finished: bool,
}

struct World {
    sides: [Side; 2],
    link: u64,
    now: u64,
    won: bool,
}

/// Any bytes as what happens on the line.
///
/// # Panics
/// When something is broken.
pub fn pair(bytes: &[u8]) {
    let Some(([first, seed], mut rest)) = bytes.split_first_chunk::<2>().map(|(head, rest)| (*head, rest)) else {
        return;
    };
    let mut world = World::new(first & 1 != 0, u64::from(seed));
    world.connect();
    for _ in 0..TURNS {
        let Some((turn, more)) = rest.split_first_chunk::<4>() else { return };
        rest = more;
        world.turn(*turn, &mut rest);
    }
}

impl World {
    fn new(arbiter: bool, seed: u64) -> World {
        let settings = Settings {
            arbiter,
            record: true,
            digest_interval: 2048,
            keep_every: 8,
            history_bytes: 4 << 10,
            chunk_pages: 1,
            chunk_window: 2,
            ..Settings::default()
        };
        let toy = Toy::new(seed).on(&disks());
        let storages = disks().iter().map(|disk| Box::new(disk.share()) as Box<dyn Storage>).collect();
        let primary = Node::primary(settings.clone(), identity(), 1, 0, Place::of(&toy));
        let standby = Node::standby(settings, identity(), 2, 0);
        let side = |driver| Side { driver, said: VecDeque::new(), finished: false };
        let sides =
            [Driver::new(primary, Hands::with(toy)), Driver::new(standby, Hands::with_disks(storages))].map(side);
        World { sides, link: 0, now: 0, won: false }
    }

    fn connect(&mut self) {
        self.link += 1;
        for side in 0..2 {
            self.sides[side].said.clear();
            self.tell(side, Event::LinkUp { link: self.link });
        }
    }

    fn turn(&mut self, [kind, a, b, c]: [u8; 4], rest: &mut &[u8]) {
        let side = usize::from(kind >> 4 & 1);
        match kind & 15 {
            0..=2 => (0..=a & 7).for_each(|_| self.work(side)),
            3 | 4 => (0..=a & 7).for_each(|_| self.deliver(side, |_| {})),
            5 => self.deliver(side, |message| change(message, a, b, c)),
            6 => drop(self.sides[side].said.pop_front()),
            7 => self.sides[side].said.extend(self.sides[side].said.front().cloned()),
            8 => {
                let length = usize::from(a).min(rest.len());
                let (message, after) = rest.split_at(length);
                *rest = after;
                let message = message.to_vec();
                self.tell(side, Event::Received { link: self.link, bytes: message });
            }
            9 => self.pass(u64::from(a) * MILLISECOND),
            10 => self.connect(),
            11 => self.tell(side, Event::LinkDown { link: self.link, died: a & 1 != 0 }),
            12 => self.tell(side, Event::Input(Input::Serial { port: 0, bytes: vec![b; usize::from(a & 31)] })),
            13 => self.tell(side, Event::Input(Input::Frame { nic: 0, bytes: vec![b; usize::from(a)] })),
            14 => self.deliver(side, |message| believable(message, a, b, c)),
            _ => self.won = a & 1 != 0,
        }
    }

    fn tell(&mut self, side: usize, event: Event) {
        if !self.sides[side].finished {
            self.sides[side].driver.handle(self.now, event);
            self.listen(side);
        }
    }

    /// Carries out what a side wants done.
    fn listen(&mut self, side: usize) {
        while let Some(action) = self.sides[side].driver.poll() {
            match action {
                Action::Send { link, class, bytes } if link == self.link => {
                    assert_eq!(Message::decode(&bytes).map(|message| message.class()), Ok(class));
                    let said = &mut self.sides[side].said;
                    if class != Class::Heartbeat || said.len() < UNDER_WAY {
                        said.push_back(bytes);
                    }
                }
                Action::Claim { term } => {
                    let verdict = if self.won { Verdict::Won } else { Verdict::Lost { to: "another".into() } };
                    self.sides[side].driver.handle(self.now, Event::Claimed { term, verdict });
                }
                Action::Finished(_) => self.sides[side].finished = true,
                _ => {}
            }
        }
    }

    fn work(&mut self, side: usize) {
        if self.sides[side].finished {
            return;
        }
        match self.sides[side].driver.step(self.now) {
            Step::Worked(done) => {
                self.now += 1000;
                self.sides[side].driver.finish(self.now, done);
            }
            Step::Wait(Some(until)) => self.now = self.now.max(until.min(self.now + MILLISECOND)),
            Step::Wait(None) => {}
        }
        self.listen(side);
    }

    fn pass(&mut self, ns: u64) {
        self.now += ns;
        for side in 0..2 {
            if !self.sides[side].finished {
                self.sides[side].driver.node.tick(self.now);
                self.listen(side);
            }
        }
    }

    /// What a side has said first reaches the other one, changed.
    fn deliver(&mut self, side: usize, alter: impl FnOnce(&mut Vec<u8>)) {
        if let Some(mut bytes) = self.sides[side].said.pop_front() {
            alter(&mut bytes);
            self.tell(1 - side, Event::Received { link: self.link, bytes });
        }
    }
}

fn change(message: &mut Vec<u8>, low: u8, high: u8, value: u8) {
    let place = usize::from(u16::from_le_bytes([low, high & 0x7f])) % message.len().max(1);
    match message.get_mut(place) {
        Some(byte) if high & 0x80 == 0 => *byte = value,
        _ => message.truncate(place),
    }
}

/// Changes a number in a message, and makes a log's chain fit again.
fn believable(message: &mut Vec<u8>, a: u8, b: u8, c: u8) {
    let Ok(mut decoded) = Message::decode(message) else { return };
    let number = u64::from(b) << (c & 63);
    match &mut decoded {
        Message::Welcome { term, .. } | Message::Heartbeat { term, .. } => *term = number,
        Message::Hello { term, position, .. } => match a & 1 {
            0 => *term = number,
            _ => *position = Some(Position { index: number, ..Position::start(ftemu_lockstep::Icount(number)) }),
        },
        Message::Begin(begin) => match a & 7 {
            0 => begin.term = number,
            1 => begin.position.count.0 = number,
            2 => begin.position.index = number,
            3 => begin.state_bytes = number,
            4 => begin.pages = number,
            5 => begin.digest[0] ^= b,
            6 => begin.streams.iter_mut().for_each(|stream| (stream.start, stream.end) = (number, number)),
            _ => begin.streams.clear(),
        },
        Message::State { chunk, .. } | Message::Pages { chunk, .. } | Message::Block { chunk, .. } if a & 1 == 0 => {
            *chunk = number;
        }
        Message::Pages { pages, .. } => pages.iter_mut().for_each(|page| page.0 = number as u32),
        Message::Block { id, bytes, .. } => match a & 2 {
            0 => *id = (b, number),
            _ => bytes.truncate(number as usize),
        },
        Message::Mirror { sectors } => sectors.iter_mut().for_each(|sectors| *sectors = number),
        Message::Hashes { first, hashes } => match a & 1 {
            0 => *first = number,
            _ => hashes.truncate(usize::from(b)),
        },
        Message::Compared { next: it } | Message::Complete { chunks: it } | Message::Taken { chunks: it } => {
            *it = number
        }
        Message::Acknowledge { received, executed, agreed } => match a & 3 {
            0 => *received = number,
            1 => executed.0 = number,
            _ => agreed.0 = number,
        },
        Message::Differs { count, .. } => count.0 = number,
        Message::Log { first, released, records, chain } => match a & 3 {
            0 => *first = number,
            1 => released.0 = number,
            _ => {
                change(records, b, 0, c);
                let start = Position::start(ftemu_lockstep::Icount(0));
                *chain = read_batch(start, records).map_or(Chain::default(), |(_, end)| end.chain);
            }
        },
        _ => {}
    }
    *message = decoded.encode();
}

fn disks() -> Disks {
    DRIVES.map(ftemu_devices::storage::MemoryStorage::new)
}

fn identity() -> Identity {
    Identity {
        protocol: PROTOCOL,
        build: "fuzz".into(),
        cpu_vendor: "GenuineIntel".into(),
        cpu_family: 6,
        cpu_model: 1,
        drives: DRIVES.to_vec(),
    }
}
