//! Two machines with one of everything. The first one is driven; half way the second becomes what the first one is, from
//! its checkpoint, and from then on both are driven alike: they must say the same, and be the same at the end.

use std::cell::RefCell;
use std::sync::LazyLock;

use ftemu_devices::config::{Attachment, BootFrom, DriveConfig, DriveKind, NicConfig, NicModel};
use ftemu_devices::storage::MemoryStorage;
use ftemu_devices::{Config, Input, Machine};

use crate::operations::{self, Driver, Guest, Operation};
use crate::places::Chip;

/// Operations of one input at most; more would only make it slow.
const MOST_OPERATIONS: usize = 256;
/// Sectors of every drive; one of them cannot be reached.
const SECTORS: u64 = 256;
const BROKEN_SECTOR: u64 = 100;
const PAGE: usize = 4096;

/// What both are made of.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let ide = |channel, unit| Attachment::Ide { channel, unit };
    let drive = |attachment, kind, read_only| DriveConfig {
        attachment,
        kind,
        sectors: SECTORS,
        serial: "fuzz".into(),
        read_only,
    };
    Config {
        memory_bytes: 2 << 20,
        drives: vec![
            drive(ide(0, 0), DriveKind::Disk, false),
            drive(ide(0, 1), DriveKind::Disk, true),
            drive(ide(1, 0), DriveKind::Cdrom, true),
            drive(Attachment::Virtio, DriveKind::Disk, false),
        ],
        nics: [NicModel::E1000, NicModel::VirtioNet].map(|model| NicConfig { model, mac: [2, 0, 0, 0, 0, 1] }).into(),
        video: true,
        boot_order: vec![BootFrom::Network, BootFrom::Cdrom],
        ..Config::default()
    }
});

/// The pair.
pub struct Computers {
    first: Machine,
    second: Machine,
    /// What both are before an input.
    pristine: Vec<u8>,
    /// The first one's drives, and the second one's.
    disks: [Vec<MemoryStorage>; 2],
    /// Pages of the first one that inputs have touched since they were zeroes.
    touched: Vec<u32>,
}

/// Lends the pair of this thread, which is made once: making machines takes longer than most inputs.
pub fn with<T>(work: impl FnOnce(&mut Computers) -> T) -> T {
    thread_local!(static COMPUTERS: RefCell<Computers> = RefCell::new(Computers::new()));
    COMPUTERS.with_borrow_mut(work)
}

impl Computers {
    fn new() -> Computers {
        let make = || Machine::new(&CONFIG).expect("a machine");
        let (mut first, second) = (make(), make());
        operations::still(&mut first);
        operations::place_devices(&mut first);
        first.chips_mut().ide.enable();
        let mut pristine = Vec::new();
        first.save(&mut pristine);
        Computers { first, second, pristine, disks: Default::default(), touched: Vec::new() }
    }

    /// The machine as after power-on and firmware's work, with `bytes` in its memory.
    pub fn fresh(&mut self, bytes: &[u8]) -> &mut Machine {
        let machine = &mut self.first;
        machine.drives_mut().detach();
        machine.load(&self.pristine).expect("its own state");
        self.touched.extend(machine.take_dirty());
        for page in self.touched.drain(..) {
            machine.set_ram_page(page as usize, &[0; PAGE]);
        }
        self.disks[0] = (0..machine.drives().count()).map(|_| MemoryStorage::new(SECTORS)).collect();
        attach(machine, &self.disks[0]);
        let (_, memory) = machine.bus();
        memory.store(0, &bytes[..bytes.len().min(16 * PAGE)]);
        machine
    }

    /// The second machine becomes what the first one is.
    fn follow(&mut self) {
        let Computers { first, second, disks, touched, .. } = self;
        let (mut state, mut again) = (Vec::new(), Vec::new());
        first.drives_mut().fetch();
        first.save(&mut state);
        second.drives_mut().detach();
        second.load(&state).expect("a state that was saved");
        touched.extend(first.take_dirty());
        let mut pages = [&touched[..], &second.take_dirty()].concat();
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            second.set_ram_page(page as usize, first.ram_page(page as usize));
        }
        disks[1] = disks[0].iter().map(|disk| MemoryStorage::of(&disk.bytes())).collect();
        attach(second, &disks[1]);
        second.save(&mut again);
        assert!(state == again, "what was saved and loaded is saved otherwise");
        assert_eq!(first.digest(), second.digest(), "another machine was loaded");
    }

    /// Drives a chip, and compares.
    ///
    /// # Panics
    /// When the machine that was loaded half way is another one.
    pub fn compare(&mut self, chip: &Chip, guest: Guest, bytes: &[u8]) {
        let operations: Vec<Operation> =
            bytes.as_chunks().0.iter().take(MOST_OPERATIONS).map(|bytes| Operation(*bytes)).collect();
        let (before, after) = operations.split_at(operations.len() / 2);
        let mut driver = Driver::new(chip, guest, bytes);
        let machine = self.fresh(bytes);
        for operation in before {
            driver.act(machine, *operation);
        }
        driver.drain(machine);
        self.follow();
        let mut other = driver.clone();
        for operation in after {
            let said = (driver.act(&mut self.first, *operation), self.first.now_ns(), self.first.count());
            let again = (other.act(&mut self.second, *operation), self.second.now_ns(), self.second.count());
            assert_eq!(said, again, "the loaded machine says something else to {operation:x?}");
        }
        assert_eq!(driver.drain(&mut self.first), other.drain(&mut self.second), "other outputs");
        assert_eq!(self.first.digest(), self.second.digest(), "another machine in the end");
        for (disk, other) in self.disks[0].iter().zip(&self.disks[1]) {
            assert!(disk.bytes() == other.bytes(), "other disks in the end");
        }
    }

    /// Loads a kernel; if it is taken, resets the machine, which loads it again.
    ///
    /// # Panics
    /// When something is broken.
    pub fn boot(&mut self, kernel: &[u8], initrd: Option<&[u8]>, command_line: &str) {
        let Ok(mut machine) = Machine::new(&Config { memory_bytes: 24 << 20, ..Config::default() }) else { return };
        if machine.load_linux(kernel, initrd, command_line).is_ok() {
            machine.apply(&Input::Reset);
            let mut state = Vec::new();
            machine.drain();
            machine.save(&mut state);
            machine.load(&state).expect("what was saved loads");
        }
    }
}

fn attach(machine: &mut Machine, disks: &[MemoryStorage]) {
    for (number, disk) in (0..).zip(disks) {
        disk.set_broken(BROKEN_SECTOR, true);
        machine.drives_mut().attach(number, Box::new(disk.share())).expect("the size is right");
    }
}
