//! One server's process: the real node with a toy for a guest, and what it has let out and recorded.

use crate::toy::{DRIVES, Disks, Toy};
use ftemu_cpu::Icount;
use ftemu_devices::storage::Storage;
use ftemu_lockstep::event::Finish;
use ftemu_lockstep::{
    Done, Driver, Hands, Identity, Node, Output, PROTOCOL, Place, Record, RecordReader, Rest, Settings, State,
};

pub type Nanoseconds = u64;
pub const MILLISECOND: Nanoseconds = 1_000_000;
/// One instruction takes so long.
pub const INSTRUCTION: Nanoseconds = 20_000;

/// Outputs of one way out, in order: how many there were after each piece, and the count it was made at.
#[derive(Default)]
pub struct Made {
    pieces: Vec<(u64, u64)>,
    total: u64,
    /// Made before this process had the guest.
    base: u64,
}

impl Made {
    fn add(&mut self, more: u64, count: Icount) {
        self.total += more;
        self.pieces.push((self.total, count.0));
    }

    /// A new guest came with so many already made.
    pub fn rebase(&mut self, made: u64) {
        *self = Made { pieces: Vec::new(), total: made, base: made };
    }

    /// Made by the time the guest had completed `count` instructions.
    pub fn by(&self, count: Icount) -> u64 {
        let place = self.pieces.partition_point(|&(_, made)| made < count.0);
        place.checked_sub(1).map_or(self.base, |place| self.pieces[place].0)
    }

    /// The count at which number `position` was made, if this process made it.
    pub fn at(&self, position: u64) -> Option<Icount> {
        let place = self.pieces.partition_point(|&(end, _)| end <= position);
        self.pieces.get(place).map(|&(_, count)| Icount(count))
    }
}

/// A process, alive or remembered.
pub struct Process {
    /// 0 or 1: which server it runs on.
    pub side: usize,
    pub driver: Driver<Toy>,
    pub dead: bool,
    pub finished: Option<Finish>,
    /// It is stopped (as by SIGSTOP) until this time.
    pub paused_until: Option<Nanoseconds>,
    /// The result of the work that is being done.
    pub working: Option<Done>,
    /// When it is to be woken.
    pub armed: Option<Nanoseconds>,
    /// Serial bytes of port 0 that the guest made.
    pub bytes: Made,
    /// Frames of network card 0.
    pub frames: Made,
    /// What its record file holds.
    pub records: Vec<Record>,
    reader: RecordReader,
    /// Index of the first record in the pair's log.
    pub start: u64,
    /// The process that gave it the guest.
    pub parent: Option<usize>,
    /// The process that last became its standby.
    pub standby: Option<usize>,
}

pub fn identity() -> Identity {
    Identity {
        protocol: PROTOCOL,
        build: "test".into(),
        cpu_vendor: "AuthenticAMD".into(),
        cpu_family: 0x19,
        cpu_model: 1,
        drives: DRIVES.to_vec(),
    }
}

pub fn settings(arbiter: bool) -> Settings {
    Settings {
        arbiter,
        record: true,
        slice_ns: MILLISECOND,
        digest_interval: 2048,
        digest_rest: Rest { times: 100, most_ns: 1000 * MILLISECOND },
        progress_ns: 2 * MILLISECOND,
        keep_every: 8,
        keep_rest: Rest { times: 100, most_ns: 30_000 * MILLISECOND },
        history_bytes: 64 << 10,
        chunk_pages: 1,
        chunk_window: 2,
        ..Settings::default()
    }
}

impl Process {
    pub fn primary(side: usize, number: u64, settings: Settings, now: Nanoseconds, toy: Toy) -> Self {
        let node = Node::primary(settings, identity(), number, now, Place::of(&toy));
        Self::new(side, Driver::new(node, Hands::with(toy)))
    }

    pub fn standby(side: usize, number: u64, settings: Settings, now: Nanoseconds, disks: &Disks) -> Self {
        let storages = disks.iter().map(|disk| Box::new(disk.share()) as Box<dyn Storage>).collect();
        Self::new(side, Driver::new(Node::standby(settings, identity(), number, now), Hands::with_disks(storages)))
    }

    fn new(side: usize, driver: Driver<Toy>) -> Self {
        Self {
            side,
            driver,
            dead: false,
            finished: None,
            paused_until: None,
            working: None,
            armed: None,
            bytes: Made::default(),
            frames: Made::default(),
            records: Vec::new(),
            reader: RecordReader::new(),
            start: 0,
            parent: None,
            standby: None,
        }
    }

    /// It is there and not done.
    pub fn alive(&self) -> bool {
        !self.dead && self.finished.is_none()
    }

    pub fn state(&self) -> State {
        self.driver.node.status().state
    }

    /// It is the guest, or will be when the other is gone.
    pub fn holds_the_guest(&self) -> bool {
        let status = self.driver.node.status();
        self.alive() && (status.live || matches!(status.state, State::Backup | State::TakingOver | State::Claiming))
    }

    /// Notes what a piece of work brought out; gives the instructions it took.
    pub fn note(&mut self, before: Icount, done: &Done) -> u64 {
        let Done::Ran { outputs, at, .. } = done else { return 5 };
        for emitted in outputs {
            match &emitted.output {
                Output::Serial { port: 0, bytes } => self.bytes.add(bytes.len() as u64, emitted.count),
                Output::Frame { nic: 0, .. } => self.frames.add(1, emitted.count),
                _ => (),
            }
        }
        at.count.0.saturating_sub(before.0).max(1)
    }

    /// Bytes for the record file. A standby that begins anew begins its file anew.
    pub fn record(&mut self, bytes: &[u8]) {
        if bytes.starts_with(ftemu_lockstep::file::MAGIC) {
            self.reader = RecordReader::new();
            self.records.clear();
        }
        self.reader.feed(bytes);
        if let Some(head) = bytes.starts_with(ftemu_lockstep::file::MAGIC).then(|| self.reader.head()) {
            let head = head.expect("a good head").expect("a whole head");
            let whole = head.image.config.is_empty() || head.image.restore::<Toy>().is_ok();
            assert!(whole, "the image is of the head's position");
            self.start = head.position.index;
        }
        while let Some(record) = self.reader.next_record().expect("a good record") {
            self.records.push(record);
        }
    }
}
