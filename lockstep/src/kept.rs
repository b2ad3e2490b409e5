//! The copy of the guest that a standby keeps at hand, to find a divergence from: packed, and bounded.
//!
//! A standby has a guest of its own to hold, so the copy may not cost as much again. Pages are packed (LZ4, which takes
//! a few microseconds a page, and guests' memory to a third or so); a guest whose memory does not fit packed is not kept,
//! and a divergence of it is then repaired all the same, but not explained to the instruction.

use crate::guest::{Guest, GuestError, PAGE_BYTES, Page};
use crate::image::Image;
use ftemu_cpu::Icount;
use std::collections::BTreeMap;

const ZEROES: Page = [0; PAGE_BYTES];
/// What a page costs beside its packed bytes.
const OVERHEAD_BYTES: usize = 48;

/// A packed copy of a guest.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    config: Vec<u8>,
    count: Icount,
    state: Vec<u8>,
    /// RAM by page number; pages of zeroes are left out, and those that cannot be packed are as they are.
    pages: BTreeMap<u32, Box<[u8]>>,
    bytes: usize,
    most_bytes: usize,
    /// It did not fit once, and is given up.
    too_large: bool,
}

impl Kept {
    /// Room for a copy of `guest` of `most_bytes` at most.
    pub fn new<G: Guest>(guest: &G, most_bytes: usize) -> Self {
        Self { config: guest.config(), most_bytes, ..Self::default() }
    }

    /// Makes it a copy of the guest as it is now; only pages that changed since [`Guest::take_dirty`] was last called are
    /// looked at.
    pub fn renew<G: Guest>(&mut self, guest: &mut G) {
        if self.too_large {
            return;
        }
        for index in guest.take_dirty() {
            let Some(place) = usize::try_from(index).ok().filter(|&place| place < guest.pages()) else { continue };
            self.put(index, guest.page(place));
            if self.bytes > self.most_bytes {
                *self = Self { too_large: true, ..Self::default() };
                return;
            }
        }
        (self.count, self.state) = (guest.count(), guest.save());
    }

    fn put(&mut self, index: u32, page: &Page) {
        let packed = (page != &ZEROES).then(|| pack(page));
        let old = match packed {
            Some(packed) => {
                self.bytes += packed.len() + OVERHEAD_BYTES;
                self.pages.insert(index, packed)
            }
            None => self.pages.remove(&index),
        };
        self.bytes -= old.map_or(0, |old| old.len() + OVERHEAD_BYTES);
    }

    /// The copy unpacked, if there is one.
    ///
    /// # Errors
    /// A page cannot be unpacked: this server's memory is damaged.
    pub fn image(&self) -> Result<Option<Image>, GuestError> {
        if self.too_large || self.state.is_empty() {
            return Ok(None);
        }
        let pages = self.pages.iter().map(|(&index, packed)| Ok((index, unpack(packed)?)));
        let pages = pages.collect::<Result<_, GuestError>>()?;
        Ok(Some(Image { config: self.config.clone(), count: self.count, state: self.state.clone(), pages }))
    }
}

fn pack(page: &Page) -> Box<[u8]> {
    let packed = lz4_flex::block::compress(page);
    if packed.len() < PAGE_BYTES { packed.into_boxed_slice() } else { Box::from(&page[..]) }
}

fn unpack(packed: &[u8]) -> Result<Box<Page>, GuestError> {
    let mut page = Box::new(ZEROES);
    let length = if packed.len() == PAGE_BYTES {
        page.copy_from_slice(packed);
        PAGE_BYTES
    } else {
        lz4_flex::block::decompress_into(packed, &mut page[..]).unwrap_or(0)
    };
    match length {
        PAGE_BYTES => Ok(page),
        _ => Err(GuestError("a page of the kept copy is damaged".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64) -> Page {
        let mut word = seed | 1;
        std::array::from_fn(|_| {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (word >> 56) as u8
        })
    }

    #[test]
    fn every_page_comes_back() {
        let mut text = ZEROES;
        text[100..111].copy_from_slice(b"hello hello");
        for page in [text, noise(1), noise(77), [0xff; PAGE_BYTES]] {
            let packed = pack(&page);
            assert!(packed.len() <= PAGE_BYTES);
            assert!(*unpack(&packed).unwrap() == page);
        }
        assert!(unpack(&[]).is_err() && unpack(&[0x1f, 1, 2]).is_err());
    }

    #[test]
    fn bytes_are_counted() {
        let mut kept = Kept { most_bytes: 1 << 20, ..Kept::default() };
        kept.put(1, &noise(1));
        kept.put(2, &[1; PAGE_BYTES]);
        let both = kept.bytes;
        assert!((PAGE_BYTES..PAGE_BYTES + 300).contains(&both), "{both}");
        kept.put(1, &noise(2));
        assert_eq!(kept.bytes, both);
        kept.put(1, &ZEROES);
        kept.put(2, &ZEROES);
        assert_eq!((kept.bytes, kept.pages.len()), (0, 0));
    }
}
