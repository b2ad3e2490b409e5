//! Pages of the guest's tables: stores to them are followed up while they are tables, and are any stores once they are not.

mod bare;

use bare::Bare;
use ftemu_cpu::state::gpr;
use ftemu_cpu::{Cpu, Icount, Stop};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
/// The table of the second level: two of its entries map the windows, through the table of the lowest one.
const DIRECTORY: u64 = 0x3000;
const TABLE: u64 = 0x5000;
const ENTRIES: [u64; 2] = [DIRECTORY + 8 * 8, DIRECTORY + 8 * 9];
const WINDOWS: [u64; 2] = [8 << 21, 9 << 21];
/// What is mapped there, one after the other.
const FIRST: u64 = 0x60_0000;
const SECOND: u64 = 0x70_0000;
const STORES: u64 = 1000;

/// 16 MiB, identity-mapped by large pages, and both windows.
fn machine(program: &[u8]) -> Cpu {
    let mut memory = bare::identity();
    for entry in ENTRIES {
        memory.store(entry, &(TABLE | 3).to_le_bytes());
    }
    memory.store(TABLE, &(FIRST | 3).to_le_bytes());
    for page in [FIRST, SECOND] {
        memory.store(page, &page.to_le_bytes());
    }
    memory.store(CODE, program);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    *cpu.state_mut() = bare::long_mode(0, CODE, 0x8000);
    cpu
}

fn store(a: &mut CodeAssembler, address: u64, value: u64) -> Result<(), iced_x86::IcedError> {
    a.mov(rsi, address)?;
    a.mov(rax, value)?;
    a.mov(qword_ptr(rsi), rax)
}

fn load(a: &mut CodeAssembler, to: AsmRegister64, address: u64) -> Result<(), iced_x86::IcedError> {
    a.mov(rbx, address)?;
    a.mov(to, qword_ptr(rbx))
}

/// Looks through both windows, or one; takes the first away; fills the table with what would be entries; and looks through
/// the last window again, given back, before and after its entry changes.
fn walks(both: bool) -> u64 {
    let window = usize::from(both);
    let program = bare::assemble(64, CODE, |a| {
        let mut again = a.create_label();
        load(a, r8, WINDOWS[0])?;
        if both {
            load(a, r8, WINDOWS[1])?;
        }
        store(a, ENTRIES[0], 0)?;
        a.mov(rdi, TABLE)?;
        a.mov(ecx, STORES as u32)?;
        a.set_label(&mut again)?;
        a.lea(rax, ptr(rcx * 2 + 1))?;
        a.mov(qword_ptr(rdi + rcx * 2), rax)?;
        a.dec(rcx)?;
        a.jne(again)?;
        store(a, TABLE, SECOND | 3)?;
        store(a, ENTRIES[window], TABLE | 3)?;
        load(a, r9, WINDOWS[window])?;
        store(a, TABLE, FIRST | 3)?;
        load(a, r10, WINDOWS[window])?;
        a.hlt()
    });
    let mut cpu = machine(&program);
    assert_eq!(cpu.run(&mut Bare, Icount(u64::MAX), false), Stop::Halt);
    assert_eq!([8, 9, 10].map(|register: usize| cpu.state().gpr[register]), [FIRST, SECOND, FIRST]);
    assert_eq!(cpu.state().gpr[gpr::RCX], 0);
    cpu.tally().walks
}

#[test]
fn a_table_is_one_as_long_as_anything_leads_to_it() {
    assert!(walks(true) >= STORES, "stores to a table in use must leave translated code");
}

#[test]
fn a_page_that_was_a_table_is_stored_to_like_any_other() {
    let walks = walks(false);
    assert!(walks < 50, "{walks} walks of tables");
}
