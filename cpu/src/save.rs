//! How state is written down, and how it is told in a report: explicit, little-endian, complete.
//!
//! A checkpoint must mean the same on every host, so nothing is written whose size or order the host chooses (no
//! `usize`, no padding, no map). `saved!` is the one list of a structure's fields and destructures it exhaustively: a
//! field that is added and not named there does not compile.

use std::collections::VecDeque;

/// A part's name and its saved form.
pub type Part = (String, Vec<u8>);

/// Something that belongs to a checkpoint.
pub trait Saved: Sized {
    /// Appends the value.
    fn save(&self, out: &mut Vec<u8>);

    /// Takes a value off the front. `None`: the bytes are cut short or mean nothing.
    fn load(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends its parts for a report, each with its name and as it is saved; here: the whole as one. How many there are
    /// and what they are called depends on the type alone, so that those of two values can be laid side by side.
    fn parts(&self, name: &str, out: &mut Vec<Part>) {
        out.push(whole(self, name));
    }

    /// Appends values one after another. Bytes have a faster way.
    fn save_row(row: &[Self], out: &mut Vec<u8>) {
        row.iter().for_each(|value| value.save(out));
    }

    /// Takes `length` values off the front; the length may be anything.
    fn load_row(bytes: &mut &[u8], length: usize) -> Option<Vec<Self>> {
        (0..length).map(|_| Self::load(bytes)).collect()
    }
}

/// Takes `length` bytes off the front.
pub fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn whole(value: &impl Saved, name: &str) -> Part {
    let mut bytes = Vec::new();
    value.save(&mut bytes);
    (name.to_owned(), bytes)
}

/// The name of a part of something, which may have none itself.
pub fn path(whole: &str, part: &str) -> String {
    if whole.is_empty() { part.to_owned() } else { format!("{whole}.{part}") }
}

/// The parts of a row whose values have names of their own.
pub fn named_parts<T: Saved, const N: usize>(row: &[T; N], names: [&str; N], whole: &str, out: &mut Vec<Part>) {
    row.iter().zip(names).for_each(|(value, name)| value.parts(&path(whole, name), out));
}

impl Saved for u8 {
    fn save(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        bytes.split_off_first().copied()
    }
    fn save_row(row: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(row);
    }
    fn load_row(bytes: &mut &[u8], length: usize) -> Option<Vec<Self>> {
        take(bytes, length).map(<[u8]>::to_vec)
    }
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
integers!(u16, u32, u64, i128);

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
        T::save_row(self, out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        T::load_row(bytes, N)?.try_into().ok()
    }
    /// Bytes stay together: few of them mean something alone.
    fn parts(&self, name: &str, out: &mut Vec<Part>) {
        if size_of::<T>() > 1 {
            (0..).zip(self).for_each(|(number, value): (usize, _)| value.parts(&format!("{name}[{number}]"), out));
        } else {
            out.push(whole(self, name));
        }
    }
}

impl<T: Saved> Saved for Vec<T> {
    fn save(&self, out: &mut Vec<u8>) {
        (self.len() as u64).save(out);
        T::save_row(self, out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        let length = u64::load(bytes)?;
        T::load_row(bytes, usize::try_from(length).ok()?)
    }
}

impl<T: Saved> Saved for VecDeque<T> {
    fn save(&self, out: &mut Vec<u8>) {
        (self.len() as u64).save(out);
        let (front, back) = self.as_slices();
        T::save_row(front, out);
        T::save_row(back, out);
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

/// Implements [`Saved`] for a struct by naming every field, in the order of the encoding. In reports a field has its own
/// name after that of the whole, or the one after `as`; a list there names the elements of an array.
#[macro_export]
macro_rules! saved {
    ($type:ident { $($field:ident $(as $label:tt)?),* $(,)? }) => {
        impl $crate::save::Saved for $type {
            fn save(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::save::Saved::save($field, out);)*
            }
            fn load(bytes: &mut &[u8]) -> Option<Self> {
                $(let $field = $crate::save::Saved::load(bytes)?;)*
                Some(Self { $($field),* })
            }
            fn parts(&self, name: &str, out: &mut Vec<$crate::save::Part>) {
                let Self { $($field),* } = self;
                $($crate::saved!(@parts $field, name, out $(, $label)?);)*
            }
        }
    };
    (@parts $field:ident, $whole:ident, $out:ident) => {
        $crate::save::Saved::parts($field, &$crate::save::path($whole, stringify!($field)), $out)
    };
    (@parts $field:ident, $whole:ident, $out:ident, $label:literal) => {
        $crate::save::Saved::parts($field, &$crate::save::path($whole, $label), $out)
    };
    (@parts $field:ident, $whole:ident, $out:ident, [$($label:literal),*]) => {
        $crate::save::named_parts($field, [$($label),*], $whole, $out)
    };
}

/// Implements [`Saved`] for an enum without fields: its number, a byte.
#[macro_export]
macro_rules! saved_choice {
    ($type:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        impl $crate::save::Saved for $type {
            fn save(&self, out: &mut Vec<u8>) {
                out.push(match self { $($type::$variant => $number),* });
            }
            fn load(bytes: &mut &[u8]) -> Option<Self> {
                match <u8 as $crate::save::Saved>::load(bytes)? {
                    $($number => Some($type::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Example {
        number: u32,
        maybe: Option<u64>,
        row: [u16; 3],
        bytes: [u8; 2],
        text: String,
        queue: VecDeque<u8>,
        list: Vec<bool>,
        inner: [Inner; 2],
    }
    crate::saved!(Example { number as "the number", maybe, row, bytes, text, queue, list, inner as ["first", "second"] });

    #[derive(Debug, PartialEq)]
    struct Inner {
        deep: u8,
    }
    crate::saved!(Inner { deep });

    fn example() -> (Example, Vec<u8>) {
        let example = Example {
            number: 0x0102_0304,
            maybe: Some(u64::MAX),
            row: [1, 2, 3],
            bytes: [4, 5],
            text: "ttyS0".into(),
            queue: VecDeque::from([9, 8]),
            list: vec![true, false],
            inner: [Inner { deep: 6 }, Inner { deep: 7 }],
        };
        let mut bytes = Vec::new();
        example.save(&mut bytes);
        (example, bytes)
    }

    #[test]
    fn the_saved_form_is_little_endian_with_lengths_of_eight_bytes() {
        let numbers = [4, 3, 2, 1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 2, 0, 3, 0, 4, 5];
        let text = *b"\x05\0\0\0\0\0\0\0ttyS0";
        let lists = [2, 0, 0, 0, 0, 0, 0, 0, 9, 8, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 6, 7];
        assert_eq!(example().1, [&numbers[..], &text, &lists].concat());
    }

    #[test]
    fn every_kind_of_field_round_trips() {
        let (example, bytes) = example();
        let mut rest = &bytes[..];
        assert_eq!(Example::load(&mut rest), Some(example));
        assert!(rest.is_empty());
        assert!((0..bytes.len()).all(|length| Example::load(&mut &bytes[..length]).is_none()));
    }

    #[test]
    fn parts_are_what_is_saved_with_names() {
        let (example, bytes) = example();
        let mut parts = Vec::new();
        example.parts("whole", &mut parts);
        let (names, saved): (Vec<String>, Vec<Vec<u8>>) = parts.into_iter().unzip();
        assert_eq!(saved.concat(), bytes);
        let row = "whole.row[0] whole.row[1] whole.row[2]";
        let inner = "whole.first.deep whole.second.deep";
        let expected =
            format!("whole.the number whole.maybe {row} whole.bytes whole.text whole.queue whole.list {inner}");
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn flags_and_lengths_are_checked() {
        assert_eq!(bool::load(&mut &[2u8][..]), None);
        assert_eq!(Vec::<u8>::load(&mut &[255u8; 20][..]), None);
        assert_eq!(Vec::<u64>::load(&mut &[255u8; 20][..]), None);
    }
}
