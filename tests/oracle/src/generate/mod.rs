//! Random cases from seeds: single instructions, blocks with branches, calls and loops, programs that rewrite
//! themselves, and single steps.

mod builder;
mod instruction;
mod memory;
pub mod system;

use crate::case::{Case, Item};
use crate::layout::PAGE;
use builder::{Builder, full};
use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, Register};

/// The case of a seed. `image`: which initial data it runs with; neighbours share one, which saves copying. `only`: all
/// its random instructions have this mnemonic.
pub fn case(seed: u64, image: usize, only: Option<Mnemonic>) -> Case {
    let mut builder = Builder::new(seed, image);
    builder.only = only;
    match builder.random.below(100) {
        0..=44 => single(&mut builder),
        45..=91 => block(&mut builder),
        _ => rewriting(&mut builder),
    }
    if builder.random.percent(2) {
        builder.case.registers.rflags |= 0x100;
    }
    place(&mut builder);
    builder.case
}

/// Mostly somewhere, sometimes across pages of code, sometimes up to the end of what is mapped.
fn place(builder: &mut Builder) {
    let Some(program) = builder.case.assemble() else { return };
    let length = program.bytes.len();
    let inside = builder.random.below(length + 1);
    builder.case.start = match builder.random.below(10) {
        0..=1 => PAGE - inside,
        2 => 2 * PAGE - inside,
        3 if !builder.case.rewrites => 3 * PAGE - length + builder.random.below(2),
        4 => builder.random.below(PAGE),
        _ => builder.case.start,
    };
    if builder.case.start + length > 3 * PAGE {
        // The INT3 falls off the last page: the fetch faults instead.
        builder.case.items.pop();
    }
}

/// One instruction.
fn single(builder: &mut Builder) {
    instruction::push(builder, true);
    builder.case.items.push(Item::End);
}

/// Conditional branches, short and near, and those that count.
const BRANCHES: [Code; 22] = [
    Code::Jo_rel8_64,
    Code::Jno_rel32_64,
    Code::Jb_rel32_64,
    Code::Jae_rel8_64,
    Code::Je_rel8_64,
    Code::Jne_rel32_64,
    Code::Jbe_rel32_64,
    Code::Ja_rel8_64,
    Code::Js_rel8_64,
    Code::Jns_rel32_64,
    Code::Jp_rel32_64,
    Code::Jnp_rel8_64,
    Code::Jl_rel8_64,
    Code::Jge_rel32_64,
    Code::Jle_rel32_64,
    Code::Jg_rel8_64,
    Code::Jmp_rel8_64,
    Code::Jmp_rel32_64,
    Code::Jrcxz_rel8_64,
    Code::Jecxz_rel8_64,
    Code::Loop_rel8_64_RCX,
    Code::Loope_rel8_64_RCX,
];

/// Up to twelve instructions with forward branches, calls and an outer loop.
fn block(builder: &mut Builder) {
    let length = 1 + builder.random.below(12);
    let mut functions = Vec::new();
    for _ in 0..length {
        match builder.random.below(100) {
            0..=14 => {
                let code = builder.random.pick(&BRANCHES);
                builder.case.items.push(Item::Branch(code, usize::MAX));
            }
            15..=19 => {
                functions.push(builder.case.items.len());
                builder.case.items.push(Item::Branch(Code::Call_rel32_64, usize::MAX));
            }
            20..=24 => indirect(builder),
            25..=26 => set_flags(builder),
            _ => instruction::push(builder, false),
        }
    }
    let body = builder.case.items.len();
    let looped = builder.random.percent(40);
    if looped {
        builder.case.items.push(Item::Loop(Register::RAX, 0));
    }
    builder.case.items.push(Item::End);
    let main_end = builder.case.items.len() - 1;
    resolve_branches(builder, 0, body, main_end);
    for call in functions {
        let entry = builder.case.items.len();
        builder.case.items[call] = Item::Branch(Code::Call_rel32_64, entry);
        for _ in 0..builder.random.below(4) {
            instruction::push(builder, false);
        }
        let with_immediate = builder.random.percent(20);
        let code = if with_immediate { Code::Retnq_imm16 } else { Code::Retnq };
        let instruction =
            if with_immediate { Instruction::with1(code, 8u32).ok() } else { Some(Instruction::with(code)) };
        builder.case.items.extend(instruction.map(Item::Instruction));
    }
    if looped {
        count_loop(builder, body);
    }
    shorten(builder);
}

/// Points each forward branch somewhere after it.
fn resolve_branches(builder: &mut Builder, from: usize, to: usize, end: usize) {
    for number in from..to {
        if let Item::Branch(code, usize::MAX) = builder.case.items[number] {
            let target = number + 1 + builder.random.below(end - number);
            builder.case.items[number] = Item::Branch(code, target);
        }
    }
}

/// A jump or call through a register or the stack to the next item, or just the load of an address.
fn indirect(builder: &mut Builder) {
    let register = full(builder.random.pick(&[0, 1, 2, 3, 6, 7, 8, 11, 12, 13, 15]));
    builder.written |= 1 << register.number();
    builder.case.items.push(Item::Address(register, builder.case.items.len() + 2));
    let branch = match builder.random.below(3) {
        0 => Instruction::with1(Code::Jmp_rm64, register),
        1 => Instruction::with1(Code::Call_rm64, register),
        _ => {
            builder.case.items.pop();
            builder.case.items.push(Item::Address(register, builder.case.items.len() + 3));
            builder.case.items.extend(Instruction::with1(Code::Push_r64, register).ok().map(Item::Instruction));
            Ok(Instruction::with(Code::Retnq))
        }
    };
    builder.case.items.extend(branch.ok().map(Item::Instruction));
}

/// `push imm; popf`, without TF and AC.
fn set_flags(builder: &mut Builder) {
    let flags = builder.random.bits() as u32 & 0x0020_0ed7 & 0x7fff_ffff;
    let [a, b, c, d] = flags.to_le_bytes();
    builder.case.items.push(Item::Raw(vec![0x68, a, b, c, d, 0x9d]));
}

/// Gives the outer loop at `place` a register that nothing in the program touches, or drops the loop.
fn count_loop(builder: &mut Builder, place: usize) {
    let Some(used) = registers_used(&builder.case.items) else {
        builder.case = builder.case.without(place);
        return;
    };
    match (0..16).find(|&number| used & 1 << number == 0 && builder.is_free(number)) {
        Some(register) => {
            let times = 2 + builder.random.bits() % 6;
            builder.want(register, times);
            builder.case.items[place] = Item::Loop(full(register), 0);
        }
        None => builder.case = builder.case.without(place),
    }
}

/// General registers that a program names, RSP and RCX always; `None` if there is an instruction of unknown operands.
fn registers_used(items: &[Item]) -> Option<u16> {
    let mut factory = InstructionInfoFactory::new();
    let mut used = 1 << 4 | 1 << 1;
    for item in items {
        match item {
            Item::Instruction(instruction) => {
                let named = factory.info(instruction).used_registers().iter().map(|used| used.register());
                // A NOP names registers that it does not use.
                for register in named.chain([instruction.memory_base(), instruction.memory_index()]) {
                    if register.is_gpr() {
                        used |= 1 << register.full_register().number();
                    }
                }
            }
            // PUSH and POPF, and pieces of code: RAX, RCX and R15 at most.
            Item::Raw(bytes) if bytes[0] == 0x68 || bytes.len() == 4 || bytes.len() == 64 => used |= 0x8001,
            Item::Raw(_) => return None,
            _ => {}
        }
    }
    Some(used)
}

/// Drops short branches that cannot reach, from the end.
fn shorten(builder: &mut Builder) {
    while builder.case.assemble().is_none() {
        let branch = |item: &Item| matches!(item, Item::Branch(code, _) if *code != Code::Call_rel32_64);
        match builder.case.items.iter().rposition(branch) {
            Some(last) => builder.case = builder.case.without(last),
            None => builder.case.items = vec![Item::End],
        }
    }
}

/// Four-byte pieces of code that may stand for each other.
fn piece(builder: &mut Builder) -> [u8; 4] {
    let byte = builder.random.bits() as u8;
    let pieces: [[u8; 4]; 16] = [
        [0x83, 0xc0, byte, 0x90],
        [0x83, 0xe8, byte, 0x90],
        [0x48, 0xff, 0xc0, 0x90],
        [0x49, 0xff, 0xcf, 0x90],
        [0x31, 0xc0, 0x90, 0x90],
        [0x90, 0x90, 0x90, 0x90],
        [0x0f, 0xc8, 0x90, 0x90],
        [0x0f, 0x0b, 0x90, 0x90],
        [0xeb, 0x00, 0x90, 0x90],
        [0xeb, 0x02, 0x0f, 0x0b],
        [0x73, 0x01, 0xf9, 0x90],
        [0x50, 0x58, 0x90, 0x90],
        [0xcc, 0x90, 0x90, 0x90],
        [0x66, 0x0f, 0xef, 0xc1],
        [0xd9, 0xe8, 0x90, 0x90],
        [0x48, 0x8d, 0x40, byte],
    ];
    builder.random.pick(&pieces)
}

/// Stores into code: after it and before it, within the block, the page or the next page, once or in a loop.
fn rewriting(builder: &mut Builder) {
    builder.case.rewrites = true;
    let mut rewrites = Vec::new();
    let mut targets = Vec::new();
    for _ in 0..2 + builder.random.below(6) {
        match builder.random.below(10) {
            0..=2 => {
                rewrites.push(builder.case.items.len());
                builder.case.items.push(Item::Rewrite(0, 0));
            }
            3..=5 => {
                targets.push(builder.case.items.len());
                let piece = piece(builder);
                builder.case.items.push(Item::Raw(piece.to_vec()));
            }
            6 => builder.case.items.push(Item::Branch(Code::Jmp_rel32_64, builder.case.items.len() + 1)),
            7 => {
                // Far enough for another page, if the case begins near the end of one.
                builder.case.items.push(Item::Branch(Code::Jmp_rel32_64, builder.case.items.len() + 2));
                builder.case.items.push(Item::Raw(vec![0x0f; 64]));
            }
            _ => instruction::push(builder, false),
        }
    }
    targets.push(builder.case.items.len());
    let last = piece(builder);
    builder.case.items.push(Item::Raw(last.to_vec()));
    for number in rewrites {
        let target = builder.random.pick(&targets);
        let value = u32::from_le_bytes(piece(builder));
        builder.case.items[number] = Item::Rewrite(target, value);
    }
    let end = builder.case.items.len();
    builder.case.items.extend([Item::Loop(Register::RAX, 0), Item::End]);
    if builder.random.percent(50) {
        count_loop(builder, end);
    } else {
        builder.case = builder.case.without(end);
    }
}
