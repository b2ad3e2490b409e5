//! The ACPI tables: what the operating system is told about the board (ACPI 6.5 chapter 5).
//!
//! They are made once as a block of bytes with the places in it that hold addresses and checksums. For a kernel that is
//! booted directly they are placed in the BIOS area here; firmware places them itself, by a script (`loader`).

mod dsdt;
mod loader;

use crate::{hpet, io_apic, local_apic, map, power, rtc};
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace as Space, GAS};
use acpi_tables::{Aml, facs::FACS, sdt::Sdt};
pub use loader::loader_files;

/// Where the RSDP is after a direct boot; the tables follow. Paragraph-aligned, in the area that operating systems scan.
pub const RSDP_ADDRESS: u64 = 0xf_0000;
const OEM: [u8; 6] = *b"FTEMU ";
const TABLE: [u8; 8] = *b"FTEMUPC ";
const REVISION: u32 = 1;
/// FADT boot architecture flags: legacy devices on the board, an 8042.
const BOOT_FLAGS: u16 = 1 << 0 | 1 << 1;
/// And: no VGA.
const NO_VGA: u16 = 1 << 2;
/// MADT flag: a pair of 8259s is there too.
const PCAT_COMPAT: u32 = 1;
/// MADT interrupt flags: active high, level-triggered.
const ACTIVE_HIGH_LEVEL: u16 = 0xd;
/// The tables begin at multiples of this: the FACS wants it.
const ALIGNMENT: usize = 64;

/// What of a machine the tables depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Bytes of RAM below 4 GiB.
    pub low_bytes: u64,
    /// Whether there is a VGA.
    pub video: bool,
}

/// A place in the tables that holds the address of another one: relative to the block's first byte until it is placed.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    at: usize,
    bytes: usize,
}

/// All tables but the RSDP, as if they lay at address 0.
#[derive(Debug, Default)]
struct Tables {
    bytes: Vec<u8>,
    pointers: Vec<Pointer>,
    /// First byte and length of each table with a checksum.
    sums: Vec<(usize, usize)>,
    rsdt: usize,
    xsdt: usize,
}

/// Offset of the checksum in a table, and in the RSDP of that of its first part and of the whole.
const CHECKSUM: usize = 9;
const RSDP_CHECKSUM: usize = 8;
const RSDP_FIRST_PART: usize = 20;
const RSDP_WHOLE_CHECKSUM: usize = 32;
const RSDP_BYTES: usize = 36;
/// Offsets of RSDT and XSDT address in the RSDP; of FACS and DSDT address in the FADT, the latter in two widths.
const RSDP_RSDT: usize = 16;
const RSDP_XSDT: usize = 24;
const FADT_FACS: usize = 36;
const FADT_DSDT: usize = 40;
const FADT_X_DSDT: usize = 140;
const HEADER_BYTES: usize = 36;

impl Tables {
    fn new(described: &Described) -> Tables {
        let mut tables = Tables::default();
        let facs = tables.add(encoded(&FACS::new()));
        let dsdt = tables.add_summed(encoded(&dsdt::dsdt(described)));
        let fadt = tables.add_summed(encoded(&fadt(described.video)));
        tables.point(fadt + FADT_FACS, 4, facs);
        tables.point(fadt + FADT_DSDT, 4, dsdt);
        tables.point(fadt + FADT_X_DSDT, 8, dsdt);
        let listed = [fadt, tables.add_summed(encoded(&madt())), tables.add_summed(encoded(&hpet_table()))];
        tables.rsdt = tables.add_list(*b"RSDT", 4, &listed);
        tables.xsdt = tables.add_list(*b"XSDT", 8, &listed);
        tables.fix_sums();
        tables
    }

    fn add(&mut self, table: Vec<u8>) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let at = self.bytes.len();
        self.bytes.extend(table);
        at
    }

    fn add_summed(&mut self, table: Vec<u8>) -> usize {
        let length = table.len();
        let at = self.add(table);
        self.sums.push((at, length));
        at
    }

    /// The RSDT or the XSDT: a header and addresses of so many bytes.
    fn add_list(&mut self, signature: [u8; 4], width: usize, listed: &[usize]) -> usize {
        let length = HEADER_BYTES + width * listed.len();
        let at = self.add_summed(encoded(&Sdt::new(signature, length as u32, 1, OEM, TABLE, REVISION)));
        for (index, table) in listed.iter().enumerate() {
            self.point(at + HEADER_BYTES + width * index, width, *table);
        }
        at
    }

    fn point(&mut self, at: usize, bytes: usize, target: usize) {
        self.pointers.push(Pointer { at, bytes });
        self.bytes[at..at + bytes].copy_from_slice(&target.to_le_bytes()[..bytes]);
    }

    fn fix_sums(&mut self) {
        for (at, length) in &self.sums {
            fix_sum(&mut self.bytes[*at..at + length], CHECKSUM);
        }
    }

    /// Adds the address of the block to every pointer.
    fn place(&mut self, base: u64) {
        for Pointer { at, bytes } in self.pointers.clone() {
            let mut value = [0; 8];
            value[..bytes].copy_from_slice(&self.bytes[at..at + bytes]);
            let placed = u64::from_le_bytes(value) + base;
            self.bytes[at..at + bytes].copy_from_slice(&placed.to_le_bytes()[..bytes]);
        }
        self.fix_sums();
    }

    /// The root pointer to tables whose block lies at `base`.
    fn rsdp(&self, base: u64) -> Vec<u8> {
        let mut rsdp = vec![0; RSDP_BYTES];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        rsdp[9..15].copy_from_slice(&OEM);
        rsdp[15] = 2;
        rsdp[RSDP_RSDT..RSDP_RSDT + 4].copy_from_slice(&((base + self.rsdt as u64) as u32).to_le_bytes());
        rsdp[20..24].copy_from_slice(&(RSDP_BYTES as u32).to_le_bytes());
        rsdp[RSDP_XSDT..RSDP_XSDT + 8].copy_from_slice(&(base + self.xsdt as u64).to_le_bytes());
        fix_sum(&mut rsdp[..RSDP_FIRST_PART], RSDP_CHECKSUM);
        fix_sum(&mut rsdp, RSDP_WHOLE_CHECKSUM);
        rsdp
    }
}

/// Makes the sum of all bytes 0 by the one at `at`.
fn fix_sum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
}

/// All tables with their guest-physical addresses, for a machine without firmware.
pub fn tables(described: &Described) -> Vec<(u64, Vec<u8>)> {
    let base = RSDP_ADDRESS + ALIGNMENT as u64;
    let mut tables = Tables::new(described);
    tables.place(base);
    vec![(RSDP_ADDRESS, tables.rsdp(base)), (base, tables.bytes)]
}

fn encoded(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(address: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(Space::SystemIo, bits, 0, access, u64::from(address))
}

/// Its pointers are filled in when the tables are placed.
fn fadt(video: bool) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .preferred_pm_profile(PmProfile::Desktop)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.sci_int = u16::from(power::SCI).into();
    fadt.pm1a_evt_blk = u32::from(power::EVENT_PORT).into();
    fadt.x_pm1a_evt_blk = port(power::EVENT_PORT, 32, AccessSize::WordAccess);
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(power::CONTROL_PORT).into();
    fadt.x_pm1a_cnt_blk = port(power::CONTROL_PORT, 16, AccessSize::WordAccess);
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = u32::from(power::TIMER_PORT).into();
    fadt.x_pm_tmr_blk = port(power::TIMER_PORT, 32, AccessSize::DwordAccess);
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = 0x0fff.into(); // over 100 us: no C2
    fadt.p_lvl3_lat = 0x0fff.into(); // over 1000 us: no C3
    fadt.century = rtc::CENTURY as u8;
    fadt.iapc_boot_arch = (BOOT_FLAGS | if video { 0 } else { NO_VGA }).into();
    fadt.reset_reg = port(0xcf9, 8, AccessSize::ByteAccess);
    fadt.reset_value = 6;
    fadt.finalize()
}

fn madt() -> Sdt {
    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM, TABLE, REVISION);
    madt.append_slice(&(local_apic::BASE as u32).to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    // Type 0, processor local APIC: ACPI processor 0, APIC 0, enabled.
    madt.append_slice(&[0, 8, 0, 0, 1, 0, 0, 0]);
    // Type 1, I/O APIC 1, interrupts from 0.
    madt.append_slice(&[1, 12, 1, 0]);
    madt.append_slice(&(io_apic::BASE as u32).to_le_bytes());
    madt.append_slice(&0u32.to_le_bytes());
    // Type 2, interrupt source overrides on bus 0 (ISA).
    let timer = [(0, map::TIMER_PIN, 0)];
    let level = map::LEVEL_IRQS.map(|irq| (irq, irq, ACTIVE_HIGH_LEVEL));
    for (irq, pin, flags) in timer.into_iter().chain(level) {
        madt.append_slice(&[2, 10, 0, irq, pin, 0, 0, 0]);
        madt.append_slice(&flags.to_le_bytes());
    }
    // Type 4, local APIC NMI: all processors, conforming, LINT1.
    madt.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    madt
}

/// IA-PC HPET specification 1.0a §3.2.4.
fn hpet_table() -> Sdt {
    let mut table = Sdt::new(*b"HPET", HEADER_BYTES as u32, 1, OEM, TABLE, REVISION);
    table.append_slice(&hpet::BLOCK_ID.to_le_bytes());
    table.append_slice(&[0, 64, 0, 0]); // memory, 64 bits wide
    table.append_slice(&hpet::BASE.to_le_bytes());
    table.append_slice(&[0]); // the first one
    table.append_slice(&hpet::MINIMUM_TICK.to_le_bytes());
    table.append_slice(&[0]); // no page protection
    table
}

#[cfg(test)]
mod tests;
