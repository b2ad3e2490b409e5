//! The real-mode part of a tiny guest: from where a BIOS boot loader enters (Linux boot protocol, "running the kernel") straight
//! into long mode at the 64-bit entry. Our own loader does not need it; other emulators, against which the tiny guests are
//! checked, do.
//!
//! On entry DS holds the segment of the setup sectors. They become the boot parameters: the loader wrote the command line's
//! address at the offset where the 64-bit entry looks for it.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, ax, bx, cr0, cr3, cr4, di, ds, dword_ptr, eax, ebx, ecx, es, esi, ptr};

use super::bzimage::{ENTRY_OFFSET, LOAD_ADDRESS};

/// Segment of three pages of tables that nobody else uses: 448 KiB.
const TABLES: u32 = 0x7_0000;
/// Descriptors of flat segments: null, null, 64-bit code (selector 0x10), data (0x18).
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Where descriptors and the GDT's register image lie, from the part's start; code follows.
const DESCRIPTORS_AT: u32 = 4;
const TABLE_REGISTER_AT: u32 = DESCRIPTORS_AT + 32;
const CODE_AT: u32 = TABLE_REGISTER_AT + 6;

/// Assembles the part for an offset in the setup segment.
pub(super) fn assemble(offset: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(16)?;
    let table_register = offset + TABLE_REGISTER_AT;
    a.db(&[0xeb, CODE_AT as u8 - 2, 0, 0])?; // JMP rel8 over the data
    a.dq(&DESCRIPTORS)?;
    a.dw(&[0x1f, 0, 0])?;
    program(&mut a, offset + DESCRIPTORS_AT, table_register)?;
    a.assemble(u64::from(offset))
}

fn program(a: &mut CodeAssembler, descriptors: u32, table_register: u32) -> Result<(), IcedError> {
    a.cli()?;
    a.cld()?;
    a.xor(ebx, ebx)?;
    a.mov(bx, ds)?;
    a.shl(ebx, 4)?;
    page_tables(a)?;
    a.mov(di, table_register)?;
    a.lea(eax, ptr(ebx + descriptors))?;
    a.mov(dword_ptr(di + 2), eax)?;
    a.mov(eax, 0x20)?; // PAE
    a.mov(cr4, eax)?;
    a.mov(eax, TABLES)?;
    a.mov(cr3, eax)?;
    a.mov(ecx, 0xc000_0080_u32)?; // EFER
    a.rdmsr()?;
    a.or(eax, 0x100)?; // LME
    a.wrmsr()?;
    a.lgdt(ptr(di))?;
    a.mov(esi, ebx)?;
    a.mov(eax, 0x8000_0011_u32)?; // PG, ET, PE
    a.mov(cr0, eax)?;
    // JMP ptr16:32 to the 64-bit entry.
    let target = LOAD_ADDRESS + ENTRY_OFFSET as u32;
    a.db(&[0x66, 0xea])?;
    a.dd(&[target])?;
    a.dw(&[0x10])
}

/// Identity over the first GiB in 2 MiB pages.
fn page_tables(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut next = a.create_label();
    a.mov(ax, TABLES >> 4)?;
    a.mov(es, ax)?;
    a.xor(di, di)?;
    a.xor(eax, eax)?;
    a.mov(ecx, 0x3000 / 4)?;
    a.rep().stosd()?;
    for (at, entry) in [(0, TABLES + 0x1003), (0x1000, TABLES + 0x2003)] {
        a.mov(di, at)?;
        a.mov(dword_ptr(di).es(), entry)?;
    }
    a.mov(di, 0x2000)?;
    a.mov(eax, 0x83)?;
    a.set_label(&mut next)?;
    a.stosd()?;
    a.mov(dword_ptr(di).es(), 0u32)?;
    a.add(di, 4)?;
    a.add(eax, 0x20_0000)?;
    a.cmp(eax, 0x4000_0083)?;
    a.jb(next)
}
