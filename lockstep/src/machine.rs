//! The real guest: `ftemu_devices::Machine` behind [`Guest`].

use crate::guest::{Digest, Guest, GuestError, Image, Page};
use ftemu_cpu::state::{Segment, State, TableRegister};
use ftemu_cpu::{Icount, Tally};
use ftemu_devices::Config;
use ftemu_devices::chips::Chips;
use ftemu_devices::drives::Drives;
use ftemu_devices::nic::Nic;
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
        let mut fields = registers(self.cpu().state());
        fields.extend(chips(self.chips()));
        let mut drives = Vec::new();
        Machine::drives(self).save(&mut drives);
        fields.push(("drives".into(), drives));
        fields
    }

    fn page_address(&self, index: usize) -> u64 {
        self.cpu().memory().address_of(index)
    }
}

/// All registers by their names in the manual. One that is added must be named here.
fn registers(state: &State) -> Vec<(String, Vec<u8>)> {
    let State {
        gpr,
        rip,
        rflags,
        segments,
        ldtr,
        tr,
        gdtr,
        idtr,
        cr0,
        cr2,
        cr3,
        cr4,
        efer,
        star,
        lstar,
        cstar,
        sfmask,
        kernel_gs_base,
        sysenter_cs,
        sysenter_esp,
        sysenter_eip,
        tsc_aux,
        tsc_offset,
        pat,
        mtrr_def_type,
        mtrr_variable,
        mtrr_fixed,
        dr,
        fx,
        cpl,
        interrupt_shadow,
        halted,
        nmi_blocked,
        debug_shadow,
        debug_pending,
        smm,
        smbase,
    } = state;
    let named = [("RIP", rip), ("RFLAGS", rflags), ("CR0", cr0), ("CR2", cr2), ("CR3", cr3), ("CR4", cr4)];
    let specific = [
        ("EFER", efer),
        ("STAR", star),
        ("LSTAR", lstar),
        ("CSTAR", cstar),
        ("SFMASK", sfmask),
        ("KERNEL_GS_BASE", kernel_gs_base),
        ("SYSENTER_CS", sysenter_cs),
        ("SYSENTER_ESP", sysenter_esp),
        ("SYSENTER_EIP", sysenter_eip),
        ("TSC_AUX", tsc_aux),
        ("TSC offset", tsc_offset),
        ("PAT", pat),
        ("MTRR_DEF_TYPE", mtrr_def_type),
    ];
    let mut fields: Vec<(String, Vec<u8>)> =
        GENERAL.into_iter().zip(gpr).chain(named).chain(specific).map(word).collect();
    fields.extend(numbered("variable MTRR ", mtrr_variable));
    fields.extend(numbered("fixed MTRR ", mtrr_fixed));
    fields.extend(numbered("DR", dr));
    let all = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"].into_iter().zip(segments.iter().chain([ldtr, tr]));
    fields.extend(all.map(|(name, segment)| (name.to_owned(), segment_bytes(segment))));
    for (name, TableRegister { base, limit }) in [("GDTR", gdtr), ("IDTR", idtr)] {
        fields.extend([word((name, base)), (format!("{name}.limit"), limit.to_le_bytes().to_vec())]);
    }
    fields.push(("x87 and MXCSR".into(), fx.0[..160].to_vec()));
    fields.extend((0..16).map(|index| (format!("XMM{index}"), fx.0[160 + 16 * index..][..16].to_vec())));
    fields.push(("FXSAVE's unused bytes".into(), fx.0[416..].to_vec()));
    let flags = [
        ("interrupt shadow", interrupt_shadow),
        ("halted", halted),
        ("NMI blocked", nmi_blocked),
        ("debug shadow", debug_shadow),
        ("SMM", smm),
    ];
    fields.push(("CPL".into(), vec![*cpl]));
    fields.push(("debug traps pending".into(), debug_pending.to_le_bytes().to_vec()));
    fields.push(("SMBASE".into(), smbase.to_le_bytes().to_vec()));
    fields.extend(flags.map(|(name, flag)| (name.to_owned(), vec![u8::from(*flag)])));
    fields
}

fn word((name, value): (&str, &u64)) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_le_bytes().to_vec())
}

fn numbered<'a>(name: &'a str, words: &'a [u64]) -> impl Iterator<Item = (String, Vec<u8>)> + 'a {
    words.iter().enumerate().map(move |(number, value)| (format!("{name}{number}"), value.to_le_bytes().to_vec()))
}

/// Base, limit, attributes, selector.
fn segment_bytes(segment: &Segment) -> Vec<u8> {
    let Segment { base, limit, attributes, selector } = segment;
    [&base.to_le_bytes()[..], &limit.to_le_bytes(), &attributes.to_le_bytes(), &selector.to_le_bytes()].concat()
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
        host_bridge,
        isa_bridge,
        power_management,
        ide,
        vga,
        nics,
        virtio_disks,
        entropy,
        virtio_console,
        hpet,
        firmware_config,
        management_mode,
        management_interrupt,
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
        field("82441FX", host_bridge),
        field("PIIX3", isa_bridge),
        field("PIIX4 power management", power_management),
        field("PIIX3 IDE", ide),
        field("VGA", vga),
        field("network cards", nics),
        field("virtio disks", virtio_disks),
        field("virtio entropy", entropy),
        field("virtio console", virtio_console),
        field("HPET", hpet),
        field("firmware configuration", firmware_config),
        field("APM control", management_mode),
        field("SMI request", management_interrupt),
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
