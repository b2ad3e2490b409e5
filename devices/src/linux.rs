//! Direct boot of a Linux kernel by its 64-bit or, where it has none, its 32-bit boot protocol (kernel:
//! Documentation/arch/x86/boot.rst).
//!
//! The parser is ours: it is a handful of fields of a hostile file, and the crates that know them bring a guest memory
//! model of their own.

use crate::boot_params::{self, Placement};
use crate::{acpi, state::saved};
use ftemu_cpu::memory::PAGE;
use ftemu_cpu::{Cpu, Memory, State};
use ftemu_cpu::{state::Segment, state::TableRegister};
use ftemu_cpu::{state::control, state::gpr, state::rflags, state::segment};

/// Where the loader puts what the kernel reads at its entry. All below the extended BIOS data area.
const BIOS_DATA: u64 = 0x400;
const GDT: u64 = 0x500;
const ZERO_PAGE: u64 = 0x7000;
const SETUP_DATA: u64 = 0x8000;
const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
const EXTENDED_BIOS_DATA_SEGMENT: u16 = 0x9fc0;

/// 64-bit entry point, relative to the loaded kernel.
const ENTRY_64: u64 = 0x200;
const XLF_KERNEL_64: u16 = 1;
const MINIMUM_VERSION: u16 = 0x020c;
const SETUP_RNG_SEED: u32 = 9;
const SECTOR: u64 = 512;

/// Why a kernel could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No boot sector signature or no `HdrS` header.
    #[error("the kernel is not a bzImage (no boot header in it): give the compressed kernel, usually /boot/vmlinuz-*")]
    NotBzImage,
    /// The file ends before the length its header declares.
    #[error("the kernel file is cut short: it has {have} bytes, its header declares {need}; get the file again")]
    CutShort {
        /// Bytes in the file.
        have: u64,
        /// Bytes that the header declares.
        need: u64,
    },
    /// A boot protocol before 2.12.
    #[error("the kernel is too old (boot protocol {}.{}): give one of Linux 3.8 or later, or boot it from a disk", version >> 8, version & 0xff)]
    TooOld {
        /// Boot protocol version as in the header.
        version: u16,
    },
    /// A field of the header makes no sense.
    #[error("the kernel's boot header is damaged: {0}")]
    Damaged(&'static str),
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {length} bytes; this kernel takes at most {limit}")]
    CommandLineTooLong {
        /// Its length in bytes.
        length: usize,
        /// The kernel's limit.
        limit: usize,
    },
    /// The command line contains a zero byte.
    #[error("the kernel command line contains a zero byte")]
    CommandLineZero,
    /// The initrd does not fit where the kernel can reach it.
    #[error("the initrd of {initrd} bytes does not fit beside the kernel in {} MiB of RAM; {} MiB would do", have >> 20, need.div_ceil(1 << 20))]
    InitrdTooLarge {
        /// Bytes of initrd.
        initrd: u64,
        /// Bytes of RAM there are.
        have: u64,
        /// Bytes of RAM that would do.
        need: u64,
    },
    /// The initrd is larger than the kernel could ever reach.
    #[error("the initrd of {initrd} bytes is larger than this kernel can take ({limit} bytes)")]
    InitrdOutOfReach {
        /// Bytes of initrd.
        initrd: u64,
        /// Bytes below the kernel's highest initrd address.
        limit: u64,
    },
    /// The kernel itself does not fit.
    #[error("the kernel does not fit in {} MiB of RAM; it needs at least {} MiB", have >> 20, need.div_ceil(1 << 20))]
    TooLittleMemory {
        /// Bytes of RAM there are.
        have: u64,
        /// Bytes of RAM that would do.
        need: u64,
    },
}

/// What is booted; kept, so that a reset boots it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootImage {
    /// The bzImage file.
    pub kernel: Vec<u8>,
    /// The initial RAM disk.
    pub initrd: Option<Vec<u8>>,
    /// The command line.
    pub command_line: String,
}
saved!(BootImage { kernel, initrd, command_line });

/// The fields of the setup header that a loader needs.
#[derive(Debug)]
struct Header<'a> {
    /// From 1F1h to the header's end, to be copied into the zero page.
    bytes: &'a [u8],
    /// The protected-mode kernel.
    payload: &'a [u8],
    initrd_address_max: u64,
    command_line_size: usize,
    load_address: u64,
    init_size: u64,
    /// It has a 64-bit entry point.
    long: bool,
}

fn field<const N: usize>(kernel: &[u8], offset: usize) -> Option<[u8; N]> {
    kernel.get(offset..)?.first_chunk().copied()
}

impl<'a> Header<'a> {
    fn parse(kernel: &'a [u8]) -> Result<Header<'a>, LoadError> {
        let cut = |need: u64| LoadError::CutShort { have: kernel.len() as u64, need };
        if kernel.len() < 0x206 || kernel[0x1fe..0x200] != [0x55, 0xaa] || &kernel[0x202..0x206] != b"HdrS" {
            return Err(LoadError::NotBzImage);
        }
        let word = |offset| field(kernel, offset).map(u16::from_le_bytes).ok_or(cut(0x268));
        let dword = |offset| field(kernel, offset).map(u32::from_le_bytes).ok_or(cut(0x268));
        let version = word(0x206)?;
        if version < MINIMUM_VERSION {
            return Err(LoadError::TooOld { version });
        }
        let header_end = 0x202 + usize::from(kernel[0x201]);
        let bytes = kernel.get(0x1f1..header_end).ok_or(cut(header_end as u64))?;
        if !(0x268..=0x290).contains(&header_end) {
            return Err(LoadError::Damaged("its length"));
        }
        let setup_sectors = if kernel[0x1f1] == 0 { 4 } else { u64::from(kernel[0x1f1]) };
        let start = (setup_sectors + 1) * SECTOR;
        let need = start + u64::from(dword(0x1f4)?) * 16;
        let payload = kernel.get(start as usize..need as usize).ok_or(cut(need))?;
        let load_address = field(kernel, 0x258).map(u64::from_le_bytes).ok_or(cut(0x268))?;
        let init_size = u64::from(dword(0x260)?).max(payload.len() as u64);
        if !(0x10_0000..1 << 32).contains(&load_address) || load_address % PAGE != 0 {
            return Err(LoadError::Damaged("its preferred address"));
        }
        Ok(Header {
            bytes,
            payload,
            initrd_address_max: u64::from(dword(0x22c)?),
            command_line_size: dword(0x238)? as usize,
            load_address,
            init_size,
            long: word(0x236)? & XLF_KERNEL_64 != 0,
        })
    }

    fn check_command_line(&self, line: &str) -> Result<(), LoadError> {
        let limit = self.command_line_size.min((0x9_0000 - COMMAND_LINE) as usize);
        match () {
            () if line.contains('\0') => Err(LoadError::CommandLineZero),
            () if line.len() > limit => Err(LoadError::CommandLineTooLong { length: line.len(), limit }),
            () => Ok(()),
        }
    }

    /// The address of an initrd: as high as the kernel allows, above the room the kernel needs to unpack itself.
    fn place_initrd(&self, memory: &Memory, length: u64) -> Result<u64, LoadError> {
        let kernel_end = (self.load_address + self.init_size).next_multiple_of(PAGE);
        let have = memory.size();
        let need = kernel_end.saturating_add(length.next_multiple_of(PAGE));
        if memory.low_size() < kernel_end {
            return Err(LoadError::TooLittleMemory { have, need });
        }
        let reach = (self.initrd_address_max + 1).min(ftemu_cpu::memory::LOW_END);
        if reach < need {
            return Err(LoadError::InitrdOutOfReach { initrd: length, limit: reach.saturating_sub(kernel_end) });
        }
        let end = reach.min(memory.low_size());
        match end.checked_sub(length).map(|start| start & !(PAGE - 1)) {
            Some(start) if start >= kernel_end => Ok(start),
            _ => Err(LoadError::InitrdTooLarge { initrd: length, have, need }),
        }
    }
}

/// Checks an image against the RAM it would be loaded to.
///
/// # Errors
/// [`LoadError`].
pub fn check(memory: &Memory, image: &BootImage) -> Result<(), LoadError> {
    let header = Header::parse(&image.kernel)?;
    header.check_command_line(&image.command_line)?;
    header.place_initrd(memory, image.initrd.as_ref().map_or(0, Vec::len) as u64).map(drop)
}

/// Checks the image against `memory` and puts it there with everything the protocol wants; `seed` is the kernel's
/// first entropy, `video` whether the board has a VGA. The CPU then stands at the kernel's entry point.
///
/// # Errors
/// [`LoadError`]; nothing has been changed then.
pub fn load(cpu: &mut Cpu, image: &BootImage, seed: &[u8; 32], video: bool) -> Result<(), LoadError> {
    let header = Header::parse(&image.kernel)?;
    header.check_command_line(&image.command_line)?;
    let initrd = image.initrd.as_deref().unwrap_or_default();
    let initrd_address = header.place_initrd(cpu.memory(), initrd.len() as u64)?;
    let memory = cpu.memory_mut();
    memory.store(header.load_address, header.payload);
    memory.store(initrd_address, initrd);
    memory.store(COMMAND_LINE, image.command_line.as_bytes());
    memory.store(COMMAND_LINE + image.command_line.len() as u64, &[0]);
    store_seed(memory, seed);
    let placement = Placement {
        initrd: (if initrd.is_empty() { 0 } else { initrd_address }, initrd.len() as u64),
        command_line: COMMAND_LINE,
        setup_data: SETUP_DATA,
    };
    let page = boot_params::zero_page(memory, header.bytes, &placement);
    memory.store(ZERO_PAGE, &page);
    store_firmware(memory, video);
    store_tables(memory, header.long);
    *cpu.state_mut() =
        if header.long { entry_state(header.load_address + ENTRY_64) } else { entry_state_32(header.load_address) };
    cpu.forget_derived();
    Ok(())
}

/// A setup_data node with the seed.
fn store_seed(memory: &mut Memory, seed: &[u8; 32]) {
    memory.store(SETUP_DATA, &0u64.to_le_bytes());
    memory.store(SETUP_DATA + 8, &SETUP_RNG_SEED.to_le_bytes());
    memory.store(SETUP_DATA + 12, &(seed.len() as u32).to_le_bytes());
    memory.store(SETUP_DATA + 16, seed);
}

/// The ACPI tables, and the words of the BIOS data area that kernels still look at.
fn store_firmware(memory: &mut Memory, video: bool) {
    let described = acpi::Described { low_bytes: memory.low_size(), video };
    for (address, bytes) in acpi::tables(&described) {
        memory.store(address, &bytes);
    }
    memory.store(BIOS_DATA, &0x3f8_u16.to_le_bytes());
    memory.store(BIOS_DATA + 2, &0x2f8_u16.to_le_bytes());
    memory.store(BIOS_DATA + 0x0e, &EXTENDED_BIOS_DATA_SEGMENT.to_le_bytes());
    memory.store(BIOS_DATA + 0x13, &639_u16.to_le_bytes());
}

/// A GDT as the protocol wants it and page tables that map the first 4 GiB one to one with 2 MiB pages.
fn store_tables(memory: &mut Memory, long: bool) {
    let code = if long { 0x00af_9b00_0000_ffff_u64 } else { 0x00cf_9b00_0000_ffff };
    for (index, descriptor) in [0, 0, code, 0x00cf_9300_0000_ffff].into_iter().enumerate() {
        memory.store(GDT + 8 * index as u64, &descriptor.to_le_bytes());
    }
    let directory_pointers = PAGE_TABLES + PAGE;
    memory.store(PAGE_TABLES, &(directory_pointers | 3).to_le_bytes());
    for gib in 0..4 {
        let directory = directory_pointers + (gib + 1) * PAGE;
        memory.store(directory_pointers + 8 * gib, &(directory | 3).to_le_bytes());
        for entry in 0..512 {
            let page = gib << 30 | entry << 21;
            memory.store(directory + 8 * entry, &(page | 0x83).to_le_bytes());
        }
    }
}

/// The registers at the 64-bit entry point: flat segments, identity map, interrupts off, RSI at the zero page; and
/// what PC firmware leaves in the memory type registers.
fn entry_state(rip: u64) -> State {
    let code = Segment { base: 0, limit: u32::MAX, attributes: 0xa9b, selector: 0x10 };
    let data = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 0x18 };
    let mut state = State { rip, rflags: rflags::FIXED, ..State::default() };
    state.segments = [data; 6];
    state.segments[segment::CS] = code;
    state.ldtr = Segment { limit: 0xffff, attributes: 0x82, ..Segment::default() };
    state.tr = Segment { limit: 0xffff, attributes: 0x8b, ..Segment::default() };
    state.gdtr = TableRegister { base: GDT, limit: 31 };
    state.idtr = TableRegister { base: 0, limit: 0 };
    state.gpr[gpr::RSI] = ZERO_PAGE;
    state.gpr[gpr::RSP] = ZERO_PAGE;
    state.cr0 = control::CR0_PG | control::CR0_PE | control::CR0_ET | control::CR0_NE;
    state.cr3 = PAGE_TABLES;
    state.cr4 = control::CR4_PAE;
    state.efer = control::EFER_LME | control::EFER_LMA;
    state.pat = 0x0007_0406_0007_0406;
    state.dr[6] = 0xffff_0ff0;
    state.dr[7] = 0x400;
    state.mtrr_def_type = 0xc06; // enabled, fixed ranges enabled, write-back
    state.mtrr_variable[0] = 0xc000_0000; // 3-4 GiB uncacheable
    state.mtrr_variable[1] = 0xff_c000_0800;
    state.mtrr_fixed = [0x0606_0606_0606_0606; 11];
    state.mtrr_fixed[2] = 0; // A0000h-BFFFFh uncacheable
    state
}

/// The registers at the 32-bit entry point: as at the other, without paging.
fn entry_state_32(rip: u64) -> State {
    let mut state = entry_state(rip);
    state.segments[segment::CS].attributes = 0xc9b;
    state.cr0 &= !control::CR0_PG;
    (state.cr3, state.cr4, state.efer) = (0, 0, 0);
    state
}

#[cfg(test)]
pub(crate) mod tests;
