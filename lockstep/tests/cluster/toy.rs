//! A guest so small that thousands of its lives fit into a test. Each instruction is a step of a hash that now and
//! then stores to RAM, loads, reads the clock, sends a byte or halts; all that comes in changes all that goes out.

use crate::random::mix;
use ftemu_cpu::Icount;
use ftemu_devices::drives::Drives;
use ftemu_devices::storage::{MemoryStorage, Request};
use ftemu_lockstep::guest::{Digest, Page};
use ftemu_lockstep::{Emitted, Guest, GuestError, Input, Output, Ran};

const PAGES: usize = 4;

/// In a seed: the guest sleeps most of the time.
pub const SLEEPY: u64 = 1 << 62;
/// In a seed: the guest leaves its disks alone.
pub const DISKLESS: u64 = 1 << 61;
/// In a seed: the guest has a cache that, while warm, spoils the instruction at count 1234.
pub const LEAKY: u64 = 1 << 63;

/// The guest's address.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The disks of a side.
pub type Disks = [MemoryStorage; 2];

/// A broadcast with a number in it.
pub fn frame(from: [u8; 6], number: u64) -> Vec<u8> {
    [&[0xff; 6][..], &from, &[0x88, 0xb5], &number.to_le_bytes()].concat()
}

/// Sizes of the guest's drives, in sectors.
pub const DRIVES: [u64; 2] = [2100, 60];
/// Requests it has under way at most.
const MOST_REQUESTS: usize = 3;

/// The guest.
#[derive(Debug)]
pub struct Toy {
    seed: u64,
    count: u64,
    anchor_count: u64,
    anchor_ns: u64,
    rate: u32,
    pub registers: [u64; 4],
    /// Halted until this virtual time.
    halted: Option<u64>,
    off: bool,
    ram: Vec<Page>,
    drives: Drives,
    /// Requests under way: drive and ticket.
    requests: Vec<(u8, u64)>,
    outputs: Vec<Emitted>,
    /// A broken CPU: at this count it computes something else.
    pub faulty_at: Option<u64>,
    /// Something cached can be noticed: at count 1234, until [`Guest::forget_derived`].
    pub leaky: bool,
    /// No other host can hold it.
    pub misfit: bool,
}

impl Toy {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            count: 0,
            anchor_count: 0,
            anchor_ns: 0,
            rate: 1024,
            registers: [mix(seed), 1, 2, 3],
            halted: None,
            off: false,
            ram: vec![[0; 4096]; PAGES],
            drives: Drives::new(DRIVES.map(|sectors| (sectors, false))),
            requests: Vec::new(),
            outputs: Vec::new(),
            faulty_at: None,
            leaky: seed & LEAKY != 0,
            misfit: false,
        }
    }

    /// The same with disks.
    pub fn on(mut self, disks: &Disks) -> Self {
        for (drive, disk) in (0..).zip(disks) {
            self.drives.attach(drive, Box::new(disk.share())).expect("a disk that fits");
        }
        self
    }

    /// A changed copy, without disks.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut toy = Toy::new(self.seed);
        toy.load(&Guest::save(self)).expect("a toy's state");
        toy.ram.clone_from(&self.ram);
        (toy.faulty_at, toy.leaky, toy.misfit) = (self.faulty_at, self.leaky, self.misfit);
        change(&mut toy);
        toy
    }

    fn send(&mut self, output: Output) {
        self.outputs.push(Emitted { count: Icount(self.count), output });
    }

    fn step(&mut self) {
        let [a, b, c, d] = self.registers;
        let a = mix(a ^ b.rotate_left(7));
        let place = (b >> 8) as usize % (PAGES * 4096);
        let (page, byte) = (place / 4096, place % 4096);
        self.registers = [a, b.wrapping_add(a | 1), c, d];
        match a >> 56 {
            0..=63 => self.ram[page][byte] = (a >> 20) as u8,
            64..=127 => self.registers[2] = c ^ u64::from(self.ram[1][byte % 512]) << (a & 31),
            128..=143 => self.registers[3] = d ^ self.now_ns(),
            144..=151 => {
                let letter = b'a' + (mix(c ^ d) % 26) as u8;
                if a & 0x300 == 0 {
                    self.send(Output::Frame { nic: 0, bytes: frame(MAC, mix(c ^ d)) });
                }
                let bytes = vec![letter];
                self.send(Output::Serial { port: u8::from(a & 0xff == 0), bytes });
            }
            200..=207 => self.request(a),
            153.. if self.seed & SLEEPY != 0 => self.halted = Some(self.now_ns() + (a & 0xff) * 1_000_000),
            152 => self.halted = Some(self.now_ns() + (a & 0x3ff) * 100_000),
            _ => (),
        }
        if self.faulty_at == Some(self.count) || self.leaky && self.count == 1234 {
            self.registers[2] ^= 1 << 17;
        }
        self.count += 1;
    }

    /// Begins to write, read, discard or flush.
    fn request(&mut self, a: u64) {
        let drive = u8::from(a & 7 == 0);
        let sector = (a >> 8) % DRIVES[usize::from(drive)];
        let request = match a >> 20 & 7 {
            0..=2 => Request::Write { sector, bytes: vec![(a >> 24) as u8; 512] },
            3 => Request::Flush,
            4 => Request::Discard { sector, count: a >> 24 & 3 },
            _ => Request::Read { sector, count: 1 },
        };
        if self.requests.len() < MOST_REQUESTS && self.seed & DISKLESS == 0 {
            let ticket = self.drives.issue(drive, self.now_ns(), request).ticket;
            self.requests.push((drive, ticket));
        }
    }

    /// Takes what is complete; it wakes the guest.
    fn completions(&mut self) {
        let (drives, word, halted) = (&mut self.drives, &mut self.registers[2], &mut self.halted);
        self.requests.retain(|&(drive, ticket)| {
            let result = drives.complete(drive, ticket);
            if let Some(result) = &result {
                let bytes = result.as_deref().unwrap_or(&[0xee]);
                *word = bytes.iter().step_by(64).fold(*word, |word, byte| mix(word ^ u64::from(*byte)));
                *halted = None;
            }
            result.is_none()
        });
    }

    /// When a halted guest goes on.
    fn wakes_at(&self) -> Option<u64> {
        let halted = self.halted?;
        Some(self.drives.deadline().map_or(halted, |due| due.min(halted)))
    }

    /// All but RAM and what is on the disks.
    pub fn state(&self) -> Vec<u8> {
        let mut state: Vec<u8> = self.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        for (drive, ticket) in &self.requests {
            state.push(*drive);
            state.extend(ticket.to_le_bytes());
        }
        state.resize(96 + 9 * MOST_REQUESTS, 0xff);
        self.drives.save(&mut state);
        state
    }

    fn words(&self) -> [u64; 12] {
        let Self { seed, count, anchor_count, anchor_ns, rate, registers, halted, off, .. } = self;
        let [a, b, c, d] = *registers;
        let deadline = halted.map_or(0, |deadline| deadline + 1);
        [*seed, *count, *anchor_count, *anchor_ns, u64::from(*rate), a, b, c, d, deadline, u64::from(*off), 0]
    }
}

impl Guest for Toy {
    fn create(config: &[u8]) -> Result<Self, GuestError> {
        let seed = config.try_into().map_err(|_| GuestError("not a toy's configuration".into()))?;
        Ok(Toy::new(u64::from_le_bytes(seed)))
    }

    fn config(&self) -> Vec<u8> {
        if self.misfit { Vec::new() } else { self.seed.to_le_bytes().to_vec() }
    }

    fn count(&self) -> Icount {
        Icount(self.count)
    }

    fn now_ns(&self) -> u64 {
        self.anchor_ns + (((self.count - self.anchor_count) * u64::from(self.rate)) >> 10)
    }

    fn run(&mut self, until: Icount) -> Ran {
        while self.count < until.0 {
            if self.off {
                return Ran::PoweredOff;
            }
            if self.drives.is_due(self.now_ns()) {
                if let Err(fault) = self.drives.release(self.now_ns()) {
                    return Ran::DriveFault { drive: fault.drive, ticket: fault.ticket };
                }
                self.count += 1;
                self.completions();
                continue;
            }
            if let Some(deadline) = self.wakes_at() {
                if self.now_ns() < deadline {
                    return Ran::Idle { deadline_ns: Some(deadline) };
                }
                self.halted = None;
            }
            self.step();
            if self.outputs.first().is_some_and(|first| self.count - first.count.0 > 20) {
                return Ran::Output;
            }
        }
        Ran::Count
    }

    fn skip_idle(&mut self) {
        let deadline = self.wakes_at().expect("only an idle guest skips");
        self.halted = self.halted.filter(|halted| *halted > deadline);
        self.anchor_ns = self.now_ns().max(deadline);
        self.count += 1;
        self.anchor_count = self.count;
    }

    fn apply(&mut self, input: &Input) {
        match input {
            Input::Clock { ns, rate } => {
                self.anchor_ns = self.now_ns().max(*ns);
                self.anchor_count = self.count;
                self.rate = *rate;
            }
            Input::Serial { port, bytes } => {
                for &byte in bytes {
                    self.registers[2] = mix(self.registers[2] ^ u64::from(byte) << 8 ^ u64::from(*port));
                    self.registers[3] ^= self.now_ns();
                }
                self.halted = None;
            }
            Input::Frame { bytes, .. } => {
                self.registers[2] = bytes.iter().fold(self.registers[2], |word, byte| mix(word ^ u64::from(*byte)));
                self.registers[3] ^= self.now_ns();
                self.halted = None;
            }
            Input::PowerButton => {
                self.off = true;
                self.send(Output::PowerOff);
            }
            Input::DriveFault { drive, ticket } => self.drives.fail(*drive, *ticket),
            _ => (), // nothing else is plugged in
        }
    }

    fn drain(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.outputs)
    }

    fn digest(&mut self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.state());
        for page in &self.ram {
            hasher.update(page);
        }
        *hasher.finalize().as_bytes()
    }

    fn fingerprint(&self) -> u64 {
        self.registers.iter().fold(0, |hash, &register| mix(hash ^ register))
    }

    fn save(&self) -> Vec<u8> {
        let mut state = self.state();
        self.drives.save_answers(&mut state);
        state
    }

    fn load(&mut self, state: &[u8]) -> Result<(), GuestError> {
        let Some((words, rest)) = state.split_at_checked(96) else {
            return Err(GuestError("a toy's state is cut short".into()));
        };
        let words: Vec<u64> = words.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        let Ok([seed, count, anchor_count, anchor_ns, rate, a, b, c, d, deadline, off, _]) =
            <[u64; 12]>::try_from(words)
        else {
            return Err(GuestError("not a toy's state".into()));
        };
        (self.seed, self.count, self.anchor_count, self.anchor_ns) = (seed, count, anchor_count, anchor_ns);
        (self.rate, self.registers, self.halted) = (rate as u32, [a, b, c, d], deadline.checked_sub(1));
        self.off = off != 0;
        let damaged = || GuestError("a toy's requests are damaged".into());
        let (requests, mut rest) = rest.split_at_checked(9 * MOST_REQUESTS).ok_or_else(damaged)?;
        let request = |bytes: &[u8]| (bytes[0], u64::from_le_bytes(bytes[1..].try_into().unwrap()));
        self.requests = requests.chunks_exact(9).map(request).filter(|(drive, _)| *drive != 0xff).collect();
        self.drives.load(&mut rest).ok_or_else(damaged)
    }

    fn pages(&self) -> usize {
        PAGES
    }

    fn page(&self, index: usize) -> &Page {
        &self.ram[index]
    }

    fn set_page(&mut self, index: usize, page: &Page) {
        self.ram[index] = *page;
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        (0..PAGES as u32).collect()
    }

    fn drives(&mut self) -> &mut Drives {
        &mut self.drives
    }

    fn instruction_pointer(&self) -> u64 {
        self.registers[1]
    }

    fn forget_derived(&mut self) {
        self.leaky = false;
    }

    fn fields(&self) -> Vec<(String, Vec<u8>)> {
        let names = ["seed", "count", "anchor_count", "anchor_ns", "rate", "A", "B", "C", "D", "deadline", "off", "-"];
        names.iter().zip(self.words()).map(|(name, word)| ((*name).into(), word.to_le_bytes().to_vec())).collect()
    }
}
