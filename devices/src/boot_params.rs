//! The "zero page" a boot loader fills for Linux (kernel: Documentation/arch/x86/zero-page.rst) and the memory map in
//! it.

use crate::acpi;
use ftemu_cpu::Memory;
use ftemu_cpu::memory::HIGH_START;

/// Offsets in the zero page.
const ACPI_RSDP_ADDRESS: usize = 0x070;
const E820_ENTRIES: usize = 0x1e8;
const SETUP_HEADER: usize = 0x1f1;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const COMMAND_LINE: usize = 0x228;
const SETUP_DATA: usize = 0x250;
const E820_TABLE: usize = 0x2d0;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// What the loader has decided.
pub struct Placement {
    /// Guest-physical address and length of the initrd; zeros without one.
    pub initrd: (u64, u64),
    /// Guest-physical address of the command line.
    pub command_line: u64,
    /// Guest-physical address of the first setup_data node.
    pub setup_data: u64,
}

/// A zero page: `header` is the kernel file's setup header from 1F1h on.
pub fn zero_page(memory: &Memory, header: &[u8], placement: &Placement) -> [u8; 4096] {
    let mut page = [0; 4096];
    page[SETUP_HEADER..SETUP_HEADER + header.len()].copy_from_slice(header);
    page[TYPE_OF_LOADER] = 0xff; // no assigned number
    let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(ACPI_RSDP_ADDRESS, &acpi::RSDP_ADDRESS.to_le_bytes());
    put(RAMDISK_IMAGE, &(placement.initrd.0 as u32).to_le_bytes());
    put(RAMDISK_SIZE, &(placement.initrd.1 as u32).to_le_bytes());
    put(COMMAND_LINE, &(placement.command_line as u32).to_le_bytes());
    put(SETUP_DATA, &placement.setup_data.to_le_bytes());
    let map = memory_map(memory);
    put(E820_ENTRIES, &[map.len() as u8]);
    for (index, (start, end, kind)) in map.into_iter().enumerate() {
        let entry = E820_TABLE + 20 * index;
        put(entry, &start.to_le_bytes());
        put(entry + 8, &(end - start).to_le_bytes());
        put(entry + 16, &kind.to_le_bytes());
    }
    page
}

/// The e820 map: (start, end, type).
fn memory_map(memory: &Memory) -> Vec<(u64, u64, u32)> {
    let low = memory.low_size();
    let mut map = vec![
        (0, 0x9_fc00, E820_RAM),
        (0x9_fc00, 0xa_0000, E820_RESERVED),  // extended BIOS data area
        (0xe_0000, 0x10_0000, E820_RESERVED), // BIOS area with the ACPI tables
        (0x10_0000, low, E820_RAM),
        (0xfec0_0000, 0xfec0_1000, E820_RESERVED), // I/O APIC
        (0xfee0_0000, 0xfee0_1000, E820_RESERVED), // local APIC
    ];
    if memory.size() > low {
        map.push((HIGH_START, HIGH_START + memory.size() - low, E820_RAM));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_map_covers_ram_and_is_ordered() {
        let memory = Memory::new(4 << 30).unwrap();
        let map = memory_map(&memory);
        assert!(map.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        assert_eq!(map[3], (0x10_0000, 0xc000_0000, E820_RAM));
        assert_eq!(map.last(), Some(&(1 << 32, 5 << 30, E820_RAM)));
    }
}
