//! The shape of a bzImage: Linux, `Documentation/arch/x86/boot.rst`, protocol 2.15 with a 64-bit entry.

use super::setup;

/// The 64-bit entry lies this far into the protected-mode part.
pub(super) const ENTRY_OFFSET: u64 = 0x200;

/// Where the protected-mode part is loaded unless the loader chooses otherwise.
pub(super) const LOAD_ADDRESS: u32 = 0x10_0000;

/// Everything a tiny guest uses lies within this many bytes from where it is loaded: code, tables, stack, data.
pub(super) const FOOTPRINT: u32 = 0x40_0000;

/// Where the header of protocol 2.15 ends, and the real-mode code begins.
const HEADER_END: usize = 0x26c;

/// Sectors of the real-mode part after the first.
const SETUP_SECTORS: u8 = 1;

/// Puts a setup header before code whose first byte is the 64-bit entry.
pub(super) fn wrap(code: &[u8]) -> Vec<u8> {
    let setup_bytes = (usize::from(SETUP_SECTORS) + 1) * 512;
    let mut image = vec![0; setup_bytes];
    // A 32-bit entry, which nobody should use: CLI, HLT, and back.
    let mut payload = vec![0; ENTRY_OFFSET as usize];
    payload[..4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfc]);
    payload.extend_from_slice(code);
    payload.resize(payload.len().next_multiple_of(16), 0);
    let syssize = u32::try_from(payload.len() / 16).expect("a tiny guest is tiny");

    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[SETUP_SECTORS]);
    put(0x1f4, &syssize.to_le_bytes());
    put(0x1fe, &0xaa55u16.to_le_bytes()); // boot_flag
    put(0x200, &[0xeb, 0x6a]); // a jump over the header
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes()); // version
    put(0x211, &[0x01]); // loadflags: LOADED_HIGH
    put(0x214, &LOAD_ADDRESS.to_le_bytes()); // code32_start
    put(0x22c, &0x7fff_ffffu32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x1000u32.to_le_bytes()); // kernel_alignment
    put(0x234, &[1, 12]); // relocatable_kernel, min_alignment as a power of two
    put(0x236, &0x0003u16.to_le_bytes()); // xloadflags: XLF_KERNEL_64, XLF_CAN_BE_LOADED_ABOVE_4G
    put(0x238, &2047u32.to_le_bytes()); // cmdline_size
    put(0x258, &u64::from(LOAD_ADDRESS).to_le_bytes()); // pref_address
    put(0x260, &FOOTPRINT.to_le_bytes()); // init_size
    let setup = setup::assemble(HEADER_END as u32).expect("the setup code assembles");
    put(HEADER_END, &setup);
    image.extend_from_slice(&payload);
    image
}
