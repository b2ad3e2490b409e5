//! The DSDT: devices, their resources, and how PCI interrupts are routed (ACPI 6.5 chapters 6, 19).

use super::{Described, OEM, REVISION, TABLE, encoded};
use crate::{firmware_config, hpet, io_apic, local_apic, map, power};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Field, FieldAccessType,
    FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Memory32Fixed, Method, Name, OpRegion,
    OpRegionSpace, Or, Package, Path, ResourceTemplate, Return, Scope, Store, ZERO,
};
use acpi_tables::{Aml, sdt::Sdt};

/// The PIIX3's PIRQ registers, and their bit that says "not routed".
const PIRQ_REGISTERS: u8 = 0x60;
const NOT_ROUTED: u8 = 0x80;
/// Interrupts that the operating system may choose for PCI.
const POSSIBLE: [u32; 3] = [5, 10, 11];
/// Offset of the interrupt's number in an extended interrupt descriptor.
const NUMBER: u8 = 5;
/// PCI slots with a routing entry.
const SLOTS: std::ops::Range<u8> = 1..32;
/// Link devices, and the registers behind them.
const LINKS: [&str; 4] = ["LNKA", "LNKB", "LNKC", "LNKD"];
const REGISTERS: [[u8; 4]; 4] = [*b"PRQA", *b"PRQB", *b"PRQC", *b"PRQD"];
/// Where PCI memory begins if RAM leaves room: firmware puts windows there.
const PCI_MEMORY: u64 = 0x8000_0000;
const PCI_MEMORY_END: u32 = 0xfebf_ffff;

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
    encoded(&Device::new(path(name), children))
}

/// Devices behind the ISA bridge.
fn isa_devices() -> Encoded {
    // What belongs to the board itself and no driver may claim.
    let board = [(0x80, 1), (0x92, 1), (0xb2, 2), (firmware_config::SELECTOR_PORT, 12)];
    Encoded(
        [
            device("PIC_", "PNP0000", None, &[(0x20, 2), (0xa0, 2), (0x4d0, 2)], None),
            device("TIMR", "PNP0100", None, &[(0x40, 4)], Some(0)),
            device("RTC_", "PNP0B00", None, &[(0x70, 2)], Some(map::RTC_IRQ)),
            device("SPKR", "PNP0800", None, &[(0x61, 1)], None),
            device("KBD_", "PNP0303", None, &[(0x60, 1), (0x64, 1)], Some(map::KEYBOARD_IRQ)),
            device("MOU_", "PNP0F13", None, &[], Some(map::MOUSE_IRQ)),
            device("COM1", "PNP0501", Some(1), &[(0x3f8, 8)], Some(map::COM1_IRQ)),
            device("COM2", "PNP0501", Some(2), &[(0x2f8, 8)], Some(map::COM2_IRQ)),
            device("MBRD", "PNP0C02", None, &board, None),
        ]
        .concat(),
    )
}

/// The ISA bridge: its PIRQ registers as fields, and what is behind it.
fn isa_bridge() -> Encoded {
    let address = Name::new(path("_ADR"), &0x0001_0000u32);
    let region = OpRegion::new(path("PIRQ"), OpRegionSpace::PCIConfig, &PIRQ_REGISTERS, &4u8);
    let fields = REGISTERS.map(|name| FieldEntry::Named(name, 8)).to_vec();
    let (lock, update) = (FieldLockRule::NoLock, FieldUpdateRule::Preserve);
    let registers = Field::new(path("PIRQ"), FieldAccessType::Byte, lock, update, fields);
    let devices = isa_devices();
    Encoded(encoded(&Device::new(path("ISA_"), vec![&address, &region, &registers, &devices])))
}

/// An extended interrupt descriptor: level-triggered, active high, shared.
fn interrupts(numbers: &[u32]) -> Encoded {
    let mut bytes = vec![0x89, 2 + 4 * numbers.len() as u8, 0, 0b1001, numbers.len() as u8];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Encoded(bytes)
}

/// A link device (ACPI 6.5 §6.2.13): the operating system chooses an interrupt for a PIRQ line.
fn link(index: usize) -> Encoded {
    let name = String::from_utf8_lossy(&REGISTERS[index]).into_owned();
    let register = path(&format!("\\_SB_.PCI0.ISA_.{name}"));
    let hid = Name::new(path("_HID"), &EISAName::new("PNP0C0F"));
    let uid = Name::new(path("_UID"), &(index as u8 + 1));
    let possible = interrupts(&POSSIBLE);
    let prs = Name::new(path("_PRS"), &ResourceTemplate::new(vec![&possible]));
    let (number, chosen) = (path("NUM_"), path("BUF_"));
    let off = And::new(&ZERO, &register, &NOT_ROUTED);
    let (absent, present) = (Return::new(&0x09u8), Return::new(&0x0bu8));
    let if_off = If::new(&off, vec![&absent]);
    let sta = Method::new(path("_STA"), 0, false, vec![&if_off, &present]);
    let disable = Or::new(&register, &register, &NOT_ROUTED);
    let dis = Method::new(path("_DIS"), 0, false, vec![&disable]);
    let none = interrupts(&[0]);
    let buffer = Name::new(path("BUF_"), &ResourceTemplate::new(vec![&none]));
    let in_buffer = CreateDWordField::new(&number, &chosen, &NUMBER);
    let routed = And::new(&number, &register, &0x0fu8);
    let nothing = Store::new(&number, &ZERO);
    let if_not = If::new(&off, vec![&nothing]);
    let answer = Return::new(&chosen);
    let crs = Method::new(path("_CRS"), 0, true, vec![&in_buffer, &routed, &if_not, &answer]);
    let in_argument = CreateDWordField::new(&number, &Arg(0), &NUMBER);
    let set = Store::new(&register, &number);
    let srs = Method::new(path("_SRS"), 1, true, vec![&in_argument, &set]);
    Encoded(encoded(&Device::new(path(LINKS[index]), vec![&hid, &uid, &prs, &buffer, &sta, &dis, &crs, &srs])))
}

/// Slot and pin to link device, for all slots.
fn routing() -> Encoded {
    let mut entries = Vec::new();
    for slot in SLOTS {
        for pin in 0..4u8 {
            let line = map::pirq(slot << 3, pin + 1);
            let address = u32::from(slot) << 16 | 0xffff;
            let source = path(&format!("\\_SB_.{}", LINKS[usize::from(line)]));
            entries.push(Encoded(encoded(&Package::new(vec![&address, &pin, &source, &ZERO]))));
        }
    }
    let table = Package::new(entries.iter().map(|entry| entry as &dyn Aml).collect());
    Encoded(encoded(&Name::new(path("_PRT"), &table)))
}

/// The PCI root: what passes through to its bus is everything below 4 GiB that is not the board's own.
fn pci_root(described: &Described) -> Encoded {
    let first = described.low_bytes.max(PCI_MEMORY) as u32;
    let resources: [&dyn Aml; 6] = [
        &AddressSpace::new_bus_number(0u16, 0u16),
        &IO::new(0xcf8, 0xcf8, 1, 8),
        &AddressSpace::new_io(0u16, 0x0cf7, None),
        &AddressSpace::new_io(0x0d00u16, 0xffff, None),
        &AddressSpace::new_memory(AddressSpaceCacheable::Cacheable, true, 0xa_0000u32, 0xb_ffff, None),
        &AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, PCI_MEMORY_END, None),
    ];
    let hid = Name::new(path("_HID"), &EISAName::new("PNP0A03"));
    let uid = Name::new(path("_UID"), &0u8);
    let crs = Name::new(path("_CRS"), &ResourceTemplate::new(resources.to_vec()));
    let (routing, bridge) = (routing(), isa_bridge());
    Encoded(encoded(&Device::new(path("PCI0"), vec![&hid, &uid, &crs, &routing, &bridge])))
}

/// A device of registers in memory, so that nothing else is put there.
fn registers(name: &str, id: &str, ranges: &[(u64, u32)]) -> Encoded {
    let ranges: Vec<Memory32Fixed> =
        ranges.iter().map(|(base, bytes)| Memory32Fixed::new(true, *base as u32, *bytes)).collect();
    let hid = Name::new(path("_HID"), &EISAName::new(id));
    let crs = ResourceTemplate::new(ranges.iter().map(|range| range as &dyn Aml).collect());
    let crs = Name::new(path("_CRS"), &crs);
    Encoded(encoded(&Device::new(path(name), vec![&hid, &crs])))
}

pub(super) fn dsdt(described: &Described) -> Sdt {
    let processor_id = Name::new(path("_HID"), &"ACPI0007");
    let processor_uid = Name::new(path("_UID"), &0u8);
    let processor = Device::new(path("CPU0"), vec![&processor_id, &processor_uid]);
    let root = pci_root(described);
    let apics = registers("APIC", "PNP0003", &[(io_apic::BASE, 0x1000), (local_apic::BASE, 0x1000)]);
    let hpet = registers("HPET", "PNP0103", &[(hpet::BASE, hpet::BYTES as u32)]);
    let links = [0, 1, 2, 3].map(link);
    let mut children: Vec<&dyn Aml> = vec![&processor, &root, &apics, &hpet];
    children.extend(links.iter().map(|link| link as &dyn Aml));
    let scope = Scope::new(path("_SB_"), children);
    let sleep = Name::new(path("_S5_"), &Package::new(vec![&power::S5_TYPE, &power::S5_TYPE, &0u8, &0u8]));
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, REVISION);
    table.append_slice(&encoded(&scope));
    table.append_slice(&encoded(&sleep));
    table
}
