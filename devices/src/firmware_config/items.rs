//! The items of the configuration device: what firmware wants to know of this machine (QEMU's specification "fw_cfg";
//! SeaBIOS, "Runtime_config").

use super::smbios::smbios;
use crate::acpi::{self, Described};
use ftemu_cpu::memory::HIGH_START;

/// Numbers of items.
const SIGNATURE: u16 = 0x00;
const INTERFACE: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const CPUS: u16 = 0x05;
const BOOT_MENU: u16 = 0x0e;
const MOST_CPUS: u16 = 0x0f;
const DIRECTORY: u16 = 0x19;
const FIRST_FILE: u16 = 0x20;
const TIMER_OVERRIDE: u16 = 0x8002;
/// The interface has the data port and DMA.
const TRADITIONAL_AND_DMA: u32 = 3;
/// Bytes of a file's name, with the zero at its end.
const NAME_BYTES: usize = 56;
/// Address range types of the BIOS's memory map.
const E820_RAM: u32 = 1;

/// All items: number and bytes, ascending.
#[derive(Debug, Default)]
pub struct Items {
    items: Vec<(u16, Vec<u8>)>,
}

impl Items {
    /// Items of a machine with so many more bytes of RAM above 4 GiB, and files that say what it starts from.
    pub fn new(described: &Described, high_bytes: u64, boot_files: Vec<(String, Vec<u8>)>) -> Items {
        let low_bytes = described.low_bytes;
        let mut files = acpi::loader_files(described);
        files.extend(boot_files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
        files.push(("etc/e820", memory_map(low_bytes, high_bytes)));
        // After a start that failed nothing is tried again: -1 ms.
        files.push(("etc/boot-fail-wait", u32::MAX.to_le_bytes().to_vec()));
        let smbios = smbios(low_bytes, high_bytes);
        files.push(("etc/smbios/smbios-anchor", smbios.anchor));
        files.push(("etc/smbios/smbios-tables", smbios.structures));
        files.sort();
        let mut items = vec![
            (SIGNATURE, b"QEMU".to_vec()),
            (INTERFACE, TRADITIONAL_AND_DMA.to_le_bytes().to_vec()),
            (RAM_SIZE, (low_bytes + high_bytes).to_le_bytes().to_vec()),
            (CPUS, vec![1, 0]),
            (BOOT_MENU, vec![0, 0]),
            (MOST_CPUS, vec![1, 0]),
            (DIRECTORY, directory(&files)),
        ];
        items.extend((FIRST_FILE..).zip(files.into_iter().map(|(_, bytes)| bytes)));
        items.push((TIMER_OVERRIDE, vec![1]));
        Items { items }
    }

    /// The bytes of an item; none if it is not there.
    pub fn get(&self, number: u16) -> &[u8] {
        let found = self.items.binary_search_by_key(&number, |(number, _)| *number).ok();
        found.and_then(|index| self.items.get(index)).map_or(&[], |(_, bytes)| bytes)
    }
}

/// Number of files, then for each: length, item, two bytes of nothing, name; big-endian.
fn directory(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = (files.len() as u32).to_be_bytes().to_vec();
    for (number, (name, content)) in (FIRST_FILE..).zip(files) {
        bytes.extend((content.len() as u32).to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.extend([0; 2]);
        let mut field = [0; NAME_BYTES];
        field.iter_mut().take(NAME_BYTES - 1).zip(name.bytes()).for_each(|(to, from)| *to = from);
        bytes.extend(field);
    }
    bytes
}

/// Address, length and type of each range.
fn memory_map(low_bytes: u64, high_bytes: u64) -> Vec<u8> {
    let ranges = [(0, low_bytes), (HIGH_START, high_bytes)];
    let mut bytes = Vec::new();
    for (first, length) in ranges.into_iter().filter(|(_, length)| *length != 0) {
        bytes.extend(first.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(E820_RAM.to_le_bytes());
    }
    bytes
}
