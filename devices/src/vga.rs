//! A VGA with the Bochs display interface, as a PCI function: 16 MiB of display memory behind base address 0, registers
//! behind base address 2, its BIOS in the expansion ROM, and the ports and the memory window of every VGA since 1987.
//!
//! Display memory and ROM are regions of the machine's memory, so accesses through base address 0 never come here; the
//! device only moves the regions when software moves the windows. What passes through A0000h-BFFFFh does come here.
//! There is no retrace interrupt, as on most PCs.

mod attribute;
mod dac;
mod dispi;
mod planes;
mod registers;
mod render;
mod retrace;
mod vram;

use crate::context::Context;
use crate::pci::device::PciDevice;
use crate::pci::function::{Function, Identity};
use crate::state::saved;
use dispi::Dispi;
use ftemu_cpu::Memory;
use ftemu_cpu::memory::Region;
use registers::{Beam, Registers};
pub use render::Image;
use std::io;
use vram::Pixels;

/// The number 1234h is what Bochs and others have used for this device; operating systems know it by that.
const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x1111,
    revision: 2,
    class: 0x03_0000,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    interrupt_pin: 0,
    multifunction: false,
};
/// Base addresses: display memory, registers.
const FRAMEBUFFER: u8 = 0;
const REGISTERS: u8 = 2;
const REGISTERS_BYTES: u64 = 4096;
/// What lies where behind base address 2: ports 3C0h-3DFh, the display interface, and how the pixels' bytes are ordered.
const VGA_PORTS: u64 = 0x400;
const DISPI_REGISTERS: u64 = 0x500;
const EXTENSION: u64 = 0x600;
/// Eight bytes of extension: their number, and "little-endian".
const EXTENSION_WORDS: [u32; 2] = [8, 0x1e1e_1e1e];
/// Ports of the Bochs display interface: index, and the data on either side of a word boundary.
const DISPI_INDEX: u16 = 0x1ce;
const DISPI_DATA: [u16; 2] = [0x1cf, 0x1d0];
/// The expansion ROM's bytes.
pub const ROM_BYTES: u64 = 64 << 10;

/// The device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vga {
    function: Function,
    registers: Registers,
    dispi: Dispi,
    latches: [u8; 4],
    /// Numbers of the regions.
    framebuffer: u8,
    rom: u8,
}
saved!(Vga { function, registers, dispi, latches, framebuffer, rom });

impl Vga {
    /// Adds what a VGA needs to the machine's memory: its display memory and its ROM.
    ///
    /// # Errors
    /// What the host says when it has no memory.
    pub fn add_regions(memory: &mut Memory) -> io::Result<[Region; 2]> {
        Ok([memory.add_region(vram::BYTES, true)?, memory.add_region(ROM_BYTES, false)?])
    }

    /// A VGA after power-on, with the regions of [`Vga::add_regions`].
    pub fn new([framebuffer, rom]: [Region; 2]) -> Vga {
        let function = Function::new(&IDENTITY)
            .with_memory_bar(FRAMEBUFFER, vram::BYTES, true)
            .with_memory_bar(REGISTERS, REGISTERS_BYTES, false)
            .with_rom_bar(ROM_BYTES);
        let (registers, dispi) = (Registers::default(), Dispi::default());
        Vga { function, registers, dispi, latches: [0; 4], framebuffer: framebuffer.number(), rom: rom.number() }
    }

    /// Puts the video BIOS in the expansion ROM; what is beyond 64 KiB is left out.
    pub fn set_rom(&self, memory: &mut Memory, bytes: &[u8]) {
        if let Some(rom) = memory.region(self.rom) {
            memory.region_store(rom, 0, bytes);
        }
    }

    /// Puts the regions where the base addresses say: after a reset or a load, and whenever software moves them.
    pub fn place(&self, memory: &mut Memory) {
        let places = [(self.framebuffer, self.function.bar(FRAMEBUFFER)), (self.rom, self.function.rom_bar())];
        for (number, base) in places {
            if let Some(region) = memory.region(number) {
                memory.move_region(region, base);
            }
        }
    }

    /// What a monitor would show.
    pub fn render(&self, memory: &Memory) -> Image {
        match memory.region(self.framebuffer) {
            Some(region) => render::render(self, Pixels::of(memory, region)),
            None => Image::dark(),
        }
    }

    fn beam(&self, now_ns: u64) -> Beam {
        match self.dispi.is_enabled() {
            true => retrace::extended(now_ns),
            false => retrace::beam(&self.registers, now_ns),
        }
    }

    /// Reads a port of 3B0h-3DFh (a byte), or of 1CEh-1D0h (a word).
    pub fn port_read(&mut self, now_ns: u64, port: u16) -> u16 {
        match port {
            DISPI_INDEX => self.dispi.index(),
            port if DISPI_DATA.contains(&port) => self.dispi.read(self.dispi.index()),
            _ => u16::from(self.registers.read(port, self.beam(now_ns))),
        }
    }

    /// Writes a port of 3B0h-3DFh (a byte), or of 1CEh-1D0h (a word).
    pub fn port_write(&mut self, memory: &mut Memory, port: u16, value: u16) {
        match port {
            DISPI_INDEX => self.dispi.select(value),
            port if DISPI_DATA.contains(&port) => self.write_dispi(memory, self.dispi.index(), value),
            _ => self.registers.write(port, value as u8),
        }
    }

    fn write_dispi(&mut self, memory: &mut Memory, register: u16, value: u16) {
        if self.dispi.write(register, value) {
            self.clear(memory);
        }
    }

    /// All of display memory, but only pages that hold something.
    fn clear(&self, memory: &mut Memory) {
        let Some(region) = memory.region(self.framebuffer) else { return };
        for offset in (0..memory.region_bytes(region).len() as u64).step_by(4096) {
            let page = memory.region_bytes(region).get(offset as usize..).unwrap_or_default();
            if page.iter().take(4096).any(|byte| *byte != 0) {
                memory.region_store(region, offset, &[0; 4096]);
            }
        }
    }

    /// A load of `size` bytes from A0000h-BFFFFh.
    pub fn window_read(&mut self, memory: &Memory, address: u64, size: u8) -> u64 {
        let bytes = (0..size.min(8)).map(|index| {
            let byte = self.window_read_byte(memory, address.wrapping_add(u64::from(index)));
            u64::from(byte) << (8 * index)
        });
        bytes.fold(0, |value, byte| value | byte)
    }

    fn window_read_byte(&mut self, memory: &Memory, address: u64) -> u8 {
        let Some(offset) = planes::offset(&self.registers, address) else { return 0xff };
        let Some(region) = memory.region(self.framebuffer) else { return 0xff };
        let pixels = Pixels::of(memory, region);
        if self.dispi.is_enabled() {
            return pixels.from(self.dispi.banked(offset), 1).first().copied().unwrap_or(0xff);
        }
        let place = planes::place(&self.registers, offset);
        self.latches = pixels.cell(place.address);
        planes::read(&self.registers, place, self.latches)
    }

    /// A store of `size` bytes to A0000h-BFFFFh.
    pub fn window_write(&mut self, memory: &mut Memory, address: u64, size: u8, value: u64) {
        for (index, byte) in value.to_le_bytes().into_iter().take(usize::from(size)).enumerate() {
            self.window_write_byte(memory, address.wrapping_add(index as u64), byte);
        }
    }

    fn window_write_byte(&mut self, memory: &mut Memory, address: u64, value: u8) {
        let Some(offset) = planes::offset(&self.registers, address) else { return };
        let Some(region) = memory.region(self.framebuffer) else { return };
        if self.dispi.is_enabled() {
            return memory.region_store(region, self.dispi.banked(offset), &[value]);
        }
        let place = planes::place(&self.registers, offset);
        let written = planes::write(&self.registers, value, self.latches);
        let mut cell = Pixels::of(memory, region).cell(place.address);
        for plane in (0..4).filter(|plane| place.planes >> plane & 1 != 0) {
            cell[plane] = written[plane];
        }
        memory.region_store(region, 4 * u64::from(place.address), &cell);
    }

    /// A byte or word of the registers behind base address 2.
    fn register_read(&mut self, now_ns: u64, offset: u64, size: u8) -> u64 {
        match offset {
            VGA_PORTS..0x420 => {
                let ports = (0..size.min(8)).take_while(|index| offset + u64::from(*index) < 0x420);
                let bytes = ports.map(|index| {
                    let port = 0x3c0 + (offset - VGA_PORTS) as u16 + u16::from(index);
                    u64::from(self.registers.read(port, self.beam(now_ns))) << (8 * index)
                });
                bytes.fold(0, |value, byte| value | byte)
            }
            DISPI_REGISTERS..0x516 => {
                let register = (offset - DISPI_REGISTERS) / 2;
                let word = u64::from(self.dispi.read(register as u16));
                let next = u64::from(self.dispi.read(register as u16 + 1));
                (word | next << 16) >> (8 * (offset & 1))
            }
            EXTENSION | 0x604 => u64::from(EXTENSION_WORDS[(offset - EXTENSION) as usize / 4]),
            _ => 0,
        }
    }

    fn register_write(&mut self, memory: &mut Memory, offset: u64, size: u8, value: u64) {
        match offset {
            VGA_PORTS..0x420 => {
                for (index, byte) in (0..).zip(value.to_le_bytes().into_iter().take(usize::from(size))) {
                    if offset + u64::from(index) < 0x420 {
                        self.registers.write(0x3c0 + (offset - VGA_PORTS) as u16 + index, byte);
                    }
                }
            }
            DISPI_REGISTERS..0x516 if offset & 1 == 0 => {
                for word in 0..u16::from(size.clamp(2, 4) / 2) {
                    let register = ((offset - DISPI_REGISTERS) / 2) as u16 + word;
                    self.write_dispi(memory, register, (value >> (16 * word)) as u16);
                }
            }
            _ => {}
        }
    }
}

impl PciDevice for Vga {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8) -> u64 {
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        match bar {
            REGISTERS => self.register_read(context.now_ns, offset, size) & ones,
            _ => ones, // the regions answer for themselves
        }
    }

    fn write(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64) {
        if bar == REGISTERS {
            self.register_write(context.memory, offset, size, value);
        }
    }

    fn line(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn tick(&mut self, _context: &mut Context) {}

    fn configure(&mut self, register: u8, size: u8, value: u32, context: &mut Context) {
        self.function.write(register, size, value);
        self.place(context.memory);
    }
}

#[cfg(test)]
mod tests;
