//! Tables are whole, point at each other, and arrive the same way by firmware's script.

use super::*;

const MACHINE: Described = Described { low_bytes: 512 << 20, video: true };

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn dword(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()))
}

/// A table of a block that lies at `base`, by its address.
fn table(base: u64, block: &[u8], address: u64) -> &[u8] {
    let at = (address - base) as usize;
    &block[at..at + dword(block, at + 4) as usize]
}

/// Follows all addresses, and checks every checksum.
fn check(base: u64, block: &[u8], rsdp: &[u8]) {
    assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
    let roots = [(dword(rsdp, 16), 4), (dword(rsdp, 24), 8)].map(|(at, width)| (table(base, block, at), width));
    for (root, width) in roots {
        assert_eq!(sum(root), 0);
        let listed: Vec<&[u8]> =
            root[36..].chunks(width).map(|address| table(base, block, dword(address, 0))).collect();
        let signatures: Vec<&[u8]> = listed.iter().map(|table| &table[..4]).collect();
        assert_eq!(signatures, [b"FACP", b"APIC", b"HPET"]);
        assert!(listed.iter().all(|table| sum(table) == 0));
        let fadt = listed[0];
        assert_eq!(dword(fadt, 40), dword(fadt, 140));
        let dsdt = table(base, block, dword(fadt, 40));
        assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
        assert_eq!(&table(base, block, dword(fadt, 36))[..4], b"FACS");
        assert_eq!(dword(fadt, 36) % 64, 0);
    }
}

#[test]
fn tables_of_a_direct_boot_are_whole() {
    let placed = tables(&MACHINE);
    let (rsdp, block) = (&placed[0], &placed[1]);
    assert_eq!(rsdp.0, RSDP_ADDRESS);
    assert!(block.0 + block.1.len() as u64 <= 0x10_0000);
    check(block.0, &block.1, &rsdp.1);
}

/// What firmware does with the files.
#[test]
fn tables_placed_by_the_script_are_whole() {
    const BASE: u64 = 0x1fff_0000;
    let mut files = loader_files(&MACHINE);
    let script = files.pop().unwrap().1;
    assert_eq!(script.len() % 128, 0);
    for command in script.chunks(128) {
        let text = |at: usize| command[at..at + 56].split(|byte| *byte == 0).next().unwrap();
        let file = |files: &mut Vec<(&'static str, Vec<u8>)>, name: &[u8]| {
            files.iter().position(|(known, _)| known.as_bytes() == name).expect("a file of ours")
        };
        let index = file(&mut files, text(4));
        let bytes = &mut files[index].1;
        match dword(command, 0) {
            1 => assert!(dword(command, 60).is_power_of_two()),
            2 => {
                assert_eq!(text(60), b"etc/acpi/tables");
                let at = dword(command, 116) as usize;
                let placed = dword(bytes, at) + BASE;
                bytes[at..at + 4].copy_from_slice(&(placed as u32).to_le_bytes());
            }
            3 => {
                let [at, start, length] = [60, 64, 68].map(|at| dword(command, at) as usize);
                bytes[at] = bytes[at].wrapping_sub(sum(&bytes[start..start + length]));
            }
            other => panic!("command {other}"),
        }
    }
    check(BASE, &files[0].1, &files[1].1);
}

#[test]
fn madt_names_the_timers_pin_and_the_level_interrupts() {
    let madt = encoded(&madt());
    for entry in
        [[2, 10, 0, 0, 2, 0, 0, 0, 0, 0], [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0], [2, 10, 0, 11, 11, 0, 0, 0, 0xd, 0]]
    {
        assert!(madt.windows(10).any(|bytes| bytes == entry));
    }
}
