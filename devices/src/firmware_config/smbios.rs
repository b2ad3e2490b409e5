//! What the machine is called, for those who ask the BIOS (SMBIOS 2.8, DSP0134): an entry point and structures. The
//! firmware puts them into memory and adds the structure about itself.

/// Bytes of the entry point.
const ENTRY_BYTES: usize = 31;
/// Its second part, with a checksum of its own.
const SECOND_PART: usize = 16;
const MIB: u64 = 1 << 20;
/// Sizes from here on go to a field of their own, in MiB.
const LARGE_DEVICE_MIB: u64 = 0x7fff;

/// Entry point and structures.
pub struct Smbios {
    /// The entry point, its address not filled in.
    pub anchor: Vec<u8>,
    /// The structures.
    pub structures: Vec<u8>,
}

/// A structure: type, handle, what follows the header, and strings, which are numbered from 1.
fn structure(out: &mut Vec<u8>, kind: u8, handle: u16, fields: &[&[u8]], strings: &[&str]) -> usize {
    let start = out.len();
    let fields = fields.concat();
    out.extend([kind, 4 + fields.len() as u8]);
    out.extend(handle.to_le_bytes());
    out.extend(fields);
    for string in strings {
        out.extend(string.bytes());
        out.push(0);
    }
    out.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
    out.len() - start
}

/// Structures of a machine with so many bytes of RAM below and above 4 GiB.
pub fn smbios(low_bytes: u64, high_bytes: u64) -> Smbios {
    let mut bytes = Vec::new();
    let total = low_bytes + high_bytes;
    let kib = |bytes: u64| (u32::try_from(bytes >> 10).unwrap_or(u32::MAX)).to_le_bytes();
    let mut lengths = vec![
        // System: manufacturer, product, version, no serial number, UUID, started by the power switch.
        structure(&mut bytes, 1, 0x100, &[&[1, 2, 3, 0], &[0; 16], &[6, 0, 0]], &["ftemu", "PC", "1"]),
        // Enclosure: other, states safe, no security.
        structure(&mut bytes, 3, 0x300, &[&[1, 1, 0, 0, 0, 3, 3, 3, 2], &[0; 4], &[0, 0, 0, 0, 0]], &["ftemu"]),
        processor(&mut bytes),
        // Physical memory array: on the board, system memory, multi-bit ECC.
        structure(&mut bytes, 16, 0x1000, &[&[3, 3, 6], &kib(total), &[0xfe, 0xff, 1, 0], &[0; 8]], &[]),
        memory_device(&mut bytes, total),
    ];
    for (handle, first, length) in [(0x1300, 0, low_bytes), (0x1301, 4 << 30, high_bytes)] {
        if length != 0 {
            let range = [kib(first), kib(first + length - 1)].concat();
            lengths.push(structure(&mut bytes, 19, handle, &[&range, &[0, 0x10, 1], &[0; 16]], &[]));
        }
    }
    lengths.push(structure(&mut bytes, 32, 0x2000, &[&[0; 7]], &[]));
    lengths.push(structure(&mut bytes, 127, 0x7f00, &[], &[]));
    Smbios { anchor: entry_point(&lengths), structures: bytes }
}

/// Processor: one socket, a central processor, enabled, one core and thread.
fn processor(bytes: &mut Vec<u8>) -> usize {
    let fields: [&[u8]; 9] = [
        &[1, 3, 1, 2],       // socket, central processor, other family, manufacturer
        &[0; 8],             // CPUID
        &[0, 0],             // no version, no voltage
        &[0, 0],             // external clock unknown
        &[0xe8, 3, 0xe8, 3], // 1000 MHz
        &[0x41, 1],          // populated and enabled, other upgrade
        &[0xff; 6],          // no handles of caches
        &[0, 0, 0, 1, 1, 1, 2, 0],
        &[1, 0],
    ];
    structure(bytes, 4, 0x400, &fields, &["CPU 0", "ftemu"])
}

/// One memory device that holds everything.
fn memory_device(bytes: &mut Vec<u8>, total: u64) -> usize {
    let mebibytes = total / MIB;
    let size = if mebibytes < LARGE_DEVICE_MIB { mebibytes as u16 } else { LARGE_DEVICE_MIB as u16 };
    let extended = if mebibytes < LARGE_DEVICE_MIB { 0 } else { mebibytes as u32 };
    let fields: [&[u8]; 7] = [
        &[0, 0x10, 0xfe, 0xff, 0x40, 0, 0x40, 0], // array, no error handle, 64 bits wide
        &size.to_le_bytes(),
        &[9, 0, 1, 0, 7, 2, 0], // DIMM, in no set, its place, RAM
        &[0, 0, 2, 0, 0, 0, 0], // speed unknown, manufacturer
        &extended.to_le_bytes(),
        &[0, 0],
        &[0; 6],
    ];
    structure(bytes, 17, 0x1100, &fields, &["DIMM 0", "ftemu"])
}

fn entry_point(lengths: &[usize]) -> Vec<u8> {
    let whole: usize = lengths.iter().sum();
    let largest = lengths.iter().copied().max().unwrap_or(0);
    let mut bytes = vec![0; ENTRY_BYTES];
    bytes[..4].copy_from_slice(b"_SM_");
    bytes[5..8].copy_from_slice(&[ENTRY_BYTES as u8, 2, 8]);
    bytes[8..10].copy_from_slice(&(largest as u16).to_le_bytes());
    bytes[16..21].copy_from_slice(b"_DMI_");
    bytes[22..24].copy_from_slice(&(whole as u16).to_le_bytes());
    bytes[28..30].copy_from_slice(&(lengths.len() as u16).to_le_bytes());
    bytes[30] = 0x28;
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    bytes[21] = sum(&bytes[SECOND_PART..]);
    bytes[4] = sum(&bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_point_describes_the_structures() {
        let Smbios { anchor, structures } = smbios(3 << 30, 61 << 30);
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((anchor.len(), sum(&anchor), sum(&anchor[16..])), (31, 0, 0));
        assert_eq!(usize::from(u16::from_le_bytes([anchor[22], anchor[23]])), structures.len());
        let mut rest = &structures[..];
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            kinds.push((rest[0], rest[1]));
            let text = &rest[usize::from(rest[1])..];
            let end = text.windows(2).position(|pair| pair == [0, 0]).expect("the strings end") + 2;
            rest = &text[end..];
        }
        let expected = [(1, 27), (3, 22), (4, 42), (16, 23), (17, 40), (19, 31), (19, 31), (32, 11), (127, 4)];
        assert_eq!(kinds, expected);
        assert_eq!(usize::from(anchor[28]), kinds.len());
    }
}
