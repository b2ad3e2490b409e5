//! The files by which firmware places the tables: the tables, the root pointer, and a script that says where addresses
//! and checksums are (QEMU's specification "ACPI table loader"; SeaBIOS `romfile_loader`).

use super::{
    ALIGNMENT, CHECKSUM, Described, RSDP_BYTES, RSDP_CHECKSUM, RSDP_FIRST_PART, RSDP_RSDT, RSDP_WHOLE_CHECKSUM,
};
use super::{RSDP_XSDT, Tables};

const TABLES: &str = "etc/acpi/tables";
const ROOT: &str = "etc/acpi/rsdp";
const SCRIPT: &str = "etc/table-loader";
/// A command: its number, then arguments, padded.
const COMMAND_BYTES: usize = 128;
const NAME_BYTES: usize = 56;
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
/// Where a file is put: anywhere in RAM, or in the BIOS area.
const ZONE_HIGH: u8 = 1;
const ZONE_BIOS: u8 = 2;

fn name(name: &str) -> [u8; NAME_BYTES] {
    let mut field = [0; NAME_BYTES];
    field.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    field
}

fn command(script: &mut Vec<u8>, number: u32, arguments: &[&[u8]]) {
    let end = script.len() + COMMAND_BYTES;
    script.extend(number.to_le_bytes());
    arguments.iter().for_each(|argument| script.extend_from_slice(argument));
    script.resize(end, 0);
}

fn allocate(script: &mut Vec<u8>, file: &str, alignment: usize, zone: u8) {
    command(script, ALLOCATE, &[&name(file), &(alignment as u32).to_le_bytes(), &[zone]]);
}

fn point(script: &mut Vec<u8>, file: &str, at: usize, bytes: usize) {
    command(script, ADD_POINTER, &[&name(file), &name(TABLES), &(at as u32).to_le_bytes(), &[bytes as u8]]);
}

fn sum(script: &mut Vec<u8>, file: &str, at: usize, (start, length): (usize, usize)) {
    let numbers = [at as u32, start as u32, length as u32].map(u32::to_le_bytes).concat();
    command(script, ADD_CHECKSUM, &[&name(file), &numbers]);
}

/// Files and their names.
pub fn loader_files(described: &Described) -> Vec<(&'static str, Vec<u8>)> {
    let mut tables = Tables::new(described);
    let mut root = tables.rsdp(0);
    let mut script = Vec::new();
    allocate(&mut script, ROOT, 16, ZONE_BIOS);
    allocate(&mut script, TABLES, ALIGNMENT, ZONE_HIGH);
    for pointer in &tables.pointers {
        point(&mut script, TABLES, pointer.at, pointer.bytes);
    }
    for (at, length) in &tables.sums {
        tables.bytes[at + CHECKSUM] = 0; // the script subtracts from what is there
        sum(&mut script, TABLES, at + CHECKSUM, (*at, *length));
    }
    point(&mut script, ROOT, RSDP_RSDT, 4);
    point(&mut script, ROOT, RSDP_XSDT, 8);
    for (at, length) in [(RSDP_CHECKSUM, RSDP_FIRST_PART), (RSDP_WHOLE_CHECKSUM, RSDP_BYTES)] {
        root[at] = 0;
        sum(&mut script, ROOT, at, (0, length));
    }
    vec![(TABLES, tables.bytes), (ROOT, root), (SCRIPT, script)]
}
