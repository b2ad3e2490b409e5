//! A set of 256 interrupt vectors, as the local APIC's IRR, ISR and TMR hold it: eight 32-bit registers.

use crate::state::saved;

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    words: [u32; 8],
}
saved!(Vectors { words });

impl Vectors {
    /// One of the eight registers.
    pub fn word(&self, index: usize) -> u32 {
        self.words[index & 7]
    }

    /// Adds or removes a vector.
    pub fn set(&mut self, vector: u8, present: bool) {
        let bit = 1 << (vector & 31);
        let word = &mut self.words[usize::from(vector >> 5)];
        *word = if present { *word | bit } else { *word & !bit };
    }

    /// Whether a vector is in it.
    pub fn contains(&self, vector: u8) -> bool {
        self.words[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
    }

    /// The highest vector.
    pub fn highest(&self) -> Option<u8> {
        let word = self.words.iter().rposition(|word| *word != 0)?;
        Some((word * 32) as u8 + (31 - self.words[word].leading_zeros()) as u8)
    }
}
