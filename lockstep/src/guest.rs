//! What the pair needs of a guest: the contract of design section 2, and nothing about what is inside.
//!
//! `ftemu_devices::Machine` is one; the simulator uses a cheap one. Given the same image and the same inputs at the
//! same counts, two guests of one kind must produce the same states and outputs, however [`Guest::run`] was sliced.

use ftemu_cpu::{Icount, Tally};
use ftemu_devices::drives::Drives;
pub use ftemu_devices::vga::Image;
pub use ftemu_devices::{Emitted, Input, Output, Ran};

/// Bytes in a page of guest RAM.
pub const PAGE_BYTES: usize = 4096;

/// One page of guest RAM.
pub type Page = [u8; PAGE_BYTES];

/// A digest of a guest's whole state: registers, devices, RAM.
pub type Digest = [u8; 32];

/// What a guest could not do with bytes it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GuestError(pub String);

/// A deterministic guest.
pub trait Guest: Sized {
    /// A guest as `config` (from [`Guest::config`]) describes it, with zeroed RAM.
    ///
    /// # Errors
    /// The bytes are no configuration of this build, or the memory cannot be had.
    fn create(config: &[u8]) -> Result<Self, GuestError>;
    /// What both sides must agree on: memory size and the like; never changes.
    fn config(&self) -> Vec<u8>;
    /// Completed instructions.
    fn count(&self) -> Icount;
    /// Virtual nanoseconds at [`Guest::count`].
    fn now_ns(&self) -> u64;
    /// Runs to `until` at most; returns early when idle, powered off, or when outputs have waited.
    fn run(&mut self, until: Icount) -> Ran;
    /// Idle: time jumps to the next deadline; counts 1.
    fn skip_idle(&mut self);
    /// Hands over something from outside, at the current count.
    fn apply(&mut self, input: &Input);
    /// Takes the outputs since the last call, in order.
    fn drain(&mut self) -> Vec<Emitted>;
    /// The digest of the state at the current count, outputs not yet drained excluded.
    fn digest(&mut self) -> Digest;
    /// A cheap hash of the CPU's registers; says where two runs of one log first came apart.
    fn fingerprint(&self) -> u64;
    /// All state but RAM.
    fn save(&self) -> Vec<u8>;
    /// Takes state from [`Guest::save`]; RAM comes page by page.
    ///
    /// # Errors
    /// The bytes are no state of this build.
    fn load(&mut self, state: &[u8]) -> Result<(), GuestError>;
    /// Pages of RAM.
    fn pages(&self) -> usize;
    /// A page of RAM; `index` is below [`Guest::pages`].
    fn page(&self, index: usize) -> &Page;
    /// Replaces a page of RAM; `index` is below [`Guest::pages`].
    fn set_page(&mut self, index: usize, page: &Page);
    /// Pages that may have changed since the last call; all of them at first. Only copies at rest depend on it.
    fn take_dirty(&mut self) -> Vec<u32>;
    /// The address of the next instruction, for reports.
    fn instruction_pointer(&self) -> u64;
    /// Its drives: to attach storages, and to copy or compare what is on them.
    fn drives(&mut self) -> &mut Drives;
    /// What its engine has counted about itself, if it has one that counts.
    fn tally(&self) -> Option<Tally> {
        None
    }
    /// What is on its screen, if it has one; looking changes nothing.
    fn screen(&self) -> Option<Image> {
        None
    }
    /// Frames that each of its network cards will surely take now; more at once may be lost.
    fn frame_room(&self) -> usize {
        usize::MAX
    }
    /// Drops all that is derived (translations, TLB); must not be observable. Replays use it to look for leaks.
    fn forget_derived(&mut self);
    /// All state but RAM, field by field, for reports: the names and their bytes.
    fn fields(&self) -> Vec<(String, Vec<u8>)>;
    /// The guest-physical address of a page of RAM.
    fn page_address(&self, index: usize) -> u64 {
        (index * PAGE_BYTES) as u64
    }
}
