//! The real guest: `ftemu_devices::Machine` behind [`Guest`].

use crate::guest::{Digest, Guest, GuestError, Image, Page};
use ftemu_cpu::{Icount, State, Tally};
use ftemu_devices::Config;
use ftemu_devices::drives::Drives;
use ftemu_devices::nic::Nic;
use ftemu_devices::{Emitted, Input, Machine, Ran};

impl Guest for Machine {
    fn create(config: &[u8]) -> Result<Self, GuestError> {
        let mut bytes = config;
        let config = Config::decode(&mut bytes).filter(|_| bytes.is_empty());
        let config = config.ok_or_else(|| GuestError("the machine's configuration is not one of this build".into()))?;
        Machine::new(&config).map_err(|error| GuestError(error.to_string()))
    }

    fn config(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Machine::config(self).encode(&mut bytes);
        bytes
    }

    fn count(&self) -> Icount {
        Machine::count(self)
    }

    fn now_ns(&self) -> u64 {
        Machine::now_ns(self)
    }

    fn run(&mut self, until: Icount) -> Ran {
        Machine::run(self, until)
    }

    fn skip_idle(&mut self) {
        Machine::skip_idle(self);
    }

    fn apply(&mut self, input: &Input) {
        Machine::apply(self, input);
    }

    fn drain(&mut self) -> Vec<Emitted> {
        Machine::drain(self)
    }

    fn digest(&mut self) -> Digest {
        Machine::digest(self)
    }

    /// The general registers, RIP and RFLAGS: what nearly every instruction changes.
    fn fingerprint(&self) -> u64 {
        let State { gpr, rip, rflags, .. } = self.cpu().state();
        gpr.iter()
            .chain([rip, rflags])
            .fold(0xcbf2_9ce4_8422_2325, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Machine::save(self, &mut bytes);
        bytes
    }

    fn load(&mut self, state: &[u8]) -> Result<(), GuestError> {
        Machine::load(self, state).map_err(|error| GuestError(error.to_string()))
    }

    fn pages(&self) -> usize {
        self.ram_pages()
    }

    fn page(&self, index: usize) -> &Page {
        self.ram_page(index)
    }

    fn set_page(&mut self, index: usize, page: &Page) {
        self.set_ram_page(index, page);
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        Machine::take_dirty(self)
    }

    fn drives(&mut self) -> &mut Drives {
        self.drives_mut()
    }

    fn tally(&self) -> Option<Tally> {
        Some(self.cpu().tally())
    }

    fn screen(&self) -> Option<Image> {
        self.chips().vga.as_ref().map(|vga| vga.render(self.cpu().memory()))
    }

    fn frame_room(&self) -> usize {
        self.chips().nics.iter().map(Nic::room).min().unwrap_or(usize::MAX)
    }

    fn instruction_pointer(&self) -> u64 {
        self.cpu().state().rip
    }

    fn forget_derived(&mut self) {
        Machine::forget_derived(self);
    }

    fn fields(&self) -> Vec<(String, Vec<u8>)> {
        self.parts()
    }

    fn page_address(&self, index: usize) -> u64 {
        self.cpu().memory().address_of(index)
    }
}
