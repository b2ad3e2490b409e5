//! The machine around a case, for the engine and for Unicorn: page tables that map the layout for user mode, a
//! descriptor table like Linux's, and an interrupt table whose handlers halt.

use crate::layout::{PAGE, PAGES};

/// Bytes of guest RAM.
pub const MEMORY: usize = 0x8_0000;
/// Where everything of the system's is mapped, all of RAM from 0 on, for CPL 0 only.
pub const SYSTEM: u64 = 0xffff_8800_0000_0000;
/// Physical address of the top page table.
pub const TABLES: u64 = 0x1000;
/// Physical address of the GDT.
pub const GDT: u64 = 0x1_8000;
/// Physical address of the IDT.
pub const IDT: u64 = 0x1_9000;
/// Physical address of the TSS.
pub const TSS: u64 = 0x1_a000;
/// Physical end of the stack that exceptions switch to (IST 1).
pub const STACK_END: u64 = 0x1_d000;
/// Physical address of the handlers, 16 bytes each.
pub const HANDLERS: u64 = 0x1_e000;
/// Physical address of pages that cases about paging use for tables and data: three tables, two frames.
pub const SPARE: u64 = 0x5_0000;
/// Selector of the first of eight descriptors that cases choose.
pub const DESCRIPTORS: u16 = 0x50;
/// GDTR's limit.
pub const GDT_LIMIT: u16 = 0x8f;
/// Pages that are compared word by word after a case about system state: tables, descriptors, data.
pub const SYSTEM_PAGES: [u64; 7] = [TABLES, GDT, SPARE, SPARE + 0x1000, SPARE + 0x2000, SPARE + 0x3000, SPARE + 0x4000];
/// Physical address of the first frame of the layout.
pub const FRAMES: u64 = 0x4_0000;

/// Selectors, as Linux has them: a program sees those of CS and SS.
pub mod selector {
    #![allow(missing_docs)]
    pub const KERNEL_CODE: u16 = 0x10;
    pub const KERNEL_DATA: u16 = 0x18;
    pub const USER_DATA: u16 = 0x2b;
    pub const USER_CODE: u16 = 0x33;
    pub const TASK: u16 = 0x40;
}

/// Descriptors in 64-bit form.
pub mod descriptor {
    #![allow(missing_docs)]
    pub const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
    pub const KERNEL_DATA: u64 = 0x00cf_9300_0000_ffff;
    pub const USER_CODE_32: u64 = 0x00cf_fb00_0000_ffff;
    pub const USER_DATA: u64 = 0x00cf_f300_0000_ffff;
    pub const USER_CODE: u64 = 0x00af_fb00_0000_ffff;
}

/// Guest RAM before a case: tables, handlers, empty frames.
pub fn memory() -> Vec<u8> {
    MEMORY_IMAGE.clone()
}

/// Words of the system's pages that differ from a machine before any case.
pub fn changed_words(mut page: impl FnMut(u64) -> [u8; PAGE]) -> Vec<(u64, u64)> {
    let mut words = Vec::new();
    for start in SYSTEM_PAGES {
        let bytes = page(start);
        for offset in (0..PAGE).step_by(8) {
            let value = load(&bytes, offset as u64);
            if value != load(&MEMORY_IMAGE, start + offset as u64) {
                words.push((start + offset as u64, value));
            }
        }
    }
    words
}

/// The word at an address before any case.
pub fn initial_word(address: u64) -> u64 {
    load(&MEMORY_IMAGE, address)
}

static MEMORY_IMAGE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(build);

fn build() -> Vec<u8> {
    let mut memory = vec![0; MEMORY];
    let mut free = TABLES + PAGE as u64;
    for page in PAGES {
        let bits = 1 << 2 | u64::from(page.writable) << 1 | u64::from(!page.executable) << 63;
        map(&mut memory, &mut free, page.linear, FRAMES + (page.frame * PAGE) as u64, bits);
    }
    for physical in (0..MEMORY as u64).step_by(PAGE) {
        map(&mut memory, &mut free, SYSTEM + physical, physical, 1 << 1);
    }
    assert!(free <= GDT, "page tables have run into the GDT");
    segments(&mut memory);
    memory[SPARE as usize + 0x3000..SPARE as usize + 0x5000].fill(0xcc);
    for vector in 0..256u64 {
        gate(&mut memory, vector);
        memory[(HANDLERS + 16 * vector) as usize] = 0xf4;
    }
    memory
}

fn store(memory: &mut [u8], address: u64, value: u64) {
    memory[address as usize..][..8].copy_from_slice(&value.to_le_bytes());
}

fn load(memory: &[u8], address: u64) -> u64 {
    u64::from_le_bytes(memory[address as usize..][..8].try_into().expect("eight bytes"))
}

/// Maps one page, adding tables from `free` on. Accessed and dirty bits start set: no case compares them.
fn map(memory: &mut [u8], free: &mut u64, linear: u64, physical: u64, bits: u64) {
    let mut table = TABLES;
    for level in [3, 2, 1] {
        let entry = table + (linear >> (12 + 9 * level) & 511) * 8;
        if load(memory, entry) == 0 {
            store(memory, entry, *free | 0x27);
            *free += PAGE as u64;
        }
        table = load(memory, entry) & 0x000f_ffff_ffff_f000;
    }
    store(memory, table + (linear >> 12 & 511) * 8, physical | bits | 0x61);
}

/// GDT and TSS: IST 1 for every exception, no I/O permission map.
fn segments(memory: &mut [u8]) {
    use descriptor::*;
    for (index, value) in [(2, KERNEL_CODE), (3, KERNEL_DATA), (4, USER_CODE_32), (5, USER_DATA), (6, USER_CODE)] {
        store(memory, GDT + 8 * index, value);
    }
    let base = SYSTEM + TSS;
    let low = 0x67 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    store(memory, GDT + u64::from(selector::TASK), low);
    store(memory, GDT + u64::from(selector::TASK) + 8, base >> 32);
    store(memory, TSS + 4, SYSTEM + STACK_END);
    store(memory, TSS + 0x24, SYSTEM + STACK_END);
    store(memory, TSS + 0x60, 0x68 << 48);
}

/// An interrupt gate to the vector's handler; user mode may use those of INT3 and INTO.
fn gate(memory: &mut [u8], vector: u64) {
    let handler = SYSTEM + HANDLERS + 16 * vector;
    let attributes: u64 = if matches!(vector, 3 | 4) { 0xee } else { 0x8e };
    let low = handler & 0xffff
        | u64::from(selector::KERNEL_CODE) << 16
        | 1 << 32
        | attributes << 40
        | (handler >> 16 & 0xffff) << 48;
    store(memory, IDT + 16 * vector, low);
    store(memory, IDT + 16 * vector + 8, handler >> 32);
}
