//! What a hostile guest, its user and its network do: eight bytes each.

use std::hash::{DefaultHasher, Hasher};

use ftemu_cpu::state::rflags;
use ftemu_cpu::{Bus, Icount};
use ftemu_devices::{Emitted, Input, Machine, Ran};

use crate::drivers;
use crate::places::Chip;

/// PCI configuration mechanism #1.
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
/// Base addresses of a function, the expansion ROM's with the others.
const BASES: [u8; 7] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30];
/// Where devices get their windows.
const FIRST_PORT: u64 = 0xc000;
const FIRST_ADDRESS: u64 = 0xe000_0000;
/// Most steps between two operations, and instructions of a guest that runs.
const STEPS: u32 = 16;
const INSTRUCTIONS: u64 = 200;

/// Whether the guest executes anything by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// It is halted for ever; the harness is its CPU.
    Still,
    /// It runs whatever is in its memory.
    Running,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Operation(pub [u8; 8]);

impl Operation {
    fn kind(self) -> u8 {
        self.0[0] & 15
    }

    /// 1, 2, 4 or 8.
    fn size(self) -> u8 {
        1 << (self.0[0] >> 4 & 3)
    }

    fn offset(self) -> u64 {
        u64::from(u16::from_le_bytes([self.0[2], self.0[3]]))
    }

    fn value(self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// One of `count` things.
    fn choose(self, count: usize) -> usize {
        usize::from(self.0[1]) % count.max(1)
    }
}

/// A range of ports or addresses.
#[derive(Clone, Copy, Debug)]
struct Range {
    port: bool,
    first: u64,
    last: u64,
}

/// Does operations to a chip.
#[derive(Clone)]
pub struct Driver<'a> {
    ranges: Vec<Range>,
    slots: &'static [u8],
    guest: Guest,
    /// What frames are cut from.
    bytes: &'a [u8],
    said: DefaultHasher,
    outputs: Vec<Emitted>,
}

impl<'a> Driver<'a> {
    /// For a chip; frames come from `bytes`.
    pub fn new(chip: &Chip, guest: Guest, bytes: &'a [u8]) -> Self {
        let ports = chip.ports.iter().map(|(first, last)| (true, u64::from(*first), u64::from(*last)));
        let windows = chip.windows.iter().map(|(first, last)| (false, *first, *last));
        let ranges = ports.chain(windows).map(|(port, first, last)| Range { port, first, last }).collect();
        let (said, outputs) = (DefaultHasher::new(), Vec::new());
        Driver { ranges, slots: chip.slots, guest, bytes, said, outputs }
    }

    /// Does one; gives back a hash of all that the guest has read so far.
    pub fn act(&mut self, machine: &mut Machine, operation: Operation) -> u64 {
        match operation.kind() {
            0 | 1 => self.read(machine, operation),
            2..=5 => self.write(machine, operation, u64::from(operation.value())),
            6 => self.write(machine, operation, u64::from(operation.value()) << 32 | u64::from(operation.value())),
            7 => self.configure(machine, operation),
            8 => pass(machine, u64::from(operation.value()) << (operation.0[1] & 7)),
            9 => wait(machine),
            10 => self.poke(machine, operation),
            11 => self.input(machine, operation),
            12 => self.interrupt(machine, operation),
            13 => self.row(machine, operation),
            14 => self.look(machine, operation),
            _ => self.drive(machine, operation),
        }
        self.settle(machine);
        self.said.finish()
    }

    /// What came out since it was last called.
    pub fn drain(&mut self, machine: &mut Machine) -> Vec<Emitted> {
        self.outputs.extend(machine.drain());
        std::mem::take(&mut self.outputs)
    }

    fn hear(&mut self, value: u64) {
        self.said.write_u64(value);
    }

    /// An address in the chip's windows, those behind base addresses included.
    fn place(&self, machine: &Machine, operation: Operation) -> Option<(bool, u64)> {
        let mut ranges = self.ranges.clone();
        for function in self.slots.iter().filter_map(|slot| machine.chips().pci_device(*slot)).map(|it| it.function()) {
            for bar in 0..=6 {
                let first = if bar == 6 { function.rom_bar() } else { function.bar(bar) };
                let range =
                    |first| Range { port: function.bar_is_io(bar), first, last: first + function.bar_length(bar) - 1 };
                ranges.extend(first.map(range));
            }
        }
        let Range { port, first, last } = *ranges.get(operation.choose(ranges.len()))?;
        // A framebuffer is longer than an offset can say.
        let offset = if last - first > 0xffff { operation.offset() << 4 } else { operation.offset() };
        Some((port, first + offset % (last - first + 1)))
    }

    fn read(&mut self, machine: &mut Machine, operation: Operation) {
        let Some((port, at)) = self.place(machine, operation) else { return };
        let (now, size) = (machine.count(), operation.size());
        let (board, memory) = machine.bus();
        let value = match port {
            true => u64::from(board.port_read(memory, now, at as u16, size.min(4))),
            false => board.mmio_read(memory, now, at, size),
        };
        self.hear(value);
    }

    fn write(&mut self, machine: &mut Machine, operation: Operation, value: u64) {
        let Some((port, at)) = self.place(machine, operation) else { return };
        let (now, size) = (machine.count(), operation.size());
        let (board, memory) = machine.bus();
        match port {
            true => board.port_write(memory, now, at as u16, size.min(4), value as u32),
            false => board.mmio_write(memory, now, at, size, value),
        }
    }

    /// Configuration space: written or read.
    fn configure(&mut self, machine: &mut Machine, operation: Operation) {
        let Some(slot) = self.slots.get(operation.choose(self.slots.len())) else { return };
        let register = operation.0[2];
        match operation.0[3] & 1 {
            0 => self.hear(u64::from(configuration_read(machine, *slot, register))),
            _ => configuration_write(machine, *slot, register, operation.size(), operation.value()),
        }
    }

    fn poke(&mut self, machine: &mut Machine, operation: Operation) {
        let (_, memory) = machine.bus();
        memory.store(operation.offset() & 0x7fff, &operation.value().to_le_bytes());
    }

    fn input(&mut self, machine: &mut Machine, operation: Operation) {
        let [.., a, b, c, d] = operation.0;
        let piece = |start: u64, most: usize| {
            let rest = self.bytes.get(start as usize % (self.bytes.len() + 1)..).unwrap_or_default();
            rest[..rest.len().min(most)].to_vec()
        };
        let length = usize::from(u16::from_le_bytes([a, b])) & 0x7ff;
        machine.apply(&match operation.choose(9) {
            0 => Input::Serial { port: a & 3, bytes: piece(operation.offset(), 300) },
            1 => Input::PowerButton,
            2 => Input::Link { nic: a & 3, up: b & 1 != 0 },
            3 => Input::Key { code: u16::from_le_bytes([a, b]) & 0x3ff, pressed: c & 1 != 0 },
            4 => Input::Pointer {
                dx: i16::from_le_bytes([a, b]),
                dy: i16::from_le_bytes([c, d]),
                wheel: operation.0[2] as i8,
                buttons: operation.0[3],
            },
            5 => Input::DriveFault { drive: a & 3, ticket: u64::from(b & 15) },
            // Seldom: it takes as long as thousands of accesses.
            6 if (a, b) == (0xff, 0x5e) => Input::Reset,
            7 => {
                let mut bytes = piece(operation.offset(), length);
                bytes.resize(length.min(1514), 0);
                Input::Frame { nic: c & 1, bytes }
            }
            // To the card itself.
            _ => {
                let mut bytes = [&[2, 0, 0, 0, 0, 1][..], &piece(operation.offset(), length)].concat();
                bytes.resize(length.clamp(60, 1514), 0);
                Input::Frame { nic: c & 1, bytes }
            }
        });
    }

    /// The CPU's side of the interrupt controllers, and the local APIC's registers that are no memory.
    fn interrupt(&mut self, machine: &mut Machine, operation: Operation) {
        let (now, now_ns, value) = (machine.count(), machine.now_ns(), u64::from(operation.value()));
        let (board, _) = machine.bus();
        let said = match operation.choose(6) {
            0 => u64::from(board.msr_write(now, 0x6e0, now_ns.saturating_add(value))),
            // Where the APIC is stays as it is; whether it is there changes.
            1 => u64::from(board.msr_write(now, 0x1b, 0xfee0_0000 | value & 0xfff)),
            2 => [0x1b, 0x6e0].into_iter().filter_map(|register| board.msr_read(now, register)).sum(),
            3 => {
                board.set_task_priority(now, operation.0[4] & 15);
                u64::from(board.task_priority())
            }
            _ if board.has_interrupt() => u64::from(board.acknowledge(now_ns)),
            _ => 0,
        };
        self.hear(said);
    }

    /// String input and output.
    fn row(&mut self, machine: &mut Machine, operation: Operation) {
        let Some((true, port)) = self.place(machine, operation) else { return };
        let size = operation.size().min(4);
        let mut bytes = [operation.0[4]; 512];
        let bytes = &mut bytes[..usize::from(operation.0[5]) * 2];
        let (board, _) = machine.bus();
        let done = match operation.0[6] & 1 {
            0 => board.port_read_row(port as u16, size, bytes),
            _ => board.port_write_row(port as u16, size, bytes),
        };
        assert!(done <= bytes.len());
        self.said.write(bytes);
    }

    /// What people see of the machine; looking must not change it.
    fn look(&mut self, machine: &mut Machine, operation: Operation) {
        let Some(vga) = machine.chips().vga.as_ref().filter(|_| operation.choose(4) == 0) else { return };
        let image = vga.render(machine.cpu().memory());
        assert_eq!(image.rgb.len() as u64, 3 * u64::from(image.width) * u64::from(image.height));
        assert!(image.width > 0 && image.height > 0 && image.width <= 4096 && image.height <= 4096);
        self.said.write(&image.rgb);
    }

    /// What the chip's driver would do, or a store anywhere at all.
    fn drive(&mut self, machine: &mut Machine, operation: Operation) {
        if let Some(slot) = self.slots.get(operation.choose(self.slots.len() + 1)) {
            return drivers::drive(machine, *slot, operation);
        }
        let now = machine.count();
        let (board, memory) = machine.bus();
        let address = u64::from(operation.value()) | u64::from(operation.0[2]) << 32;
        if memory.page_of(address).is_none() {
            board.mmio_write(memory, now, address, operation.size(), operation.offset());
            let value = board.mmio_read(memory, now, address, operation.size());
            self.hear(value);
        }
    }

    /// Lets happen what is due.
    fn settle(&mut self, machine: &mut Machine) {
        if self.guest == Guest::Still {
            still(machine);
        }
        // Nobody has this port; but what the chips have asked for is now carried out, as after an instruction.
        machine.apply(&Input::Serial { port: u8::MAX, bytes: Vec::new() });
        let until = Icount(machine.count().0 + INSTRUCTIONS);
        for _ in 0..STEPS {
            match machine.run(until) {
                Ran::DriveFault { drive, ticket } => machine.apply(&Input::DriveFault { drive, ticket }),
                Ran::Output => self.outputs.extend(machine.drain()),
                Ran::Count | Ran::Idle { .. } | Ran::PoweredOff => break,
            }
            if self.guest == Guest::Still {
                still(machine);
            }
        }
    }
}

/// The CPU waits and hears nothing: neither interrupts nor NMIs.
pub fn still(machine: &mut Machine) {
    let state = machine.cpu_mut().state_mut();
    (state.halted, state.nmi_blocked) = (true, true);
    state.rflags &= !rflags::IF;
}

/// Time passes.
fn pass(machine: &mut Machine, ns: u64) {
    let ns = machine.now_ns().saturating_add(ns).min(1 << 60);
    machine.apply(&Input::Clock { ns, rate: 1024 });
}

/// Time passes until something is due.
fn wait(machine: &mut Machine) {
    let (board, _) = machine.bus();
    if let Some(deadline) = board.deadline() {
        let ns = deadline.saturating_sub(machine.now_ns());
        pass(machine, ns);
    }
}

fn configuration_read(machine: &mut Machine, slot: u8, register: u8) -> u32 {
    let (now, address) = (machine.count(), configuration_address(slot, register));
    let (board, memory) = machine.bus();
    board.port_write(memory, now, CONFIG_ADDRESS, 4, address);
    board.port_read(memory, now, CONFIG_DATA, 4)
}

fn configuration_write(machine: &mut Machine, slot: u8, register: u8, size: u8, value: u32) {
    let (now, address) = (machine.count(), configuration_address(slot, register));
    let (board, memory) = machine.bus();
    board.port_write(memory, now, CONFIG_ADDRESS, 4, address);
    board.port_write(memory, now, CONFIG_DATA + u16::from(register & 3), size.min(4), value);
}

fn configuration_address(slot: u8, register: u8) -> u32 {
    1 << 31 | u32::from(slot) << 8 | u32::from(register & !3)
}

/// Gives every base address a place of its own and switches all functions on, as firmware does.
pub fn place_devices(machine: &mut Machine) {
    let (mut port, mut address) = (FIRST_PORT, FIRST_ADDRESS);
    for slot in 0..=u8::MAX {
        if machine.chips().pci_device(slot).is_none() {
            continue;
        }
        for base in BASES {
            let rom = u32::from(base == 0x30);
            configuration_write(machine, slot, base, 4, !rom);
            let mask = configuration_read(machine, slot, base);
            let (next, length) = match mask & 1 {
                0 => (&mut address, !(mask & !15)),
                _ => (&mut port, !(mask & !3) & 0xffff),
            };
            let length = u64::from(length).wrapping_add(1);
            if mask == 0 {
                continue;
            }
            *next = next.next_multiple_of(length);
            configuration_write(machine, slot, base, 4, *next as u32 | rom);
            *next += length;
        }
        configuration_write(machine, slot, 0x04, 2, 7);
    }
}
