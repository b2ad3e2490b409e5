//! Instructions executed by plain Rust functions, and the delivery of exceptions and interrupts.
//!
//! What the translator cannot relocate comes here: privilege, segments, implicit memory operands, whole-state moves.
//! One file holds one family of instructions; [`family`] says which.

mod bit_test;
mod branches;
mod call_gate;
mod control_registers;
pub mod cpuid;
pub mod debug;
mod decimal;
pub mod deliver;
mod far;
mod flags;
pub mod fpu;
mod frame;
mod interrupts;
mod io;
pub mod management;
mod miscellaneous;
mod msr;
mod near;
pub(crate) mod operand;
mod segment_moves;
mod segments;
mod stack;
pub(crate) mod strings;
mod system_call;
mod tables;
mod task;
#[cfg(test)]
mod tests;

use crate::exception::Exception;
use crate::execution::Execution;
use iced_x86::{Instruction, Mnemonic};

/// Where execution goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction; `execute` has advanced RIP past this one.
    Next,
    /// To `state.rip`, which the instruction set; mode or privilege may have changed.
    Jump,
    /// A repeated string instruction must be looked at again: out of allowance, a device was touched, or code or
    /// tables may have changed. RIP still points at it.
    Again,
    /// HLT completed.
    Halt,
}

/// What [`execute`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Instructions this counts as: 1, or the completed iterations of a REP (at least 1).
    pub count: u64,
    /// Where to go on.
    pub flow: Flow,
}

/// A triple fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown;

/// The file an instruction belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    BitTest,
    Branch,
    Control,
    Decimal,
    Far,
    Flags,
    Fpu,
    Interrupt,
    Io,
    MaskedMove,
    Miscellaneous,
    Msr,
    Near,
    SegmentMove,
    Stack,
    String,
    SystemCall,
    Table,
}

/// Executes one instruction at `state.rip`, decoded for the mode that the state is in. `allowance` (at least 1) bounds the
/// iterations of a REP. Beyond what [`handles`] tells it takes near transfers, PUSH, POP and LEAVE of every size.
///
/// # Errors
/// The exception it raised; the state is then as before the instruction, but for completed REP iterations, which
/// `completed` receives.
pub fn execute(
    x: &mut Execution,
    instruction: &Instruction,
    allowance: u64,
    completed: &mut u64,
) -> Result<Executed, Exception> {
    *completed = 0;
    let near = near::is_near(instruction).then_some(Family::Near);
    let family = family(instruction).or(near).ok_or(Exception::invalid_opcode())?;
    // The shadow covers this instruction; a new one may begin with it.
    let shadow = std::mem::take(&mut x.state.interrupt_shadow);
    let pending = x.state.debug_pending;
    let result = if family == Family::String {
        strings::execute(x, instruction, allowance, completed)
    } else {
        execute_single(x, instruction, family)
    };
    if result.is_err() {
        // What did not complete traps nothing.
        x.state.debug_pending = pending;
        x.state.interrupt_shadow |= shadow && *completed == 0;
    }
    result
}

fn execute_single(x: &mut Execution, instruction: &Instruction, family: Family) -> Result<Executed, Exception> {
    let flow = match family {
        Family::BitTest => bit_test::execute(x, instruction),
        Family::Branch => branches::execute(x, instruction),
        Family::Control => control_registers::execute(x, instruction),
        Family::Decimal => decimal::execute(x, instruction),
        Family::Far => far::execute(x, instruction),
        Family::Flags => flags::execute(x, instruction),
        Family::Fpu => fpu::execute(x, instruction),
        Family::Interrupt => interrupts::execute(x, instruction),
        Family::Io => io::execute(x, instruction),
        Family::MaskedMove => fpu::masked_move(x, instruction),
        Family::Miscellaneous => miscellaneous::execute(x, instruction),
        Family::Msr => msr::execute(x, instruction),
        Family::Near => near::execute(x, instruction),
        Family::SegmentMove => segment_moves::execute(x, instruction),
        Family::Stack => stack::execute(x, instruction),
        Family::SystemCall => system_call::execute(x, instruction),
        Family::Table => tables::execute(x, instruction),
        Family::String => Err(Exception::invalid_opcode()),
    }?;
    if matches!(flow, Flow::Next | Flow::Halt) {
        x.state.rip = operand::next(instruction);
    }
    Ok(Executed { count: 1, flow })
}

/// Whether this instruction must be executed by [`execute`] because the translator does not relocate it, in any mode.
pub fn handles(instruction: &Instruction) -> bool {
    family(instruction).is_some()
}

fn family(instruction: &Instruction) -> Option<Family> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Movsb | Movsw | Movsq | Stosb | Stosw | Stosd | Stosq | Lodsb | Lodsw | Lodsd | Lodsq | Scasb | Scasw
        | Scasd | Scasq | Cmpsb | Cmpsw | Cmpsq | Insb | Insw | Insd | Outsb | Outsw | Outsd => Family::String,
        Movsd | Cmpsd => {
            return instruction.is_string_instruction().then_some(Family::String);
        }
        Mov => return mov_family(instruction),
        Push | Pop => return push_family(instruction),
        Enter | Pusha | Pushad | Popa | Popad => Family::Stack,
        Call | Jmp => return is_far(instruction).then_some(Family::Far),
        Retf => Family::Far,
        Bt | Bts | Btr | Btc => {
            return bit_test::is_bit_string(instruction).then_some(Family::BitTest);
        }
        Loop | Loope | Loopne | Jcxz | Jecxz | Jrcxz => Family::Branch,
        Pushf | Pushfd | Pushfq | Popf | Popfd | Popfq | Cld | Std => Family::Flags,
        Cli | Sti | Int | Int1 | Int3 | Into | Iret | Iretd | Iretq => Family::Interrupt,
        Syscall | Sysret | Sysretq | Sysenter | Sysexit | Sysexitq | Swapgs => Family::SystemCall,
        Lds | Les | Lss | Lfs | Lgs => Family::SegmentMove,
        Lgdt | Lidt | Sgdt | Sidt | Lldt | Ltr | Sldt | Str | Lar | Lsl | Verr | Verw | Arpl => Family::Table,
        Aaa | Aas | Aam | Aad | Daa | Das | Salc | Bound => Family::Decimal,
        Smsw | Lmsw | Clts => Family::Control,
        Rdmsr | Wrmsr => Family::Msr,
        In | Out => Family::Io,
        Fxsave | Fxsave64 | Fxrstor | Fxrstor64 | Fnsave | Frstor | Fnstenv | Fldenv | Ldmxcsr | Stmxcsr => Family::Fpu,
        Maskmovdqu | Maskmovq => Family::MaskedMove,
        Cpuid | Rdtsc | Rdtscp | Rdpmc | Hlt | Invd | Wbinvd | Wbnoinvd | Invlpg | Clflush | Xlatb | Rdsspd
        | Rdsspq | Cldemote | Prefetchwt1 | Prefetchit0 | Prefetchit1 | Ud0 | Ud1 | Ud2 | Rsm | Monitor | Mwait => {
            Family::Miscellaneous
        }
        _ => return None,
    })
}

fn is_far(instruction: &Instruction) -> bool {
    instruction.is_call_far_indirect()
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far()
        || instruction.is_jmp_far()
}

fn mov_family(instruction: &Instruction) -> Option<Family> {
    use iced_x86::Code::*;
    match instruction.code() {
        Mov_r32_cr | Mov_r64_cr | Mov_cr_r32 | Mov_cr_r64 | Mov_r32_dr | Mov_r64_dr | Mov_dr_r32 | Mov_dr_r64 => {
            Some(Family::Control)
        }
        code => segment_moves::is_move(code).then_some(Family::SegmentMove),
    }
}

/// Segment registers and memory operands; registers and immediates are the translator's.
fn push_family(instruction: &Instruction) -> Option<Family> {
    if segment_moves::is_stack(instruction.code()) {
        return Some(Family::SegmentMove);
    }
    let in_memory = stack::size(instruction.code()).is_some() && operand::is_memory(instruction, 0);
    in_memory.then_some(Family::Stack)
}
