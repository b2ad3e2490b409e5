//! The ACPI tables: what the operating system is told about the board (ACPI 6.5 chapter 5). They lie in the BIOS area,
//! where RAM shadows a ROM that is not there.

use crate::{io_apic, local_apic, map, power, rtc};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace as Space, GAS};
use acpi_tables::{Aml, facs::FACS, rsdp::Rsdp, sdt::Sdt, xsdt::XSDT};

/// Where the RSDP is; the tables follow. Paragraph-aligned, in the area that operating systems scan.
pub const RSDP_ADDRESS: u64 = 0xf_0000;
const OEM: [u8; 6] = *b"FTEMU ";
const TABLE: [u8; 8] = *b"FTEMUPC ";
const REVISION: u32 = 1;
/// FADT boot architecture flags: legacy devices on the board, no VGA. No 8042 bit: nothing is plugged into it.
const BOOT_FLAGS: u16 = 1 << 0 | 1 << 2;
/// MADT flag: a pair of 8259s is there too.
const PCAT_COMPAT: u32 = 1;
/// MADT interrupt flags: active high, level-triggered.
const ACTIVE_HIGH_LEVEL: u16 = 0xd;

/// All tables with their guest-physical addresses.
pub fn tables() -> Vec<(u64, Vec<u8>)> {
    let mut next = RSDP_ADDRESS + 64;
    let mut placed = Vec::new();
    let mut place = |bytes: Vec<u8>| {
        let address = next;
        next = (next + bytes.len() as u64).next_multiple_of(64);
        placed.push((address, bytes));
        address
    };
    let facs = place(bytes(&FACS::new()));
    let dsdt = place(bytes(&dsdt()));
    let fadt = place(bytes(&fadt(facs as u32, dsdt as u32)));
    let madt = place(bytes(&madt()));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(bytes(&xsdt));
    placed.push((RSDP_ADDRESS, bytes(&Rsdp::new(OEM, xsdt))));
    placed
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(address: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(Space::SystemIo, bits, 0, access, u64::from(address))
}

fn fadt(facs: u32, dsdt: u32) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .preferred_pm_profile(PmProfile::Desktop)
        .firmware_ctrl_32(facs)
        .dsdt_32(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.x_dsdt = u64::from(dsdt).into();
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
    fadt.iapc_boot_arch = BOOT_FLAGS.into();
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

/// A device with a hardware id and its ports and interrupt.
fn device(name: &str, id: &str, uid: Option<u8>, ports: &[(u16, u8)], irq: Option<u8>) -> Vec<u8> {
    let ports: Vec<IO> = ports.iter().map(|(first, length)| IO::new(*first, *first, 1, *length)).collect();
    let irq = irq.map(|irq| Interrupt::new(true, true, false, false, u32::from(irq)));
    let mut resources: Vec<&dyn Aml> = ports.iter().map(|port| port as &dyn Aml).collect();
    resources.extend(irq.iter().map(|irq| irq as &dyn Aml));
    let hid = Name::new(path("_HID"), &EISAName::new(id));
    let uid = uid.map(|uid| Name::new(path("_UID"), &uid));
    let crs = Name::new(path("_CRS"), &ResourceTemplate::new(resources));
    let mut children: Vec<&dyn Aml> = vec![&hid];
    children.extend(uid.iter().map(|uid| uid as &dyn Aml));
    children.push(&crs);
    bytes(&Device::new(path(name), children))
}

fn path(name: &str) -> Path {
    Path::new(name)
}

/// AML that is already encoded.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// Devices behind the ISA bridge.
fn isa_devices() -> Encoded {
    Encoded(
        [
            device("PIC_", "PNP0000", None, &[(0x20, 2), (0xa0, 2), (0x4d0, 2)], None),
            device("TIMR", "PNP0100", None, &[(0x40, 4)], Some(0)),
            device("RTC_", "PNP0B00", None, &[(0x70, 2)], Some(8)),
            device("SPKR", "PNP0800", None, &[(0x61, 1)], None),
            device("COM1", "PNP0501", Some(1), &[(0x3f8, 8)], Some(4)),
            device("COM2", "PNP0501", Some(2), &[(0x2f8, 8)], Some(3)),
            // What belongs to the board itself and no driver may claim.
            device("MBRD", "PNP0C02", None, &[(0x80, 1), (0x92, 1), (power::EVENT_PORT, 12)], None),
        ]
        .concat(),
    )
}

/// The PCI root: what passes through to its bus is everything below 4 GiB that is not the board's own.
fn pci_root() -> Encoded {
    let resources: [&dyn Aml; 6] = [
        &AddressSpace::new_bus_number(0u16, 0u16),
        &IO::new(0xcf8, 0xcf8, 1, 8),
        &AddressSpace::new_io(0u16, 0x0cf7, None),
        &AddressSpace::new_io(0x0d00u16, 0xffff, None),
        &AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, 0xa_0000u32, 0xb_ffff, None),
        &AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, 0xc000_0000u32, 0xfebf_ffff, None),
    ];
    let hid = Name::new(path("_HID"), &EISAName::new("PNP0A03"));
    let uid = Name::new(path("_UID"), &0u8);
    let crs = Name::new(path("_CRS"), &ResourceTemplate::new(resources.to_vec()));
    let bridge_address = Name::new(path("_ADR"), &0x0001_0000u32);
    let devices = isa_devices();
    let bridge = Device::new(path("ISA_"), vec![&bridge_address, &devices]);
    Encoded(bytes(&Device::new(path("PCI0"), vec![&hid, &uid, &crs, &bridge])))
}

/// The registers of the APICs, so that nothing else is put there.
fn apics() -> Encoded {
    let resources: [&dyn Aml; 2] = [
        &Memory32Fixed::new(true, io_apic::BASE as u32, 0x1000),
        &Memory32Fixed::new(true, local_apic::BASE as u32, 0x1000),
    ];
    let hid = Name::new(path("_HID"), &EISAName::new("PNP0003"));
    let crs = Name::new(path("_CRS"), &ResourceTemplate::new(resources.to_vec()));
    Encoded(bytes(&Device::new(path("APIC"), vec![&hid, &crs])))
}

fn dsdt() -> Sdt {
    let processor_id = Name::new(path("_HID"), &"ACPI0007");
    let processor_uid = Name::new(path("_UID"), &0u8);
    let processor = Device::new(path("CPU0"), vec![&processor_id, &processor_uid]);
    let (root, apics) = (pci_root(), apics());
    let scope = Scope::new(path("_SB_"), vec![&processor, &root, &apics]);
    let sleep = Name::new(path("_S5_"), &Package::new(vec![&power::S5_TYPE, &power::S5_TYPE, &0u8, &0u8]));
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    table.append_slice(&bytes(&scope));
    table.append_slice(&bytes(&sleep));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn find(signature: &[u8]) -> (u64, Vec<u8>) {
        tables().into_iter().find(|(_, bytes)| bytes.starts_with(signature)).expect("the table is there")
    }

    #[test]
    fn every_table_has_its_length_and_checksum_and_fits() {
        for (address, bytes) in tables() {
            assert!(address + bytes.len() as u64 <= 0x10_0000);
            if bytes.starts_with(b"RSD PTR ") {
                assert_eq!((sum(&bytes[..20]), sum(&bytes)), (0, 0));
                continue;
            }
            assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize, bytes.len());
            if bytes.starts_with(b"FACS") {
                assert_eq!(address % 64, 0);
            } else {
                assert_eq!(sum(&bytes), 0, "{:?}", &bytes[..4]);
            }
        }
    }

    #[test]
    fn tables_point_at_each_other() {
        let (xsdt, bytes) = find(b"XSDT");
        let entries: Vec<u64> =
            bytes[36..].chunks_exact(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap())).collect();
        assert_eq!(entries, [find(b"FACP").0, find(b"APIC").0]);
        let (_, rsdp) = find(b"RSD PTR ");
        assert_eq!(rsdp[24..32], xsdt.to_le_bytes());
        let (_, fadt) = find(b"FACP");
        assert_eq!(fadt[40..44], (find(b"DSDT").0 as u32).to_le_bytes());
        assert_eq!(fadt[36..40], (find(b"FACS").0 as u32).to_le_bytes());
    }

    #[test]
    fn madt_names_the_override_of_irq_0() {
        let (_, madt) = find(b"APIC");
        assert!(madt.windows(10).any(|entry| entry == [2, 10, 0, 0, 2, 0, 0, 0, 0, 0]));
        assert!(madt.windows(10).any(|entry| entry == [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0]));
    }
}
