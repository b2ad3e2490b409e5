//! Engine against the host's own CPU in 16- and 32-bit segments of every kind, at CPL 3: what Unicorn does not check,
//! limits, types and stacks, and all flags, also those the manual leaves undefined.

use super::generate::{instruction, value};
use super::segments::{self, PARTS};
use super::silicon::Silicon;
use super::tally::{Tally, Verdict};
use super::{Case, Mode, Outcome, Registers, compare, engine, image, known};
use crate::random::Random;
use anyhow::Result;
use iced_x86::{Instruction, Mnemonic};

/// Host and engine.
pub struct Campaign {
    engine: engine::Machine,
    silicon: Silicon,
    image: Vec<u8>,
    /// What has been compared.
    pub tally: Tally,
}

impl Campaign {
    /// Both machines.
    ///
    /// # Errors
    /// One of them cannot be set up here.
    pub fn new() -> Result<Campaign> {
        let image = image();
        // First: 32-bit code on the host reaches all that its process has below 4 GiB, and the engine's code would be there.
        let silicon = Silicon::new(&image)?;
        Ok(Campaign { engine: engine::Machine::new(&image)?, silicon, image, tally: Tally::default() })
    }

    /// Runs the cases of seeds `seed` to `seed + cases`, or until so many kinds have failed.
    pub fn run(&mut self, seed: u64, cases: u64, patience: usize) {
        let mut tally = std::mem::take(&mut self.tally);
        tally.run(seed, cases, patience, |tally, seed| self.check(&case(seed), tally));
        self.tally = tally;
    }

    fn check(&mut self, case: &Case, tally: &mut Tally) -> Verdict {
        let instructions = case.instructions();
        let host = self.silicon.run(case, &self.image);
        let engine = self.engine.run(case, &self.image);
        let mut host = host.ok_or("it left the memory, or did not end")?;
        let engine = engine.ok_or("it does not end")?;
        if let Some(reason) = excuse(case, &instructions, &engine, &host) {
            return Err(reason);
        }
        // Signals do not tell these apart.
        match (engine.vector, host.vector) {
            (Some(vector @ 5), Some(13)) | (Some(vector @ 11), Some(12)) => host.vector = Some(vector),
            (Some(vector @ 4), Some(13)) => {
                // A trap: the host is behind it.
                let into = instructions.iter().find(|one| one.ip() == u64::from(engine.registers.ip));
                host.registers.ip -= into.map_or(0, |one| one.len() as u32);
                host.vector = Some(vector);
            }
            _ => {}
        }
        tally.note(&instructions, &engine);
        Ok(compare::report_exactly(case, &instructions, &engine, &host))
    }
}

/// The case of a seed: segments from the shared table.
fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let mut numbers = [0; 6];
    for (register, number) in numbers.iter_mut().enumerate() {
        *number = match register {
            1 => random.pick(&segments::CODES),
            2 if random.percent(40) => segments::FLAT,
            2 => segments::STACKS.start + random.below(segments::STACKS.len()),
            _ if random.percent(35) => segments::FLAT,
            _ => present(&mut random),
        };
    }
    let parts = numbers.map(|number| PARTS[number]);
    let bits = if parts[1].big { 32 } else { 16 };
    let gpr = std::array::from_fn(|_| match random.below(12) {
        0 => segments::selector(present(&mut random)).into(),
        _ => value(&mut random, bits),
    });
    let mut registers = Registers { gpr, ..Registers::default() };
    let stack = &parts[2];
    registers.gpr[4] = match random.below(4) {
        _ if stack.base == 0 => 0x3_0000 + random.below(0x1000) as u32,
        0 | 1 => stack.limit.wrapping_add_signed(random.within(-0x40, 0x40) as i32),
        2 => random.below(0x40) as u32,
        _ => random.bits() as u32 & 0xffff,
    };
    registers.ip = if parts[1].base == 0 { super::CODE as u32 } else { 0 } + 0x100 + random.below(0xfd00) as u32;
    registers.flags = random.bits() as u32 & 0xcd5 | 0x202;
    registers.selectors = numbers.map(segments::selector);
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(2) {
        bytes.extend(instruction(&mut random, bits, refuses));
    }
    let mut case = Case { mode: Mode::Protected { bits, user: true }, bytes, registers, parts, patch: None };
    if random.percent(12) {
        far_transfer(&mut random, &mut case);
    }
    case
}

/// Makes the program a far transfer, mostly to one of the code segments, with what it takes from the stack.
fn far_transfer(random: &mut Random, case: &mut Case) {
    let narrow = random.percent(40);
    // 16 bits of offset do not lead to the code in the flat segment.
    let codes = if narrow { &segments::CODES[1..] } else { &segments::CODES };
    let number = if random.percent(85) { random.pick(codes) } else { present(random) };
    let offset = if PARTS[number].base == 0 { super::CODE as u32 } else { 0 } + random.below(0x1_0100) as u32;
    let selector = segments::selector(number) & !(random.percent(10) as u16 * 3);
    let flags = random.bits() as u32 & 0x3cd5 | 2;
    let word = |value: u32| value.to_le_bytes()[..if narrow { 2 } else { 4 }].to_vec();
    let frame: Vec<u8> = [offset, selector.into(), flags].into_iter().flat_map(word).collect();
    let mask = if case.parts[2].big { u32::MAX } else { 0xffff };
    let top = case.parts[2].base + u64::from(case.registers.gpr[4] & mask);
    if (super::DATA as u64..super::MEMORY as u64 - 32).contains(&top) {
        case.patch = Some((top, frame));
    }
    let mut bytes = Vec::new();
    if narrow == (case.mode.bits() == 32) {
        bytes.push(0x66);
    }
    match random.below(5) {
        0 => bytes.push(0xcb),
        1 => bytes.extend([0xca, random.below(0x40) as u8, 0]),
        2 => bytes.push(0xcf),
        opcode => {
            bytes.push(if opcode == 3 { 0x9a } else { 0xea });
            bytes.extend(word(offset));
            bytes.extend(selector.to_le_bytes());
        }
    }
    case.bytes = bytes;
}

/// A segment that can be loaded into a data segment register.
fn present(random: &mut Random) -> usize {
    loop {
        let number = segments::ALL.start + random.below(segments::ALL.len());
        let access = PARTS[number].access;
        if access & 0x80 != 0 && access & 0xa != 8 {
            return number;
        }
    }
}

/// Instructions that the host's kernel has a part in, or that depend on its tables.
fn refuses(one: &Instruction) -> bool {
    use Mnemonic::*;
    let asked = matches!(one.mnemonic(), Bound | Into | Hlt | Clts | In | Out | Lgdt | Lidt | Lldt | Ltr);
    let never = matches!(one.mnemonic(), Int | Int1 | Int3 | Popfd | Iret | Iretd);
    never || !asked && known::before(&[*one]).is_some()
}

/// Whether LAR, LSL, VERR or VERW concerns the local table.
fn asks_locally(case: &Case, one: &Instruction) -> bool {
    let register = one.op_register(one.op_count() - 1);
    register.is_gpr() && case.registers.gpr[register.full_register32().number()] & 4 != 0
}

/// Why the two cannot be compared.
fn excuse(case: &Case, instructions: &[Instruction], engine: &Outcome, host: &Outcome) -> Option<&'static str> {
    const AC_TF_NT: u32 = 1 << 18 | 1 << 8 | 1 << 14;
    if (engine.registers.flags | host.registers.flags) & AC_TF_NT != 0 || host.vector == Some(1) {
        return Some("TF, NT and AC are the kernel's as well");
    }
    let foreign = |selector: u16| selector & 4 == 0 && selector > 3;
    if host.registers.selectors.into_iter().chain(engine.registers.selectors).any(foreign) {
        return Some("a selector of the kernel's table");
    }
    let far = |one: &Instruction| {
        one.is_jmp_far() || one.is_call_far() || one.is_jmp_far_indirect() || one.is_call_far_indirect()
    };
    let leaves =
        |one: &Instruction| far(one) || matches!(one.mnemonic(), Mnemonic::Retf | Mnemonic::Iret | Mnemonic::Iretd);
    let code = segments::CODES.map(segments::selector).contains(&host.registers.selectors[1]);
    let stayed = host.registers.selectors[1] == case.registers.selectors[1] && host.vector == Some(13);
    let refused = stayed && instructions.iter().any(|one| one.ip() == u64::from(host.registers.ip));
    let followed = host.vector == Some(3) && code && case.patch.is_some();
    let astray = !refused && !followed;
    if instructions.iter().any(leaves) && astray {
        return Some("a far transfer led to random bytes");
    }
    let asks =
        |one: &Instruction| matches!(one.mnemonic(), Mnemonic::Lar | Mnemonic::Lsl | Mnemonic::Verr | Mnemonic::Verw);
    if instructions.iter().skip(1).any(asks)
        || instructions.first().is_some_and(|one| asks(one) && !asks_locally(case, one))
    {
        return Some("a question about the kernel's table");
    }
    let last = instructions.iter().find(|one| one.ip() == u64::from(host.registers.ip))?;
    match last.mnemonic() {
        Mnemonic::Call if host.vector != Some(3) => Some("CALL beyond a limit has pushed its return address"),
        Mnemonic::Enter if host.vector != Some(3) => Some("ENTER has stored some frame pointers before it faults"),
        Mnemonic::Popa | Mnemonic::Popad if host.vector != Some(3) => Some("POPA has loaded some registers"),
        _ => None,
    }
}
