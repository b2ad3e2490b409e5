//! Unicorn in these modes: one machine that has been in real mode always, and one in protected mode, where a stub loads a
//! case's segments and enters it.

use super::{CASE_SELECTOR, CODE, Case, GDT, MEMORY, Mode, Outcome, Registers, TABLES, TABLES_BYTES};
use anyhow::{Result, anyhow};
use unicorn_engine::{Arch, Context, Mode as Width, Prot, RegisterX86 as Register, Unicorn, uc_error};

const STUB: u64 = TABLES + 0x5000;
const TABLE: u64 = TABLES + 0x6000;
/// What the stub's stack holds.
const FRAME: u64 = TABLES + 0x6100;
/// ES FS GS DS, a far stack pointer, a far code pointer.
const POINTERS: u64 = TABLES + 0x6200;
/// The stub's own instructions and the case's, iterations counted.
const LIMIT: usize = 200_000;
const GENERAL: [Register; 8] = [
    Register::EAX,
    Register::ECX,
    Register::EDX,
    Register::EBX,
    Register::ESP,
    Register::EBP,
    Register::ESI,
    Register::EDI,
];
const SEGMENTS: [Register; 6] = [Register::ES, Register::CS, Register::SS, Register::DS, Register::FS, Register::GS];
/// `lgdt [806000h]; jmp far 8:$+7; mov ss, ax; mov ds, ax; hlt`
const SET_UP: &[u8] =
    &[0x0f, 0x01, 0x15, 0x00, 0x60, 0x80, 0x00, 0xea, 0x0e, 0x50, 0x80, 0x00, 0x08, 0x00, 0x8e, 0xd0, 0x8e, 0xd8, 0xf4];
/// Where the stubs are that enter a case.
const ENTER: u64 = STUB + 64;
/// `mov es, cs:[806200h]; mov fs, cs:[806204h]; mov gs, cs:[806208h]; mov ds, cs:[80620ch]`
const LOAD: &[u8] = &[
    0x2e, 0x8e, 0x05, 0x00, 0x62, 0x80, 0x00, 0x2e, 0x8e, 0x25, 0x04, 0x62, 0x80, 0x00, 0x2e, 0x8e, 0x2d, 0x08, 0x62,
    0x80, 0x00, 0x2e, 0x8e, 0x1d, 0x0c, 0x62, 0x80, 0x00,
];
/// `popfd; lss esp, cs:[806210h]; jmp far cs:[806218h]`
const SAME_LEVEL: &[u8] =
    &[0x9d, 0x2e, 0x0f, 0xb2, 0x25, 0x10, 0x62, 0x80, 0x00, 0x2e, 0xff, 0x2d, 0x18, 0x62, 0x80, 0x00];
/// `iretd`
const OUTER_LEVEL: &[u8] = &[0xcf];

#[derive(Clone, Copy, Default)]
struct Seen {
    vector: Option<u8>,
    ip: u32,
}

type Machine = Unicorn<'static, Seen>;

pub struct Reference {
    real: (Machine, Context),
    protected: (Machine, Context),
}

fn error(what: uc_error) -> anyhow::Error {
    anyhow!("Unicorn: {what:?}")
}

impl Reference {
    pub fn new(image: &[u8]) -> Result<Reference> {
        Ok(Reference {
            real: machine(Width::MODE_16, image, |_| Ok(())).map_err(error)?,
            protected: machine(Width::MODE_32, image, enter_protected).map_err(error)?,
        })
    }

    /// `None` where Unicorn cannot say.
    pub fn run(&mut self, case: &Case, image: &[u8]) -> Option<Outcome> {
        let (machine, ready) = if case.mode == Mode::Real { &mut self.real } else { &mut self.protected };
        machine.context_restore(ready).ok()?;
        machine.ctl_flush_tlb().ok()?;
        machine.ctl_flush_tb().ok()?;
        *machine.get_data_mut() = Seen::default();
        let outcome = run(machine, case);
        let mut bytes = vec![0; MEMORY];
        machine.mem_read(0, &mut bytes).ok()?;
        for page in super::compare::changed_pages(image, &bytes) {
            machine.mem_write(page as u64, &image[page..page + 4096]).ok()?;
        }
        let outcome = outcome.ok()??;
        Some(Outcome { changes: super::compare::changes(image, &bytes), ..outcome })
    }
}

fn machine(
    width: Width,
    image: &[u8],
    prepare: fn(&mut Machine) -> Result<(), uc_error>,
) -> Result<(Machine, Context), uc_error> {
    let mut machine = Unicorn::new_with_data(Arch::X86, width, Seen::default())?;
    machine.ctl_set_cpu_model(unicorn_engine::X86CpuModel::NEHALEM as i32)?;
    machine.mem_map(0, MEMORY as u64, Prot::ALL)?;
    machine.mem_map(TABLES, TABLES_BYTES, Prot::ALL)?;
    machine.mem_write(0, image)?;
    machine.mem_write(GDT, &super::flat_descriptors())?;
    prepare(&mut machine)?;
    machine.add_intr_hook(|machine, vector| see(machine, vector as u8))?;
    machine.add_insn_invalid_hook(|machine| {
        see(machine, 6);
        false
    })?;
    let ready = machine.context_init()?;
    Ok((machine, ready))
}

fn see(machine: &mut Unicorn<Seen>, vector: u8) {
    let ip = machine.reg_read(Register::EIP).unwrap_or_default() as u32;
    let seen = machine.get_data_mut();
    if seen.vector.is_none() {
        *seen = Seen { vector: Some(vector), ip };
    }
    let _ = machine.emu_stop();
}

fn enter_protected(machine: &mut Machine) -> Result<(), uc_error> {
    machine.mem_write(STUB, SET_UP)?;
    let mut pointer = (CASE_SELECTOR + 8 * 6 - 1).to_le_bytes().to_vec();
    pointer.extend((GDT as u32).to_le_bytes());
    machine.mem_write(TABLE, &pointer)?;
    machine.reg_write(Register::EAX, 0x10)?;
    machine.emu_start(STUB, 0, 0, 4)
}

fn run(machine: &mut Machine, case: &Case) -> Result<Option<Outcome>, uc_error> {
    let registers = &case.registers;
    machine.mem_write(case.parts[1].base + u64::from(registers.ip), &case.bytes)?;
    for (register, &value) in GENERAL.into_iter().zip(&registers.gpr) {
        machine.reg_write(register, value.into())?;
    }
    let start = match case.mode {
        Mode::Real => {
            for (register, &selector) in SEGMENTS.into_iter().zip(&registers.selectors) {
                machine.reg_write(register, selector.into())?;
            }
            machine.reg_write(Register::EFLAGS, registers.flags.into())?;
            CODE + u64::from(registers.ip)
        }
        _ => prepare_stub(machine, case)?,
    };
    // An exception nobody handles is an error here too; the hook has seen it.
    let _ = machine.emu_start(start, 0, 0, LIMIT);
    let seen = *machine.get_data();
    let Some(vector) = seen.vector else { return Ok(None) };
    // INT3 is a trap: the hook comes behind it.
    let ip = seen.ip.wrapping_sub(u32::from(vector == 3));
    let mut found = Registers { ip, ..Registers::default() };
    for (value, register) in found.gpr.iter_mut().zip(GENERAL) {
        *value = machine.reg_read(register)? as u32;
    }
    found.flags = machine.reg_read(Register::EFLAGS)? as u32;
    for (value, register) in found.selectors.iter_mut().zip(SEGMENTS) {
        *value = machine.reg_read(register)? as u16;
    }
    Ok(Some(Outcome { vector: Some(vector), registers: found, ..Outcome::default() }))
}

/// The stub that enters this case, and what it loads.
fn prepare_stub(machine: &mut Machine, case: &Case) -> Result<u64, uc_error> {
    let Registers { gpr, ip, flags, selectors } = case.registers;
    for number in 0..6 {
        let at = GDT + u64::from(CASE_SELECTOR) + 8 * number as u64;
        machine.mem_write(at, &case.descriptor(number).to_le_bytes())?;
    }
    let [es, cs, ss, ds, fs, gs] = selectors.map(u32::from);
    let same_level = case.mode == (Mode::Protected { bits: case.mode.bits(), user: false });
    let mut stub = Vec::new();
    if case.mode != Mode::Virtual8086 {
        stub.extend(LOAD);
    }
    stub.extend(if same_level { SAME_LEVEL } else { OUTER_LEVEL });
    machine.mem_write(ENTER, &stub)?;
    let frame = if same_level { vec![flags] } else { vec![ip, cs, flags, gpr[4], ss, es, ds, fs, gs] };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    machine.mem_write(FRAME, &words(&frame))?;
    machine.mem_write(POINTERS, &words(&[es, fs, gs, ds, gpr[4], ss, ip, cs]))?;
    machine.reg_write(Register::ESP, FRAME)?;
    Ok(ENTER)
}
