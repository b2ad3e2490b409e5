//! The walk over descriptor tables, good and hostile.

use super::*;
use crate::state::assert_round_trip;

const TABLE: u32 = 0x1000;

/// Memory with a table of (address, count and flags).
fn memory(table: &[(u32, u32)]) -> Memory {
    let mut memory = Memory::new(2 << 20).unwrap();
    for (index, (address, count)) in table.iter().enumerate() {
        memory.store(u64::from(TABLE) + 8 * index as u64, &[address.to_le_bytes(), count.to_le_bytes()].concat());
    }
    memory
}

fn started(command: u8) -> BusMaster {
    let mut master = BusMaster::default();
    for (register, byte) in (4..).zip(TABLE.to_le_bytes()) {
        master.write(register, byte);
    }
    assert!(master.write(0, command | SSBM));
    master
}

fn bytes(memory: &Memory, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read(address, &mut bytes);
    bytes
}

#[test]
fn registers_read_back() {
    let mut master = BusMaster::default();
    for register in 0..8 {
        master.write(register, 0xfe);
    }
    let read: Vec<u8> = (0..8).map(|register| master.read(register)).collect();
    assert_eq!(read, [RWCON, 0, 0x60, 0, 0xfc, 0xfe, 0xfe, 0xfe]);
}

#[test]
fn scatters_over_regions_and_ends_with_the_table() {
    let mut memory = memory(&[(0x1_0000, 4), (0x2_0000, 2), (0x3_0000, 6 | END_OF_TABLE)]);
    let mut master = started(RWCON);
    assert!(master.moves(true) && !master.moves(false));
    assert_eq!(master.store(&mut memory, b"abcdefgh"), 8);
    assert_eq!(master.read(2), ACTIVE, "the table has room for more");
    assert_eq!(master.store(&mut memory, b"ijklmnop"), 4);
    assert_eq!(master.read(2), 0);
    assert_eq!(bytes(&memory, 0x1_0000, 4), b"abcd");
    assert_eq!(bytes(&memory, 0x2_0000, 3), b"ef\0");
    assert_eq!(bytes(&memory, 0x3_0000, 7), b"ghijkl\0");
    assert_round_trip(&master);
}

#[test]
fn gathers_and_a_count_of_zero_is_64_kib() {
    let mut memory = memory(&[(0x1_0000, END_OF_TABLE)]);
    memory.store(0x1_0000, b"first");
    memory.store(0x1_fffb, b"+last");
    let mut master = started(0);
    let mut taken = vec![0; 70_000];
    assert_eq!(master.fetch(&memory, &mut taken), 65536);
    assert_eq!((&taken[..5], &taken[65531..65536]), (&b"first"[..], &b"+last"[..]));
    assert_eq!(master.read(2), 0);
}

#[test]
fn an_exact_table_ends_with_the_data() {
    let mut memory = memory(&[(0x1_0000, 8 | END_OF_TABLE)]);
    let mut master = started(RWCON);
    assert_eq!(master.store(&mut memory, b"abcdefgh"), 8);
    assert_eq!(master.read(2), 0);
}

#[test]
fn a_table_without_end_stops_after_64_kib_of_it() {
    let mut memory = Memory::new(2 << 20).unwrap();
    for index in 0..20_000_u64 {
        memory.store(u64::from(TABLE) + 8 * index, &[0, 0, 0x10, 0, 2, 0, 0, 0]);
    }
    let mut master = started(RWCON);
    assert_eq!(master.store(&mut memory, &vec![1; 1 << 20]), 2 * 8192);
    assert_eq!(master.read(2), ERROR);
}

#[test]
fn a_table_that_its_own_data_rewrites() {
    let mut memory = memory(&[(TABLE, 0)]);
    let mut master = started(RWCON);
    let loops: Vec<u8> = [TABLE.to_le_bytes(), 2_u32.to_le_bytes()].concat().repeat(1 << 18);
    let moved = master.store(&mut memory, &loops);
    assert!(moved < loops.len() && master.read(2) == ERROR);
}

#[test]
fn nobody_at_the_table_or_the_region() {
    for table in [&[(0x8000_0000, 8 | END_OF_TABLE)][..], &[(0xffff_fffe, END_OF_TABLE)]] {
        let mut memory = memory(table);
        let mut master = started(RWCON);
        assert_eq!(master.store(&mut memory, b"abcd"), 0);
        assert_eq!(master.read(2), ERROR);
        assert!(!master.moves(true));
        master.write(2, ERROR);
        assert_eq!(master.read(2), 0);
    }
    let mut master = started(0);
    let small = Memory::new(2 << 20).unwrap();
    for register in 4..8 {
        master.write(register, 0xff);
    }
    master.write(0, 0);
    assert!(master.write(0, SSBM));
    assert_eq!(master.fetch(&small, &mut [0; 4]), 0);
    assert_eq!(master.read(2), ERROR);
}

#[test]
fn stopping_forgets_where_it_stood() {
    let mut memory = memory(&[(0x1_0000, 4), (0x2_0000, 4 | END_OF_TABLE)]);
    let mut master = started(RWCON);
    assert_eq!(master.store(&mut memory, b"ab"), 2);
    assert!(!master.write(0, SSBM), "it runs already");
    assert_eq!(master.read(0), SSBM | RWCON, "the direction stays while it runs");
    master.write(0, RWCON);
    assert_eq!(master.read(2), 0);
    assert!(master.write(0, SSBM | RWCON));
    assert_eq!(master.store(&mut memory, b"cdefgh"), 6);
    assert_eq!(bytes(&memory, 0x1_0000, 4), b"cdef");
}
