//! The shape of the tiny guests. That they run is shown where a machine is at hand: `tests/` of the program.

use super::*;

#[test]
fn every_guest_is_a_bzimage_with_a_64_bit_entry() {
    for guest in [lines(3, 1, 0), echo(), resets(ResetBy::TripleFault), torture(3, 1)] {
        let image = &guest.kernel;
        let setup_bytes = (usize::from(image[0x1f1]) + 1) * 512;
        assert_eq!(&image[0x1fe..0x200], &[0x55, 0xaa], "{}", guest.name);
        assert_eq!(&image[0x202..0x206], b"HdrS");
        assert_eq!(image[0x236] & 1, 1, "XLF_KERNEL_64");
        let syssize = u32::from_le_bytes(image[0x1f4..0x1f8].try_into().unwrap());
        assert_eq!(image.len(), setup_bytes + syssize as usize * 16);
        assert_eq!(image[setup_bytes + 0x200], 0xfa, "the entry starts with CLI");
        assert!(image.len() < 0x1_0000, "code ends before the tables begin");
    }
}

#[test]
fn assembling_again_gives_the_same_bytes() {
    assert_eq!(torture(1, 1).kernel, torture(2, 2).kernel);
    assert_eq!(lines(1, 1, 1).kernel, lines(2, 2, 2).kernel);
}
