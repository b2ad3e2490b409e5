//! How state is written down: explicit, little-endian, complete.
//!
//! A checkpoint must mean the same on every host, so nothing is written whose size or order the host chooses (no
//! `usize`, no padding, no map). `saved!` destructures a chip exhaustively: a field that is added and not classified
//! does not compile.

use std::collections::VecDeque;

/// Something that belongs to a checkpoint.
pub trait Saved: Sized {
    /// Appends the value.
    fn save(&self, out: &mut Vec<u8>);
    /// Takes a value off the front. `None`: the bytes are cut short or mean nothing.
    fn load(bytes: &mut &[u8]) -> Option<Self>;
}

/// Takes `length` bytes off the front.
pub fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

macro_rules! integers {
    ($($type:ty),*) => { $(
        impl Saved for $type {
            fn save(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn load(bytes: &mut &[u8]) -> Option<Self> {
                Some(<$type>::from_le_bytes(take(bytes, size_of::<$type>())?.try_into().ok()?))
            }
        }
    )* };
}
integers!(u8, u16, u32, u64, i128);

impl Saved for bool {
    fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        match u8::load(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Saved> Saved for Option<T> {
    fn save(&self, out: &mut Vec<u8>) {
        self.is_some().save(out);
        if let Some(value) = self {
            value.save(out);
        }
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        if bool::load(bytes)? { Some(Some(T::load(bytes)?)) } else { Some(None) }
    }
}

impl<T: Saved, const N: usize> Saved for [T; N] {
    fn save(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.save(out));
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        let values: Option<Vec<T>> = (0..N).map(|_| T::load(bytes)).collect();
        values?.try_into().ok()
    }
}

impl Saved for Vec<u8> {
    fn save(&self, out: &mut Vec<u8>) {
        (self.len() as u64).save(out);
        out.extend_from_slice(self);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        let length = u64::load(bytes)?;
        Some(take(bytes, usize::try_from(length).ok()?)?.to_vec())
    }
}

impl Saved for VecDeque<u8> {
    fn save(&self, out: &mut Vec<u8>) {
        self.iter().copied().collect::<Vec<u8>>().save(out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        Vec::load(bytes).map(VecDeque::from)
    }
}

impl Saved for String {
    fn save(&self, out: &mut Vec<u8>) {
        self.as_bytes().to_vec().save(out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Vec::load(bytes)?).ok()
    }
}

/// Implements [`Saved`] for a struct by naming every field, in the order of the encoding.
macro_rules! saved {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::state::Saved for $type {
            fn save(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::state::Saved::save($field, out);)*
            }
            fn load(bytes: &mut &[u8]) -> Option<Self> {
                $(let $field = $crate::state::Saved::load(bytes)?;)*
                Some(Self { $($field),* })
            }
        }
    };
}
pub(crate) use saved;

/// Implements [`Saved`] for a list of a type: its length, then the elements.
macro_rules! saved_list {
    ($type:ty) => {
        impl $crate::state::Saved for Vec<$type> {
            fn save(&self, out: &mut Vec<u8>) {
                $crate::state::Saved::save(&(self.len() as u64), out);
                self.iter().for_each(|element| $crate::state::Saved::save(element, out));
            }
            fn load(bytes: &mut &[u8]) -> Option<Self> {
                let length: u64 = $crate::state::Saved::load(bytes)?;
                (0..length).map(|_| <$type as $crate::state::Saved>::load(bytes)).collect()
            }
        }
    };
}
pub(crate) use saved_list;

/// Implements [`Saved`] for an enum without fields: its number, a byte.
macro_rules! saved_choice {
    ($type:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        impl $crate::state::Saved for $type {
            fn save(&self, out: &mut Vec<u8>) {
                out.push(match self { $($type::$variant => $number),* });
            }
            fn load(bytes: &mut &[u8]) -> Option<Self> {
                match <u8 as $crate::state::Saved>::load(bytes)? {
                    $($number => Some($type::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use saved_choice;

/// Saves, loads and saves again; for tests of chips.
#[cfg(test)]
pub(crate) fn assert_round_trip<T: Saved>(value: &T) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    value.save(&mut first);
    let mut bytes = &first[..];
    T::load(&mut bytes).expect("what was saved loads").save(&mut second);
    assert!(bytes.is_empty(), "load left bytes over");
    assert_eq!(first, second);
    for length in 0..first.len() {
        assert!(T::load(&mut &first[..length]).is_none(), "{length} of {} bytes loaded", first.len());
    }
}

/// A small generator (xorshift64*) for random register accesses in tests.
#[cfg(test)]
pub(crate) struct Random(pub u64);

#[cfg(test)]
impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// A number of any magnitude below 2^bits.
    pub(crate) fn step(&mut self, bits: u64) -> u64 {
        let magnitude = self.below(bits);
        self.below(1 << magnitude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Example {
        number: u32,
        maybe: Option<u64>,
        row: [u16; 3],
        text: String,
        queue: VecDeque<u8>,
    }
    saved!(Example { number, maybe, row, text, queue });

    #[test]
    fn every_kind_of_field_round_trips() {
        assert_round_trip(&Example {
            number: 0x0102_0304,
            maybe: Some(u64::MAX),
            row: [1, 2, 3],
            text: "ttyS0".into(),
            queue: VecDeque::from([9, 8]),
        });
    }

    #[test]
    fn integers_are_little_endian_and_flags_strict() {
        let mut out = Vec::new();
        0x0102_0304_u32.save(&mut out);
        assert_eq!(out, [4, 3, 2, 1]);
        assert_eq!(bool::load(&mut &[2u8][..]), None);
        assert_eq!(Vec::<u8>::load(&mut &[255u8; 20][..]), None);
    }
}
