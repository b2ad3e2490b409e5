//! Keys by name, by character, by X keysym, and by the number that viewers give a key's place: all become the numbers of
//! Linux input events, which is what the guest's keyboard takes.

use anyhow::{Context, Result, bail};

/// Keys that are pressed together, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chord(pub Vec<u16>);

/// What types a text: chord after chord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typing(pub Vec<Chord>);

/// The shift keys.
pub const SHIFTS: [u16; 2] = [LEFT_SHIFT, 54];
/// Capitals lock.
pub const CAPITALS: u16 = 58;
const LEFT_SHIFT: u16 = 42;

/// Keys that write something on a US keyboard: number, without shift, with shift.
const WRITING: &[(u16, char, char)] = &[
    (2, '1', '!'),
    (3, '2', '@'),
    (4, '3', '#'),
    (5, '4', '$'),
    (6, '5', '%'),
    (7, '6', '^'),
    (8, '7', '&'),
    (9, '8', '*'),
    (10, '9', '('),
    (11, '0', ')'),
    (12, '-', '_'),
    (13, '=', '+'),
    (16, 'q', 'Q'),
    (17, 'w', 'W'),
    (18, 'e', 'E'),
    (19, 'r', 'R'),
    (20, 't', 'T'),
    (21, 'y', 'Y'),
    (22, 'u', 'U'),
    (23, 'i', 'I'),
    (24, 'o', 'O'),
    (25, 'p', 'P'),
    (26, '[', '{'),
    (27, ']', '}'),
    (30, 'a', 'A'),
    (31, 's', 'S'),
    (32, 'd', 'D'),
    (33, 'f', 'F'),
    (34, 'g', 'G'),
    (35, 'h', 'H'),
    (36, 'j', 'J'),
    (37, 'k', 'K'),
    (38, 'l', 'L'),
    (39, ';', ':'),
    (40, '\'', '"'),
    (41, '`', '~'),
    (43, '\\', '|'),
    (44, 'z', 'Z'),
    (45, 'x', 'X'),
    (46, 'c', 'C'),
    (47, 'v', 'V'),
    (48, 'b', 'B'),
    (49, 'n', 'N'),
    (50, 'm', 'M'),
    (51, ',', '<'),
    (52, '.', '>'),
    (53, '/', '?'),
    (57, ' ', ' '),
];

/// Other keys: number, names, X keysym (0: none of its own).
const NAMED: &[(u16, &[&str], u32)] = &[
    (1, &["esc", "escape"], 0xff1b),
    (12, &["minus"], 0),
    (13, &["equal"], 0),
    (14, &["backspace"], 0xff08),
    (15, &["tab"], 0xff09),
    (26, &["bracketleft"], 0),
    (27, &["bracketright"], 0),
    (28, &["enter", "ret", "return"], 0xff0d),
    (29, &["ctrl", "control"], 0xffe3),
    (39, &["semicolon"], 0),
    (40, &["apostrophe"], 0),
    (41, &["grave"], 0),
    (LEFT_SHIFT, &["shift"], 0xffe1),
    (43, &["backslash"], 0),
    (51, &["comma"], 0),
    (52, &["dot"], 0),
    (53, &["slash"], 0),
    (54, &["shift_r"], 0xffe2),
    (55, &["kp_multiply"], 0xffaa),
    (56, &["alt"], 0xffe9),
    (57, &["space", "spc"], 0),
    (58, &["capslock"], 0xffe5),
    (59, &["f1"], 0xffbe),
    (60, &["f2"], 0xffbf),
    (61, &["f3"], 0xffc0),
    (62, &["f4"], 0xffc1),
    (63, &["f5"], 0xffc2),
    (64, &["f6"], 0xffc3),
    (65, &["f7"], 0xffc4),
    (66, &["f8"], 0xffc5),
    (67, &["f9"], 0xffc6),
    (68, &["f10"], 0xffc7),
    (69, &["numlock"], 0xff7f),
    (70, &["scrolllock"], 0xff14),
    (71, &["kp_7"], 0xffb7),
    (72, &["kp_8"], 0xffb8),
    (73, &["kp_9"], 0xffb9),
    (74, &["kp_subtract"], 0xffad),
    (75, &["kp_4"], 0xffb4),
    (76, &["kp_5"], 0xffb5),
    (77, &["kp_6"], 0xffb6),
    (78, &["kp_add"], 0xffab),
    (79, &["kp_1"], 0xffb1),
    (80, &["kp_2"], 0xffb2),
    (81, &["kp_3"], 0xffb3),
    (82, &["kp_0"], 0xffb0),
    (83, &["kp_decimal"], 0xffae),
    (86, &["less"], 0),
    (87, &["f11"], 0xffc8),
    (88, &["f12"], 0xffc9),
    (96, &["kp_enter"], 0xff8d),
    (97, &["ctrl_r"], 0xffe4),
    (98, &["kp_divide"], 0xffaf),
    (99, &["print", "sysrq"], 0xff61),
    (100, &["altgr", "alt_r"], 0xffea),
    (102, &["home"], 0xff50),
    (103, &["up"], 0xff52),
    (104, &["pageup", "pgup"], 0xff55),
    (105, &["left"], 0xff51),
    (106, &["right"], 0xff53),
    (107, &["end"], 0xff57),
    (108, &["down"], 0xff54),
    (109, &["pagedown", "pgdn"], 0xff56),
    (110, &["insert"], 0xff63),
    (111, &["delete", "del"], 0xffff),
    (119, &["pause"], 0xff13),
    (125, &["meta", "win", "super"], 0xffeb),
    (126, &["meta_r"], 0xffec),
    (127, &["menu", "compose"], 0xff67),
];

/// Keysyms that mean a key that another keysym names, too: the keypad without NumLock, Meta, level 3 shift, back tab.
const ALIASES: &[(u32, u16)] = &[
    (0xff95, 71),
    (0xff97, 72),
    (0xff9a, 73),
    (0xff96, 75),
    (0xff9d, 76),
    (0xff98, 77),
    (0xff9c, 79),
    (0xff99, 80),
    (0xff9b, 81),
    (0xff9e, 82),
    (0xff9f, 83),
    (0xff15, 99),
    (0xffe7, 125),
    (0xffe8, 126),
    (0xfe03, 100),
    (0xfe20, 15),
];

/// Places of keys that are not the numbers of the first keyboards: with 80h, those of the extended ones.
const PLACES: &[(u8, u16)] = &[
    (0x9c, 96),
    (0x9d, 97),
    (0xb5, 98),
    (0xb7, 99),
    (0x54, 99),
    (0xb8, 100),
    (0xc7, 102),
    (0xc8, 103),
    (0xc9, 104),
    (0xcb, 105),
    (0xcd, 106),
    (0xcf, 107),
    (0xd0, 108),
    (0xd1, 109),
    (0xd2, 110),
    (0xd3, 111),
    (0xc6, 119),
    (0xdb, 125),
    (0xdc, 126),
    (0xdd, 127),
    (0x73, 89),
    (0x7d, 124),
];

/// Keys joined by `-`.
///
/// # Errors
/// Names a key that is not there.
pub fn chord(text: &str) -> Result<Chord> {
    // "ctrl--" means the key with the minus sign.
    let text = text.strip_suffix("--").map_or_else(|| text.to_owned(), |rest| format!("{rest}-minus"));
    let text = if text == "-" { "minus".to_owned() } else { text };
    let keys: Result<Vec<u16>> = text.split('-').map(by_name).collect();
    keys.map(Chord)
}

fn by_name(name: &str) -> Result<u16> {
    let lower = name.to_lowercase();
    let named = NAMED.iter().find(|(_, names, _)| names.contains(&lower.as_str())).map(|(code, ..)| *code);
    let mut characters = lower.chars();
    let single = match (characters.next(), characters.next()) {
        (Some(character), None) => WRITING.iter().find(|(_, plain, _)| *plain == character).map(|(code, ..)| *code),
        _ => None,
    };
    named
        .or(single)
        .with_context(|| format!("there is no key {name:?}; `ftemu sendkey --help` shows how keys are named"))
}

/// What types a text on a US keyboard.
///
/// # Errors
/// Names a character that is on no key.
pub fn text(text: &str) -> Result<Typing> {
    let chords: Result<Vec<Chord>> = text.chars().map(by_character).collect();
    chords.map(Typing)
}

fn by_character(character: char) -> Result<Chord> {
    match character {
        '\n' | '\r' => return Ok(Chord(vec![28])),
        '\t' => return Ok(Chord(vec![15])),
        _ => {}
    }
    for (code, plain, shifted) in WRITING {
        if *plain == character {
            return Ok(Chord(vec![*code]));
        } else if *shifted == character {
            return Ok(Chord(vec![LEFT_SHIFT, *code]));
        }
    }
    bail!("{character:?} is on no key of a US keyboard")
}

/// The key that an X keysym stands for. Viewers send the shift keys as well, so only the place counts.
pub fn by_keysym(keysym: u32) -> Option<u16> {
    let writes = |character: char| {
        WRITING.iter().find(|(_, plain, shifted)| [*plain, *shifted].contains(&character)).map(|(code, ..)| *code)
    };
    let named = || NAMED.iter().find(|(.., own)| *own == keysym && keysym != 0).map(|(code, ..)| *code);
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == keysym).map(|(_, code)| *code);
    let character = if keysym < 0x80 { char::from_u32(keysym) } else { None };
    character.and_then(writes).or_else(named).or_else(alias)
}

/// Whether the key that a keysym stands for writes it with shift; `None`: shift does not matter.
pub fn needs_shift(keysym: u32) -> Option<bool> {
    let character = char::from_u32(keysym).filter(|character| character.is_ascii())?;
    let (_, plain, shifted) = WRITING.iter().find(|(_, plain, shifted)| [*plain, *shifted].contains(&character))?;
    (plain != shifted).then_some(*shifted == character)
}

/// The key at a place, numbered as scan codes of set 1, extended ones with 80h added.
pub fn by_place(place: u32) -> Option<u16> {
    let place = u8::try_from(place).ok()?;
    let known = PLACES.iter().find(|(known, _)| *known == place).map(|(_, code)| *code);
    known.or_else(|| matches!(place, 1..=83 | 86..=88).then_some(u16::from(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_by_name() {
        for (text, keys) in [
            ("ctrl-alt-delete", &[29, 56, 111][..]),
            ("a", &[30]),
            ("Alt-F4", &[56, 62]),
            ("-", &[12]),
            ("ctrl--", &[29, 12]),
            ("enter", &[28]),
        ] {
            assert_eq!(chord(text).expect("keys"), Chord(keys.to_vec()), "{text}");
        }
        for text in ["", "ctrl-", "hyper", "ctrl-alt-del!", "ä"] {
            assert!(chord(text).is_err(), "{text}");
        }
    }

    #[test]
    fn text_as_it_is_typed() {
        let keys: Vec<Vec<u16>> = text("aB|\n").expect("keys").0.into_iter().map(|chord| chord.0).collect();
        assert_eq!(keys, [vec![30], vec![42, 48], vec![42, 43], vec![28]]);
        assert!(text("ß").is_err());
    }

    #[test]
    fn keysyms_and_places_of_keys() {
        for (keysym, code) in
            [(0x61, 30), (0x41, 30), (0x21, 2), (0x20, 57), (0xff0d, 28), (0xffff, 111), (0xfe03, 100)]
        {
            assert_eq!(by_keysym(keysym), Some(code), "{keysym:x}");
        }
        for (place, code) in [(0x1e, 30), (0xc8, 103), (0x58, 88), (0x9d, 97), (0xc6, 119), (0xb7, 99)] {
            assert_eq!(by_place(place), Some(code), "{place:x}");
        }
        for nothing in [0, 0x55, 0xff, 0x100, u32::MAX] {
            assert_eq!(by_place(nothing), None);
        }
        let shifts = [0x61, 0x41, 0x5f, 0x31, 0x20, 0xff0d].map(needs_shift);
        assert_eq!(shifts, [Some(false), Some(true), Some(true), Some(false), None, None]);
        assert_eq!([by_keysym(0), by_keysym(0xe4), by_keysym(u32::MAX)], [None; 3]);
    }
}
