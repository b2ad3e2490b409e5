//! Unicorn as an oracle for what user mode cannot ask the host: paging, privilege, segments. Its engine delivers no
//! exception, so a run ends in the hook of the first one; error codes are not to be had (decision record 1).
//!
//! The machine is that of [`guest`]; a stub at CPL 0 loads the case with FXRSTOR and IRETQ.

use crate::case::{Case, Line, Outcome, Program, Registers, Subject, SystemState};
use crate::compare::IMAGES;
use crate::engine::Privilege;
use crate::guest::{self, FRAMES, SYSTEM, selector};
use crate::layout::{CODE_FRAME, DATA_BYTES, PAGE};
use anyhow::{Result, anyhow};
use unicorn_engine::{Arch, Context, Mode, Prot, RegisterX86 as Register, Unicorn};

/// Physical address of the code that sets the machine up and starts cases.
const STUB: u64 = 0x3_0000;
/// Physical address of the IRETQ frame; the FXRSTOR image lies behind it.
const FRAME: u64 = 0x3_1000;
/// Instructions that a case may take, the stub's two included.
const LIMIT: usize = 20_000;

/// `wrmsr; hlt`
const SET_EFER: &[u8] = &[0x0f, 0x30, 0xf4];
/// `lgdt [rsp]; lidt [rsp+16]; ltr ax; push 10h; push rcx; retfq`, then at RCX `mov ss, edx; hlt`
const SET_TABLES: &[u8] = &[
    0x0f, 0x01, 0x14, 0x24, 0x0f, 0x01, 0x5c, 0x24, 0x10, 0x0f, 0x00, 0xd8, 0x6a, 0x10, 0x51, 0x48, 0xcb, 0x8e, 0xd2,
    0xf4,
];
/// Where RCX points within [`SET_TABLES`].
const LOAD_STACK: u64 = 17;
/// `fxrstor64 [rsp+512]; iretq`
const START: &[u8] = &[0x48, 0x0f, 0xae, 0x8c, 0x24, 0x00, 0x02, 0x00, 0x00, 0x48, 0xcf];

/// General registers in encoding order.
const GENERAL: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Segment registers in encoding order.
const SEGMENTS: [Register; 6] = [Register::ES, Register::CS, Register::SS, Register::DS, Register::FS, Register::GS];

/// What the hook saw of the first exception.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its vector.
    pub vector: Option<u8>,
    /// RIP as the hook finds it.
    pub rip: u64,
    /// CR2.
    pub cr2: u64,
}

/// The oracle.
pub struct Reference {
    unicorn: Unicorn<'static, Seen>,
    ready: Context,
    holds: usize,
    /// How the next runs are privileged.
    pub privilege: Privilege,
}

fn error(what: unicorn_engine::uc_error) -> anyhow::Error {
    anyhow!("Unicorn: {what:?}")
}

impl Reference {
    /// A machine in long mode at CPL 0.
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn new() -> Result<Reference> {
        let mut unicorn = Unicorn::new_with_data(Arch::X86, Mode::MODE_64, Seen::default()).map_err(error)?;
        let ready = set_up(&mut unicorn).map_err(error)?;
        Ok(Reference { unicorn, ready, holds: usize::MAX, privilege: Privilege::User })
    }

    /// Writes guest-physical memory.
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn store(&mut self, physical: u64, bytes: &[u8]) -> Result<()> {
        self.unicorn.mem_write(physical, bytes).map_err(error)
    }

    /// Reads guest-physical memory.
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn load(&self, physical: u64, bytes: &mut [u8]) -> Result<()> {
        self.unicorn.mem_read(physical, bytes).map_err(error)
    }

    /// A register.
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn register(&self, register: Register) -> Result<u64> {
        self.unicorn.reg_read(register).map_err(error)
    }

    /// Changes a register before [`Reference::start`].
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn set_register(&mut self, register: Register, value: u64) -> Result<()> {
        self.unicorn.reg_write(register, value).map_err(error)
    }

    /// Back to the state after set-up, with nothing cached.
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn reset(&mut self) -> Result<()> {
        self.unicorn.context_restore(&self.ready).map_err(error)?;
        self.unicorn.ctl_flush_tlb().map_err(error)?;
        self.unicorn.ctl_flush_tb().map_err(error)?;
        *self.unicorn.get_data_mut() = Seen::default();
        Ok(())
    }

    /// Enters with these registers and runs to the first exception; `None` if there is none within the limit.
    ///
    /// # Errors
    /// What Unicorn says.
    pub fn start(&mut self, registers: &Registers, code: u16, stack: u16) -> Result<Option<Seen>> {
        let frame = [registers.rip, code.into(), registers.rflags, registers.gpr[4], stack.into()];
        let bytes: Vec<u8> = frame.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.store(FRAME, &bytes)?;
        self.store(FRAME + 512, &registers.fx)?;
        for (register, value) in GENERAL.into_iter().zip(registers.gpr) {
            self.set_register(register, value)?;
        }
        self.set_register(Register::RSP, SYSTEM + FRAME)?;
        self.set_register(Register::FS_BASE, registers.fs_base)?;
        self.set_register(Register::GS_BASE, registers.gs_base)?;
        let start = SYSTEM + STUB + 64;
        // An exception nobody handles is reported as an error here too; the hook has seen it.
        let _ = self.unicorn.emu_start(start, 0, 0, LIMIT);
        let seen = *self.unicorn.get_data();
        Ok(seen.vector.map(|_| seen))
    }

    fn prepare(&mut self, case: &Case, program: &Program) -> Result<()> {
        self.reset()?;
        if self.holds != case.image {
            self.store(FRAMES, &IMAGES[case.image])?;
            self.store(FRAMES + DATA_BYTES as u64, &[0xcc; crate::layout::CODE_PAGES * PAGE])?;
            self.holds = case.image;
        }
        for patch in &case.patches {
            self.store(FRAMES + u64::from(patch.offset), &patch.bytes)?;
        }
        self.store(FRAMES + (CODE_FRAME * PAGE + case.start) as u64, &program.bytes)
    }

    /// Changed lines; the frames are put back.
    fn take_lines(&mut self, case: &Case) -> Result<Vec<Line>> {
        let mut expected = IMAGES[case.image].clone();
        expected.resize(crate::layout::FRAMES * PAGE, 0xcc);
        let mut bytes = vec![0; expected.len()];
        self.load(FRAMES, &mut bytes)?;
        let mut lines = Vec::new();
        for offset in (0..bytes.len()).step_by(64) {
            let range = offset..offset + 64;
            if bytes[range.clone()] != expected[range.clone()] {
                lines.push(Line { offset: offset as u32, bytes: bytes[range.clone()].try_into()? });
                self.store(FRAMES + offset as u64, &expected[range])?;
            }
        }
        Ok(lines)
    }

    /// EFER.NXE, by a WRMSR of the guest's own.
    fn set_no_execute(&mut self, on: bool) -> Result<()> {
        self.set_register(Register::RCX, 0xc000_0080)?;
        self.set_register(Register::RAX, if on { 0xd01 } else { 0x501 })?;
        self.set_register(Register::RDX, 0)?;
        self.unicorn.emu_start(SYSTEM + STUB + 128, 0, 0, 2).map_err(error)
    }

    /// System state of a case about it; the words it changed are put back.
    fn take_system(&mut self) -> Result<SystemState> {
        let words = guest::changed_words(|start| {
            let mut page = [0; PAGE];
            self.load(start, &mut page).expect("the tables are mapped");
            page
        });
        for (address, _) in &words {
            self.store(*address, &guest::initial_word(*address).to_le_bytes())?;
        }
        let mut selectors = [0; 6];
        for (value, register) in selectors.iter_mut().zip(SEGMENTS) {
            *value = self.register(register)? as u16;
        }
        Ok(SystemState { words, selectors })
    }

    /// The registers at the end of a run; of the x87 only what Unicorn gives.
    fn registers(&self, seen: &Seen) -> Result<Registers> {
        let mut registers = Registers { rip: seen.rip, ..Registers::default() };
        for (value, register) in registers.gpr.iter_mut().zip(GENERAL) {
            *value = self.register(register)?;
        }
        registers.rflags = self.register(Register::RFLAGS)?;
        registers.fs_base = self.register(Register::FS_BASE)?;
        registers.gs_base = self.register(Register::GS_BASE)?;
        for number in 0..16 {
            let name = i32::from(Register::XMM0) + number;
            let bytes = self.unicorn.reg_read_long(name).map_err(error)?;
            registers.fx[160 + 16 * number as usize..][..16].copy_from_slice(&bytes[..16]);
        }
        Ok(registers)
    }

    fn try_run(&mut self, case: &Case, program: &Program) -> Result<Option<Outcome>> {
        self.prepare(case, program)?;
        let mut registers = case.registers;
        registers.rip = program.address;
        let mut privilege = self.privilege;
        if let Some(system) = &case.system {
            privilege = system.privilege;
            for (address, value) in &system.stores {
                self.store(*address, &value.to_le_bytes())?;
            }
            let paging = self.register(Register::CR0)?;
            self.set_register(Register::CR0, if system.write_protect { paging } else { paging & !(1 << 16) })?;
            self.set_no_execute(system.no_execute)?;
        }
        let (code, stack) = match privilege {
            Privilege::User => (selector::USER_CODE, selector::USER_DATA),
            Privilege::Kernel => (selector::KERNEL_CODE, selector::KERNEL_DATA),
        };
        let seen = self.start(&registers, code, stack)?;
        let lines = self.take_lines(case)?;
        let system = if case.system.is_some() { Some(self.take_system()?) } else { None };
        let Some(Seen { vector: Some(vector), cr2, .. }) = seen else { return Ok(None) };
        let registers = self.registers(&seen.unwrap_or_default())?;
        let cr2 = if vector == 14 { cr2 } else { 0 };
        Ok(Some(Outcome { vector, error: 0, cr2, registers, lines, count: None, system }))
    }
}

impl Subject for Reference {
    fn name(&self) -> &'static str {
        "unicorn"
    }

    fn run(&mut self, case: &Case, program: &Program) -> Option<Outcome> {
        self.try_run(case, program).ok()?
    }
}

/// Paging on, tables loaded, CPL 0; gives that state.
fn set_up(unicorn: &mut Unicorn<'static, Seen>) -> Result<Context, unicorn_engine::uc_error> {
    unicorn.ctl_set_cpu_model(unicorn_engine::X86CpuModel::NEHALEM as i32)?;
    unicorn.mem_map(0, guest::MEMORY as u64, Prot::ALL)?;
    unicorn.mem_write(0, &guest::memory())?;
    unicorn.mem_write(STUB, SET_EFER)?;
    unicorn.reg_write(Register::RCX, 0xc000_0080)?;
    unicorn.reg_write(Register::RAX, 0xd01)?;
    unicorn.reg_write(Register::RDX, 0)?;
    unicorn.emu_start(STUB, 0, 0, 2)?;
    unicorn.reg_write(Register::CR4, 0x620)?;
    unicorn.reg_write(Register::CR3, guest::TABLES)?;
    unicorn.reg_write(Register::CR0, 0x8001_0033)?;
    unicorn.mem_write(STUB, SET_TABLES)?;
    unicorn.mem_write(STUB + 64, START)?;
    unicorn.mem_write(STUB + 128, SET_EFER)?;
    unicorn.mem_write(FRAME, &pointer(guest::GDT_LIMIT, SYSTEM + guest::GDT))?;
    unicorn.mem_write(FRAME + 16, &pointer(0xfff, SYSTEM + guest::IDT))?;
    unicorn.reg_write(Register::RSP, SYSTEM + FRAME)?;
    unicorn.reg_write(Register::RAX, selector::TASK.into())?;
    unicorn.reg_write(Register::RCX, SYSTEM + STUB + LOAD_STACK)?;
    unicorn.reg_write(Register::RDX, selector::KERNEL_DATA.into())?;
    unicorn.emu_start(SYSTEM + STUB, 0, 0, 8)?;
    // LTR has made the TSS busy; cases begin from the image.
    let task = guest::GDT + u64::from(selector::TASK);
    unicorn.mem_write(task, &guest::initial_word(task).to_le_bytes())?;
    unicorn.add_intr_hook(|unicorn, vector| see(unicorn, vector as u8))?;
    unicorn.add_insn_invalid_hook(|unicorn| {
        see(unicorn, 6);
        false
    })?;
    unicorn.context_init()
}

/// Notes the first exception and ends the run.
fn see(unicorn: &mut Unicorn<Seen>, vector: u8) {
    let rip = unicorn.reg_read(Register::RIP).unwrap_or_default();
    let cr2 = unicorn.reg_read(Register::CR2).unwrap_or_default();
    let seen = unicorn.get_data_mut();
    if seen.vector.is_none() {
        *seen = Seen { vector: Some(vector), rip, cr2 };
    }
    let _ = unicorn.emu_stop();
}

/// What LGDT and LIDT load.
fn pointer(limit: u16, base: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&limit.to_le_bytes());
    bytes[2..].copy_from_slice(&base.to_le_bytes());
    bytes
}
