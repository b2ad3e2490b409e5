//! The machine: one CPU on its board. A run is a pure function of its state and of the inputs applied to it.
//!
//! Whenever [`Machine::run`], [`Machine::apply`] or [`Machine::skip_idle`] returns, the chips have done what is due at
//! the count reached, and no interrupt has been delivered at that count. So it does not matter how a run was sliced.

use crate::board::{Board, Chips};
use crate::clock::{self, Clock};
use crate::digest::RamDigest;
use crate::input::Input;
use crate::linux::{self, BootImage, LoadError};
use crate::output::{Emitted, Output};
use crate::rtc::Rtc;
use crate::state::{Saved, saved};
use ftemu_cpu::{Cpu, Icount, Memory, Stop};
use std::sync::Arc;

/// Outputs wait at most this many instructions before a run returns with them.
const OUTPUT_PATIENCE: u64 = 20_000;
/// Version of the saved form.
const FORMAT: u32 = 1;
const MINIMUM_MEMORY: u64 = 2 << 20;
/// Half of what the CPU's 40 physical address bits reach.
const MAXIMUM_MEMORY: u64 = 1 << 39;
const NMI: u8 = 2;

/// What a machine is made of. Part of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of RAM.
    pub memory_bytes: u64,
    /// What the real-time clock shows at virtual time 0: seconds since 1970, UTC.
    pub epoch_seconds: u64,
    /// The first rate of virtual time, in 1/1024 ns per instruction.
    pub rate: u32,
    /// The kernel's first entropy; anything, but the same on both sides.
    pub seed: [u8; 32],
}
saved!(Config { memory_bytes, epoch_seconds, rate, seed });

impl Default for Config {
    /// 512 MiB, 2024-01-01, 1 ns per instruction, a seed of zeros.
    fn default() -> Self {
        Config { memory_bytes: 512 << 20, epoch_seconds: 1_704_067_200, rate: clock::RATE_ONE, seed: [0; 32] }
    }
}

impl Config {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.save(out);
    }

    /// Takes a configuration off the front. `None`: the bytes are cut short.
    pub fn decode(bytes: &mut &[u8]) -> Option<Config> {
        Config::load(bytes)
    }
}

/// Why a machine could not be made or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The configuration asks for too little or too much RAM.
    #[error("a machine cannot have {memory_bytes} bytes of RAM: give at least 2 MiB and at most 512 GiB")]
    MemorySize {
        /// Bytes asked for.
        memory_bytes: u64,
    },
    /// The host cannot run or hold it.
    #[error("the host cannot provide the machine: {0}")]
    Host(#[from] std::io::Error),
    /// The bytes are no saved state of this version.
    #[error("the saved state is cut short, damaged or of another version of ftemu")]
    Malformed,
    /// The saved state is that of a machine with another configuration.
    #[error("the saved state is that of a machine with {saved} bytes of RAM; this one has {own}")]
    OtherMemory {
        /// Bytes of RAM in the saved state.
        saved: u64,
        /// Bytes of RAM here.
        own: u64,
    },
}

/// Why a run returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The count asked for is reached.
    Count,
    /// Outputs wait to be drained.
    Output,
    /// The CPU is halted until an interrupt. The next one can come at `deadline_ns` or from an input.
    Idle {
        /// Virtual time at which a chip will do something next; `None`: never.
        deadline_ns: Option<u64>,
    },
    /// The guest has switched the machine off.
    PoweredOff,
}

/// An image and its hash, so that digests need not read it again.
#[derive(Clone, Debug)]
struct Boot {
    image: BootImage,
    hash: [u8; 32],
}

impl Boot {
    fn new(image: BootImage) -> Boot {
        let mut bytes = Vec::new();
        image.save(&mut bytes);
        Boot { hash: *blake3::hash(&bytes).as_bytes(), image }
    }
}

/// One deterministic computer.
pub struct Machine {
    config: Config,
    boot: Option<Arc<Boot>>,
    cpu: Cpu,
    board: Board,
    off: bool,
    ram: RamDigest,
    /// Pages to hash again at the next digest.
    stale: Vec<bool>,
    /// Pages written since the last [`Machine::take_dirty`].
    dirty: Vec<bool>,
}

impl Machine {
    /// A machine after power-on with zeroed RAM and nothing to execute yet.
    ///
    /// # Errors
    /// [`MachineError::MemorySize`], [`MachineError::Host`].
    pub fn new(config: &Config) -> Result<Machine, MachineError> {
        let memory_bytes = config.memory_bytes;
        if !(MINIMUM_MEMORY..=MAXIMUM_MEMORY).contains(&memory_bytes) {
            return Err(MachineError::MemorySize { memory_bytes });
        }
        let memory = Memory::new(memory_bytes)?;
        let pages = memory.pages();
        let chips = Chips::new(Clock::new(config.rate), Rtc::new(config.epoch_seconds));
        Ok(Machine {
            config: config.clone(),
            boot: None,
            cpu: Cpu::new(memory)?,
            board: Board::new(chips),
            off: false,
            ram: RamDigest::new(pages),
            stale: vec![false; pages],
            dirty: vec![false; pages],
        })
    }

    /// Puts a kernel, an initrd and a command line in RAM and the CPU at the kernel's entry. They are kept: a reset
    /// boots them again.
    ///
    /// # Errors
    /// [`LoadError`]; the machine is as before then.
    pub fn load_linux(&mut self, kernel: &[u8], initrd: Option<&[u8]>, command_line: &str) -> Result<(), LoadError> {
        let image = BootImage {
            kernel: kernel.to_vec(),
            initrd: initrd.map(<[u8]>::to_vec),
            command_line: command_line.to_owned(),
        };
        let seed = self.boot_seed();
        linux::load(&mut self.cpu, &image, &seed)?;
        self.boot = Some(Arc::new(Boot::new(image)));
        Ok(())
    }

    /// The kernel's entropy: another one for every boot.
    fn boot_seed(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.config.seed);
        hasher.update(&self.cpu.count().0.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Instructions completed.
    pub fn count(&self) -> Icount {
        self.cpu.count()
    }

    /// Virtual nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.board.chips.clock.now_ns(self.cpu.count())
    }

    /// The CPU.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The CPU, to be changed from outside: a debugger, or a test that injects a fault.
    pub fn cpu_mut(&mut self) -> &mut Cpu {
        &mut self.cpu
    }

    /// The chips.
    pub fn chips(&self) -> &Chips {
        &self.board.chips
    }

    /// The chips, to be changed from outside: a debugger, or a test that injects a fault.
    pub fn chips_mut(&mut self) -> &mut Chips {
        &mut self.board.chips
    }

    /// Runs until `until` instructions are complete, exactly, or until there is a reason to return earlier.
    pub fn run(&mut self, until: Icount) -> Ran {
        loop {
            if let Some(ran) = self.reason_to_return(until) {
                return ran;
            }
            match self.deliver() {
                Delivery::Done => {}
                Delivery::Failed => {
                    self.board.chips.reset = true;
                    self.service();
                    continue;
                }
            }
            let (limit, waiting) = self.limit(until);
            match self.cpu.run(&mut self.board, limit, waiting) {
                Stop::Shutdown => self.board.chips.reset = true,
                Stop::Count | Stop::Device | Stop::Window | Stop::Halt => {}
            }
            self.service();
        }
    }

    fn reason_to_return(&self, until: Icount) -> Option<Ran> {
        let count = self.cpu.count();
        let waiting = self.board.outputs.first();
        let idle = self.is_idle();
        if waiting.is_some_and(|first| self.off || idle || count.0 >= first.0.saturating_add(OUTPUT_PATIENCE)) {
            return Some(Ran::Output);
        }
        if self.off {
            return Some(Ran::PoweredOff);
        }
        if count >= until {
            return Some(Ran::Count);
        }
        idle.then(|| Ran::Idle { deadline_ns: self.board.deadline() })
    }

    /// Halted, and nothing waits that would wake the CPU.
    fn is_idle(&self) -> bool {
        let nmi = self.board.chips.local_apic.has_nmi() && !self.cpu.state().nmi_blocked;
        let interrupt = self.cpu.interruptible() && self.board.has_interrupt();
        self.cpu.state().halted && !nmi && !interrupt && !self.off
    }

    /// Delivers an NMI or an interrupt if one waits and the CPU takes it now.
    fn deliver(&mut self) -> Delivery {
        let state = self.cpu.state();
        let delivered = if self.board.chips.local_apic.has_nmi() && !state.nmi_blocked && !state.interrupt_shadow {
            self.board.chips.local_apic.take_nmi();
            let delivered = self.cpu.interrupt(&mut self.board, NMI);
            self.cpu.state_mut().nmi_blocked = true;
            delivered
        } else if self.cpu.interruptible() && self.board.has_interrupt() {
            let vector = self.board.acknowledge(self.now_ns());
            self.cpu.interrupt(&mut self.board, vector)
        } else {
            true
        };
        if delivered { Delivery::Done } else { Delivery::Failed }
    }

    /// How far the CPU may run before the board must look again, and whether an interrupt waits for its window.
    fn limit(&self, until: Icount) -> (Icount, bool) {
        let count = self.cpu.count().0;
        let clock = &self.board.chips.clock;
        let deadline = self.board.deadline().and_then(|deadline| clock.count_at(deadline)).map(|at| at.0);
        let output = self.board.outputs.first().map(|first| first.0.saturating_add(OUTPUT_PATIENCE));
        // An NMI that is blocked has no window to wait for: look after every instruction.
        let nmi = self.board.chips.local_apic.has_nmi().then_some(count + 1);
        let limit = [deadline, output, nmi].into_iter().flatten().fold(until.0, u64::min);
        (Icount(limit.max(count + 1)), self.board.has_interrupt())
    }

    /// Lets chips do what is due at this count, and carries out what they asked for.
    fn service(&mut self) {
        let now_ns = self.now_ns();
        if self.board.deadline().is_some_and(|deadline| deadline <= now_ns) {
            self.board.tick(now_ns);
        }
        if self.board.chips.power.is_off() && !self.off {
            self.off = true;
            self.board.emit(self.cpu.count(), Output::PowerOff);
        }
        if self.board.chips.reset {
            self.reset();
        }
    }

    /// All but virtual time and the real-time clock starts again, from the image that was booted.
    fn reset(&mut self) {
        self.board.emit(self.cpu.count(), Output::Reset);
        let chips = &self.board.chips;
        self.board.chips = Chips::new(chips.clock.clone(), chips.rtc.clone());
        let memory = self.cpu.memory_mut();
        for page in 0..memory.pages() {
            if memory.page(page).iter().any(|byte| *byte != 0) {
                memory.store(memory.address_of(page), &[0; 4096]);
            }
        }
        *self.cpu.state_mut() = ftemu_cpu::State { halted: true, ..Default::default() };
        self.cpu.forget_derived();
        if let Some(boot) = self.boot.clone() {
            let seed = self.boot_seed();
            linux::load(&mut self.cpu, &boot.image, &seed).expect("the image was loaded before");
        }
    }

    /// When idle: virtual time jumps to the next deadline, which counts as one instruction. Otherwise, or if there is
    /// no deadline, nothing happens.
    pub fn skip_idle(&mut self) {
        let deadline = self.board.deadline();
        if let (true, Some(deadline)) = (self.is_idle(), deadline) {
            self.cpu.count_idle_skip();
            let clock = &mut self.board.chips.clock;
            clock.anchor(self.cpu.count(), deadline, clock.rate());
            self.service();
        }
    }

    /// Something arrives from outside, at the current count.
    pub fn apply(&mut self, input: &Input) {
        self.board.tick(self.now_ns());
        match input {
            Input::Clock { ns, rate } => self.board.chips.clock.anchor(self.cpu.count(), *ns, *rate),
            Input::Serial { port, bytes } => {
                if let Some(uart) = self.board.chips.serial.get_mut(usize::from(*port)) {
                    uart.push(bytes);
                }
            }
            Input::PowerButton => self.board.chips.power.press_power_button(),
        }
        self.board.tick(self.now_ns());
        self.service();
    }

    /// Takes what has left the machine since the last call.
    pub fn drain(&mut self) -> Vec<Emitted> {
        self.board.outputs.drain()
    }

    /// A hash of the whole state: configuration, CPU, chips, RAM. Outputs that wait are not part of it.
    pub fn digest(&mut self) -> [u8; 32] {
        self.absorb_dirty();
        let pages: Vec<u32> = marked(&self.stale);
        self.ram.update(self.cpu.memory(), &pages);
        pages.iter().for_each(|page| self.stale[*page as usize] = false);
        let mut state = Vec::new();
        self.config.save(&mut state);
        self.boot.as_ref().map(|boot| boot.hash).save(&mut state);
        self.save_running(&mut state);
        state.extend_from_slice(&self.ram.bytes());
        *blake3::hash(&state).as_bytes()
    }

    /// A cheap hash of the CPU's registers and the count; tells where two runs came apart.
    pub fn fingerprint(&self) -> u64 {
        let mut state = Vec::new();
        self.cpu.save(&mut state);
        let hash = blake3::hash(&state);
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }

    fn save_running(&self, out: &mut Vec<u8>) {
        self.cpu.save(out);
        self.board.chips.save(out);
    }

    /// Appends everything but RAM and the outputs that wait: drain them first.
    pub fn save(&self, out: &mut Vec<u8>) {
        FORMAT.save(out);
        self.config.save(out);
        self.boot.is_some().save(out);
        if let Some(boot) = &self.boot {
            boot.image.save(out);
        }
        self.save_running(out);
    }

    /// Becomes the machine that was saved; RAM comes page by page through [`Machine::set_ram_page`].
    ///
    /// # Errors
    /// [`MachineError::Malformed`] or [`MachineError::OtherMemory`]; the machine must then not be run.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), MachineError> {
        let mut bytes = bytes;
        let (config, boot) = load_head(&mut bytes).ok_or(MachineError::Malformed)?;
        if config.memory_bytes != self.config.memory_bytes {
            let (saved, own) = (config.memory_bytes, self.config.memory_bytes);
            return Err(MachineError::OtherMemory { saved, own });
        }
        if !self.cpu.load(&mut bytes) {
            return Err(MachineError::Malformed);
        }
        let chips = Chips::load(&mut bytes).filter(|_| bytes.is_empty()).ok_or(MachineError::Malformed)?;
        self.off = chips.power.is_off();
        self.board = Board::new(chips);
        self.config = config;
        self.boot = boot.map(|image| Arc::new(Boot::new(image)));
        Ok(())
    }

    /// One page of RAM; `index` is below [`Machine::ram_pages`].
    pub fn ram_page(&self, index: usize) -> &[u8; 4096] {
        self.cpu.memory().page(index)
    }

    /// Replaces a page of RAM; `index` is below [`Machine::ram_pages`].
    pub fn set_ram_page(&mut self, index: usize, bytes: &[u8; 4096]) {
        let memory = self.cpu.memory_mut();
        if memory.page(index) != bytes {
            memory.store(memory.address_of(index), bytes);
        }
    }

    /// Pages of RAM.
    pub fn ram_pages(&self) -> usize {
        self.cpu.memory().pages()
    }

    /// Pages of RAM written since the last call, ascending; all of them at first.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        self.absorb_dirty();
        let pages = marked(&self.dirty);
        self.dirty.fill(false);
        pages
    }

    fn absorb_dirty(&mut self) {
        for page in self.cpu.take_dirty() {
            self.stale[page as usize] = true;
            self.dirty[page as usize] = true;
        }
    }

    /// Drops everything derived (translations, cached walks); nothing a guest could notice.
    pub fn forget_derived(&mut self) {
        self.cpu.forget_derived();
    }
}

/// What became of a delivery.
enum Delivery {
    Done,
    /// A triple fault.
    Failed,
}

fn load_head(bytes: &mut &[u8]) -> Option<(Config, Option<BootImage>)> {
    if u32::load(bytes)? != FORMAT {
        return None;
    }
    Some((Config::load(bytes)?, Option::load(bytes)?))
}

fn marked(pages: &[bool]) -> Vec<u32> {
    (0u32..).zip(pages).filter(|(_, marked)| **marked).map(|(page, _)| page).collect()
}

#[cfg(test)]
mod tests;
