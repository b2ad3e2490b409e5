//! Key numbers to scan codes (IBM Personal System/2 hardware reference, "Keyboards (101- and 102-key)"): set 2 as the
//! keyboard sends it, set 1 as the controller translates it.

/// What the controller makes of each byte of set 2 below 80h.
const TRANSLATION: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, //
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, //
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, //
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, //
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, //
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, //
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, //
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];
/// A byte of set 2 that says that the key goes up.
pub const BREAK: u8 = 0xf0;
/// The first byte of the codes of keys that the first keyboards did not have.
const EXTENDED: u8 = 0xe0;

/// Keys with the extended prefix: Linux's number, the code of set 1.
const EXTENDED_KEYS: [(u16, u8); 33] = [
    (96, 0x1c),  // keypad enter
    (97, 0x1d),  // right control
    (98, 0x35),  // keypad slash
    (100, 0x38), // right alt
    (102, 0x47), // home
    (103, 0x48), // up
    (104, 0x49), // page up
    (105, 0x4b), // left
    (106, 0x4d), // right
    (107, 0x4f), // end
    (108, 0x50), // down
    (109, 0x51), // page down
    (110, 0x52), // insert
    (111, 0x53), // delete
    (113, 0x20), // mute
    (114, 0x2e), // volume down
    (115, 0x30), // volume up
    (116, 0x5e), // power
    (125, 0x5b), // left logo
    (126, 0x5c), // right logo
    (127, 0x5d), // menu
    (140, 0x21), // calculator
    (142, 0x5f), // sleep
    (143, 0x63), // wake up
    (155, 0x6c), // mail
    (156, 0x66), // bookmarks
    (158, 0x6a), // back
    (159, 0x69), // forward
    (163, 0x19), // next song
    (164, 0x22), // play
    (165, 0x10), // previous song
    (166, 0x24), // stop
    (172, 0x32), // home page
];
/// Keys without it whose numbers are not their codes of set 1.
const OTHER_KEYS: [(u16, u8); 6] = [(89, 0x73), (92, 0x79), (93, 0x70), (94, 0x7b), (117, 0x59), (124, 0x7d)];

const LEFT_CONTROL: u16 = 29;
const RIGHT_CONTROL: u16 = 97;
const LEFT_ALT: u16 = 56;
const RIGHT_ALT: u16 = 100;
const PRINT: u16 = 99;
const PAUSE: u16 = 119;

/// The keys that change what others send, as bits of a byte.
pub fn modifier(key: u16) -> u8 {
    match key {
        LEFT_CONTROL => 1,
        RIGHT_CONTROL => 2,
        LEFT_ALT => 4,
        RIGHT_ALT => 8,
        _ => 0,
    }
}

/// Bits of [`modifier`].
const CONTROL: u8 = 3;
const ALT: u8 = 12;

/// The bytes of set 2 for a key, given the modifiers that are down. Empty: the keyboard has no such key.
pub fn set_2(key: u16, pressed: bool, modifiers: u8) -> Vec<u8> {
    match key {
        PRINT if modifiers & ALT != 0 => plain(0x84, pressed),
        PRINT if pressed => vec![EXTENDED, 0x12, EXTENDED, 0x7c],
        PRINT => vec![EXTENDED, BREAK, 0x7c, EXTENDED, BREAK, 0x12],
        // These keys say at once that they have gone up again.
        PAUSE if !pressed => Vec::new(),
        PAUSE if modifiers & CONTROL != 0 => vec![EXTENDED, 0x7e, EXTENDED, BREAK, 0x7e],
        PAUSE => vec![0xe1, 0x14, 0x77, 0xe1, BREAK, 0x14, BREAK, 0x77],
        _ => {
            let found = |keys: &[(u16, u8)]| keys.iter().find(|(number, _)| *number == key).map(|(_, code)| *code);
            if let Some(code) = found(&EXTENDED_KEYS) {
                return [vec![EXTENDED], plain(back(code), pressed)].concat();
            }
            let code = match key {
                1..=83 | 86..=88 => Some(key as u8),
                _ => found(&OTHER_KEYS),
            };
            code.map(|code| plain(back(code), pressed)).unwrap_or_default()
        }
    }
}

fn plain(code: u8, pressed: bool) -> Vec<u8> {
    if pressed { vec![code] } else { vec![BREAK, code] }
}

/// The code of set 2 for one of set 1.
fn back(code: u8) -> u8 {
    match code {
        0x41 => 0x83, // F7 is the one key beyond the table
        _ => TRANSLATION.iter().position(|found| *found == code).unwrap_or(0) as u8,
    }
}

/// What the controller makes of a byte from the keyboard, BREAK apart.
pub fn translate(byte: u8) -> u8 {
    match byte {
        0x83 => 0x41,
        0x84 => 0x54,
        0x00..=0x7f => TRANSLATION[usize::from(byte)],
        _ => byte,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the controller shows a key to software.
    fn set_1(key: u16, pressed: bool, modifiers: u8) -> Vec<u8> {
        let mut up = 0;
        let mut bytes = Vec::new();
        for byte in set_2(key, pressed, modifiers) {
            match byte {
                BREAK => up = 0x80,
                byte => bytes.push(translate(byte) | std::mem::take(&mut up)),
            }
        }
        bytes
    }

    #[test]
    fn keys_by_name() {
        let keys: [(u16, &[u8], &[u8]); 8] = [
            (1, &[0x76], &[0xf0, 0x76]),
            (30, &[0x1c], &[0xf0, 0x1c]),
            (28, &[0x5a], &[0xf0, 0x5a]),
            (65, &[0x83], &[0xf0, 0x83]),
            (87, &[0x78], &[0xf0, 0x78]),
            (111, &[0xe0, 0x71], &[0xe0, 0xf0, 0x71]),
            (99, &[0xe0, 0x12, 0xe0, 0x7c], &[0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]),
            (119, &[0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77], &[]),
        ];
        for (key, down, up) in keys {
            assert_eq!(set_2(key, true, 0), down, "{key}");
            assert_eq!(set_2(key, false, 0), up, "{key}");
        }
    }

    #[test]
    fn translated_codes_of_the_first_keys_are_their_numbers() {
        for key in (1..=83).chain(86..=88) {
            assert_eq!(set_1(key, true, 0), [key as u8]);
            assert_eq!(set_1(key, false, 0), [key as u8 | 0x80]);
        }
        assert_eq!(set_1(119, true, 0), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
        assert_eq!(set_1(119, true, modifier(29)), [0xe0, 0x46, 0xe0, 0xc6]);
        assert_eq!(set_1(99, true, modifier(100)), [0x54]);
        assert_eq!(set_1(97, false, 0), [0xe0, 0x9d]);
    }

    #[test]
    fn unknown_keys_send_nothing() {
        for key in [0, 84, 85, 95, 120, 0x110, 0xffff] {
            assert!(set_2(key, true, 0).is_empty(), "{key}");
        }
    }
}
