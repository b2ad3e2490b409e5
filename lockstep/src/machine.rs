//! The real guest: `ftemu_devices::Machine` behind [`Guest`].

use crate::guest::{Digest, Guest, GuestError, Page};
use ftemu_cpu::Icount;
use ftemu_cpu::state::State;
use ftemu_devices::Config;
use ftemu_devices::chips::Chips;
use ftemu_devices::state::Saved;
use ftemu_devices::{Emitted, Input, Machine, Ran};

const GENERAL: [&str; 16] =
    ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"];

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

    fn instruction_pointer(&self) -> u64 {
        self.cpu().state().rip
    }

    fn forget_derived(&mut self) {
        Machine::forget_derived(self);
    }

    fn fields(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields = registers(self.cpu().state());
        let mut rest = Vec::new();
        self.cpu().save(&mut rest);
        fields.push(("CPU (saved form)".into(), rest));
        fields.extend(chips(self.chips()));
        fields
    }

    fn page_address(&self, index: usize) -> u64 {
        self.cpu().memory().address_of(index)
    }
}

/// The registers that people know by name.
fn registers(state: &State) -> Vec<(String, Vec<u8>)> {
    let general = GENERAL.iter().zip(&state.gpr).map(|(name, value)| (*name, *value));
    let control = [
        ("RIP", state.rip),
        ("RFLAGS", state.rflags),
        ("CR0", state.cr0),
        ("CR2", state.cr2),
        ("CR3", state.cr3),
        ("CR4", state.cr4),
        ("EFER", state.efer),
        ("FS.base", state.segments[4].base),
        ("GS.base", state.segments[5].base),
        ("KERNEL_GS_BASE", state.kernel_gs_base),
        ("CPL", u64::from(state.cpl)),
    ];
    let words = general.chain(control).map(|(name, value)| (name.to_owned(), value.to_le_bytes().to_vec()));
    let vector = |index: usize| (format!("XMM{index}"), state.fx.0[160 + 16 * index..][..16].to_vec());
    words.chain((0..16).map(vector)).collect()
}

/// Each chip's saved form. A chip that is added must be named here.
fn chips(chips: &Chips) -> Vec<(String, Vec<u8>)> {
    let Chips {
        clock,
        pic,
        io_apic,
        local_apic,
        pit,
        rtc,
        serial,
        power,
        keyboard_controller,
        pci,
        diagnostic,
        port_a,
        reset,
    } = chips;
    vec![
        field("virtual clock", clock),
        field("8259 pair", pic),
        field("I/O APIC", io_apic),
        field("local APIC", local_apic),
        field("8254", pit),
        field("RTC", rtc),
        field("COM1", &serial[0]),
        field("COM2", &serial[1]),
        field("ACPI power", power),
        field("8042", keyboard_controller),
        field("PCI", pci),
        field("port 80h", diagnostic),
        field("port 92h", port_a),
        field("reset request", reset),
    ]
}

fn field(name: &str, value: &impl Saved) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    value.save(&mut bytes);
    (name.to_owned(), bytes)
}
