//! Where a case lives: the same linear pages in the host process, in the guest and in Unicorn.
//!
//! The addresses are free in any position-independent Linux program. Every pair of neighbours that an access can
//! cross is there: writable to writable, to read-only, to nothing, and back.

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// The program, readable and executable.
pub const CODE: u64 = 0x1000_0000;
/// The same frames once more, writable too, for programs that rewrite themselves.
pub const SELF: u64 = 0x1001_0000;
/// Pages of program.
pub const CODE_PAGES: usize = 3;
/// The first data page.
pub const DATA: u64 = 0x1100_0000;
/// Pages of data, holes included.
pub const DATA_PAGES: usize = 7;
/// The lower stack page.
pub const STACK: u64 = 0x1200_0000;
/// Pages of stack.
pub const STACK_PAGES: usize = 2;

/// The frame of the first stack page; the data pages have frames 0 to 6.
pub const STACK_FRAME: usize = 8;
/// The frame of the first code page.
pub const CODE_FRAME: usize = 10;
/// Frames in all: data, stack, code.
pub const FRAMES: usize = 13;
/// Bytes of frames that hold data, which every case may change.
pub const DATA_BYTES: usize = CODE_FRAME * PAGE;

/// What user mode may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Linear address.
    pub linear: u64,
    /// Frame behind it.
    pub frame: usize,
    /// Stores are allowed.
    pub writable: bool,
    /// Fetches are allowed.
    pub executable: bool,
}

const fn page(linear: u64, number: usize, frame: usize, writable: bool, executable: bool) -> Page {
    Page { linear: linear + (number * PAGE) as u64, frame, writable, executable }
}

/// Every page that is mapped.
pub const PAGES: [Page; 14] = [
    page(DATA, 0, 0, true, false),
    page(DATA, 1, 1, true, false),
    page(DATA, 2, 2, true, false),
    page(DATA, 3, 3, false, false),
    page(DATA, 4, 4, true, false),
    page(DATA, 6, 6, false, false),
    page(STACK, 0, STACK_FRAME, true, false),
    page(STACK, 1, STACK_FRAME + 1, true, false),
    page(CODE, 0, CODE_FRAME, false, true),
    page(CODE, 1, CODE_FRAME + 1, false, true),
    page(CODE, 2, CODE_FRAME + 2, false, true),
    page(SELF, 0, CODE_FRAME, true, true),
    page(SELF, 1, CODE_FRAME + 1, true, true),
    page(SELF, 2, CODE_FRAME + 2, true, true),
];

/// Number of different contents that data and stack start with.
pub const IMAGES: usize = 8;

/// The initial data and stack frames number `image`, below [`IMAGES`].
pub fn image(image: usize) -> Vec<u8> {
    let mut random = crate::random::Random::new(0x1ace_0000 + image as u64);
    let mut bytes = Vec::with_capacity(DATA_BYTES);
    while bytes.len() < DATA_BYTES {
        let mut chunk = [0; 16];
        crate::values::fill(&mut random, &mut chunk);
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// The byte within all frames that a linear address reaches, if mapped.
pub fn offset_of(linear: u64) -> Option<usize> {
    let start = linear & !(PAGE as u64 - 1);
    let page = PAGES.iter().find(|page| page.linear == start)?;
    Some(page.frame * PAGE + (linear - start) as usize)
}
