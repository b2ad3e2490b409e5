//! The loader against good and broken kernel files.

use super::*;

/// A minimal bzImage: boot protocol 2.15, `payload` entered at its byte 200h, 64 KiB of room.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    let blocks = payload.len().div_ceil(16);
    let mut put = |offset: usize, bytes: &[u8]| file[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(blocks as u32).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x236, &1u16.to_le_bytes());
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x100_0000_u64.to_le_bytes());
    put(0x260, &0x1_0000_u32.to_le_bytes());
    file.extend_from_slice(payload);
    file.resize(1024 + 16 * blocks, 0);
    file
}

fn image(kernel: Vec<u8>, initrd: Option<Vec<u8>>, command_line: &str) -> BootImage {
    BootImage { kernel, initrd, command_line: command_line.into() }
}

fn cpu(mebibytes: u64) -> Cpu {
    Cpu::new(Memory::new(mebibytes << 20).unwrap()).unwrap()
}

fn error(cpu: &mut Cpu, image: &BootImage) -> LoadError {
    load(cpu, image, &[0; 32], false).unwrap_err()
}

fn dword(cpu: &Cpu, address: u64) -> u32 {
    let mut bytes = [0; 4];
    cpu.memory().read(address, &mut bytes);
    u32::from_le_bytes(bytes)
}

#[test]
fn places_everything_where_the_zero_page_says() {
    let mut cpu = cpu(32);
    let kernel = bzimage(&[0x90; 0x300]);
    load(&mut cpu, &image(kernel, Some(vec![7; 5000]), "console=ttyS0"), &[1; 32], false).unwrap();
    assert_eq!(cpu.state().rip, 0x100_0200);
    assert_eq!(cpu.state().gpr[gpr::RSI], ZERO_PAGE);
    assert_eq!(dword(&cpu, 0x100_0200), 0x9090_9090);
    let initrd = u64::from(dword(&cpu, ZERO_PAGE + 0x218));
    assert_eq!((initrd, dword(&cpu, ZERO_PAGE + 0x21c)), ((32 << 20) - 8192, 5000));
    assert_eq!(dword(&cpu, initrd + 4996), 0x0707_0707);
    let line = u64::from(dword(&cpu, ZERO_PAGE + 0x228));
    let mut bytes = [1; 14];
    cpu.memory().read(line, &mut bytes);
    assert_eq!(&bytes, b"console=ttyS0\0");
    assert_eq!(dword(&cpu, ZERO_PAGE + 0x202), u32::from_le_bytes(*b"HdrS"));
    assert_eq!(u64::from(dword(&cpu, ZERO_PAGE + 0x70)), acpi::RSDP_ADDRESS);
    assert_eq!(dword(&cpu, acpi::RSDP_ADDRESS), u32::from_le_bytes(*b"RSD "));
    let seed = u64::from(dword(&cpu, ZERO_PAGE + 0x250));
    assert_eq!((dword(&cpu, seed + 8), dword(&cpu, seed + 12), dword(&cpu, seed + 16)), (9, 32, 0x0101_0101));
}

#[test]
fn files_that_are_no_kernel() {
    let mut cpu = cpu(32);
    for file in [vec![], vec![0; 100], vec![0; 5000], b"\x7fELF".repeat(1000)] {
        assert_eq!(error(&mut cpu, &image(file, None, "")), LoadError::NotBzImage);
    }
}

#[test]
fn every_cut_of_a_kernel_is_an_error() {
    let mut cpu = cpu(32);
    let file = bzimage(&[0x90; 0x300]);
    for length in 0..file.len() {
        let error = error(&mut cpu, &image(file[..length].to_vec(), None, ""));
        assert!(matches!(error, LoadError::NotBzImage | LoadError::CutShort { .. }), "{length}: {error}");
    }
}

#[test]
fn every_byte_of_the_header_may_be_anything() {
    let mut cpu = cpu(32);
    let file = bzimage(&[0x90; 0x300]);
    for offset in 0x1f1..0x268 {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut file = file.clone();
            file[offset] = byte;
            drop(load(&mut cpu, &image(file, Some(vec![0; 10]), ""), &[0; 32], false));
        }
    }
}

#[test]
fn a_kernel_without_64_bit_entry_starts_in_32_bits() {
    let mut cpu = cpu(32);
    let mut file = bzimage(&[0; 0x300]);
    file[0x236] = 0;
    load(&mut cpu, &image(file, None, ""), &[0; 32], false).expect("a kernel");
    let state = cpu.state();
    assert_eq!((state.cr0 & control::CR0_PG, state.efer, state.code_bits()), (0, 0, 32));
    assert_eq!(state.gpr[gpr::RSI], ZERO_PAGE);
}

#[test]
fn a_kernel_that_is_too_old() {
    let mut file = bzimage(&[0; 0x300]);
    file[0x206..0x208].copy_from_slice(&0x0204_u16.to_le_bytes());
    let error = error(&mut cpu(32), &image(file, None, ""));
    assert_eq!(error, LoadError::TooOld { version: 0x0204 });
    assert!(error.to_string().contains("protocol 2.4"), "{error}");
}

#[test]
fn command_lines() {
    let mut cpu = cpu(32);
    let file = bzimage(&[0; 0x300]);
    let error_of = |cpu: &mut Cpu, line: &str| error(cpu, &image(file.clone(), None, line));
    assert_eq!(error_of(&mut cpu, &"x".repeat(2048)), LoadError::CommandLineTooLong { length: 2048, limit: 2047 });
    assert_eq!(error_of(&mut cpu, "a\0b"), LoadError::CommandLineZero);
}

#[test]
fn too_little_memory_says_how_much_would_do() {
    let file = bzimage(&[0; 0x300]);
    let small = error(&mut cpu(8), &image(file.clone(), None, ""));
    assert_eq!(small, LoadError::TooLittleMemory { have: 8 << 20, need: 0x101_0000 });
    assert!(small.to_string().contains("at least 17 MiB"), "{small}");
    let large = error(&mut cpu(32), &image(file.clone(), Some(vec![0; 20 << 20]), ""));
    assert!(matches!(large, LoadError::InitrdTooLarge { .. }), "{large}");
    assert!(large.to_string().contains("37 MiB would do"), "{large}");
    load(&mut cpu(37), &image(file.clone(), Some(vec![0; 20 << 20]), ""), &[0; 32], false).unwrap();
    let mut file = file;
    file[0x22c..0x230].copy_from_slice(&0x17f_ffff_u32.to_le_bytes());
    let far = error(&mut cpu(64), &image(file, Some(vec![0; 20 << 20]), ""));
    assert!(matches!(far, LoadError::InitrdOutOfReach { .. }), "{far}");
}

#[test]
fn a_failed_load_changes_nothing() {
    let mut cpu = cpu(32);
    let file = bzimage(&[0x90; 0x300]);
    error(&mut cpu, &image(file, Some(vec![0; 40 << 20]), ""));
    assert_eq!(dword(&cpu, 0x100_0200), 0);
    assert_eq!(cpu.state().rip, 0);
}
