//! Nothing that a guest can put into tables and registers makes an instruction or a delivery panic, and a fault of an
//! instruction without REP leaves the state as it was unless it belongs to a new task.

use super::*;
use crate::state::FxArea;
use crate::system::{deliver, handles, near};

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 ^ self.0 >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// An address or offset: small, near an edge, or anything of 32 bits.
    fn offset(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(0x3_0000),
            1 => [0, 1, 0xffff, 0xfffe, 0xffff_ffff, 0xffff_fff8, 0x8000][self.below(7) as usize],
            2 => self.below(0x100),
            _ => self.bits() & 0xffff_ffff,
        }
    }

    fn segment(&mut self) -> Segment {
        let limit = if self.below(3) == 0 { u32::MAX } else { self.offset() as u32 };
        let base = if self.below(2) == 0 { self.below(0x10_0000) } else { self.bits() & 0xffff_ffff };
        Segment { base, limit, attributes: self.bits() as u16 & 0xfff, selector: self.below(0x100) as u16 }
    }
}

fn state(random: &mut Random) -> State {
    let mut state = State { fx: FxArea::default(), ..State::default() };
    state.gpr[..8].iter_mut().for_each(|register| *register = random.offset());
    state.rip = random.below(0x8000);
    state.rflags = random.bits() & 0x3_7ed5 | 2;
    state.segments.iter_mut().for_each(|segment| *segment = random.segment());
    state.segments[segment::CS].base = CODE;
    state.segments[segment::CS].attributes &= !Segment::LONG;
    (state.ldtr, state.tr) = (random.segment(), random.segment());
    for table in [&mut state.gdtr, &mut state.idtr] {
        let base = if random.below(4) == 0 { random.offset() } else { 0x5000 };
        *table = TableRegister { base, limit: random.bits() as u16 };
    }
    state.cr0 = control::CR0_ET | if random.below(4) == 0 { 0 } else { control::CR0_PE };
    state.cr4 = control::CR4_OSFXSR;
    state.cpl = match state.cr0 & control::CR0_PE {
        0 => 0,
        _ if state.rflags & rflags::VM != 0 => 3,
        _ => random.below(4) as u8,
    };
    state
}

#[test]
fn no_state_makes_an_instruction_or_a_delivery_panic() {
    let mut machine = Machine::protected();
    let mut random = Random(0x5eed);
    let mut executed = 0;
    for round in 0..60_000 {
        if round % 64 == 0 {
            for at in (0x5000..0x8000).step_by(8) {
                // Mostly descriptors of segments and gates that are present.
                let value = random.bits() << 32 | random.bits() & 0xffff_ffff;
                machine.store(at, if random.below(3) == 0 { value } else { value | 1 << 47 });
            }
        }
        machine.state = state(&mut random);
        let mut bytes = random.bits().to_le_bytes().to_vec();
        bytes.extend(random.bits().to_le_bytes());
        if random.below(3) == 0 {
            bytes[0] = 0x0f;
        }
        machine.place(&bytes);
        let Ok(instruction) = machine.fetch() else { continue };
        let before = machine.state.clone();
        if !instruction.is_invalid() && (handles(&instruction) || near::is_near(&instruction)) {
            executed += 1;
            let mut completed = 0;
            let result = machine.with(|x| execute(x, &instruction, 100, &mut completed));
            let switched = machine.state.tr != before.tr;
            let counts = instruction.is_string_instruction() || switched || machine.state.dr != before.dr;
            assert!(result.is_ok() || counts || machine.state == before, "{instruction}: {result:?}");
        }
        let vector = random.below(32) as u8;
        let exception =
            Exception { vector, error: (random.below(2) == 0).then_some(random.bits() as u32), address: None };
        let _ = machine.with(|x| deliver::exception(x, exception));
    }
    assert!(executed > 10_000, "{executed} instructions were ours");
}
