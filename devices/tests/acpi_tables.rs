//! The ACPI tables as their authors' own compiler sees them: each is taken apart and compiled again by `iasl`, which
//! finds no error and gives no warning. Needs Debian's `acpica-tools` (`scripts/setup`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_devices::acpi::{self, Described};
use std::path::Path;
use std::process::Command;

/// A table of the block at `base`, by its address: its length is in its header.
fn table(base: u64, block: &[u8], address: u64) -> &[u8] {
    let at = usize::try_from(address - base).expect("an address in the block");
    let length = u32::from_le_bytes(block[at + 4..at + 8].try_into().expect("a length"));
    &block[at..at + length as usize]
}

fn quadword(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// All tables that the root pointer leads to: what the XSDT lists, and the DSDT.
fn all_tables(described: &Described) -> Vec<Vec<u8>> {
    let placed = acpi::tables(described);
    let (rsdp, (base, block)) = (&placed[0].1, &placed[1]);
    let xsdt = table(*base, block, quadword(rsdp, 24));
    let mut tables: Vec<Vec<u8>> = vec![xsdt.to_vec()];
    tables.extend(xsdt[36..].chunks_exact(8).map(|entry| table(*base, block, quadword(entry, 0)).to_vec()));
    let fadt = tables.iter().find(|table| table.starts_with(b"FACP")).expect("a FADT");
    tables.push(table(*base, block, quadword(fadt, 140)).to_vec());
    tables
}

/// Runs `iasl` and returns what it said.
fn iasl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("iasl").current_dir(folder).args(arguments).output();
    let output = output.expect("iasl runs: install acpica-tools");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "iasl {arguments:?}: {said}");
    said
}

#[test]
fn iasl_finds_no_error_and_gives_no_warning() {
    for described in [Described { low_bytes: 512 << 20, video: true }, Described { low_bytes: 3 << 30, video: false }] {
        let tables = all_tables(&described);
        assert_eq!(tables.len(), 5);
        for bytes in tables {
            let folder = tempfile::tempdir().expect("a temporary folder");
            std::fs::write(folder.path().join("table.dat"), &bytes).expect("the table is written");
            iasl(folder.path(), &["-d", "table.dat"]);
            let said = iasl(folder.path(), &["table.dsl"]);
            let name = String::from_utf8_lossy(&bytes[..4]).into_owned();
            assert!(said.contains(" 0 Errors, 0 Warnings"), "{name}: {said}");
            assert!(!said.contains("Remark "), "{name}: {said}");
        }
    }
}
