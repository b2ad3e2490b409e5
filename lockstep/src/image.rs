//! A guest at rest: all it takes to go on elsewhere, or again from the same point.

use crate::guest::{Guest, GuestError, PAGE_BYTES, Page};
use ftemu_cpu::Icount;
use std::collections::BTreeMap;

const ZEROES: Page = [0; PAGE_BYTES];

/// A copy of a guest's state; pages of zeroes are left out.
///
/// It takes about as much host memory as the guest has pages that are not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// What [`Guest::create`] takes.
    pub config: Vec<u8>,
    /// Instructions completed.
    pub count: Icount,
    /// What [`Guest::load`] takes.
    pub state: Vec<u8>,
    /// RAM by page number.
    pub pages: BTreeMap<u32, Box<Page>>,
}

impl Image {
    /// Copies `guest` as it is now.
    pub fn of<G: Guest>(guest: &G) -> Image {
        let pages = (0..guest.pages())
            .filter(|&index| guest.page(index) != &ZEROES)
            .filter_map(|index| Some((u32::try_from(index).ok()?, Box::new(*guest.page(index)))))
            .collect();
        Image { config: guest.config(), count: guest.count(), state: guest.save(), pages }
    }

    /// A new guest in this state.
    ///
    /// # Errors
    /// The image is not one of this build's, or the memory cannot be had.
    pub fn restore<G: Guest>(&self) -> Result<G, GuestError> {
        let mut guest = G::create(&self.config)?;
        guest.load(&self.state)?;
        for (&index, page) in &self.pages {
            set_page(&mut guest, index, page)?;
        }
        if guest.count() != self.count {
            return Err(GuestError(format!(
                "the image is of count {}, its state of {}",
                self.count.0,
                guest.count().0
            )));
        }
        Ok(guest)
    }
}

/// Sets a page whose number came from elsewhere.
///
/// # Errors
/// The guest has no such page.
pub fn set_page<G: Guest>(guest: &mut G, index: u32, page: &Page) -> Result<(), GuestError> {
    let place = usize::try_from(index).ok().filter(|&place| place < guest.pages());
    let place = place.ok_or_else(|| GuestError(format!("the guest has no RAM page {index}")))?;
    guest.set_page(place, page);
    Ok(())
}
