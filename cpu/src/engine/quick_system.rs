//! System instructions that kernels execute all the time, as translated code: CLI, STI, CLD, PUSHFQ, SWAPGS at CPL 0 of
//! 64-bit mode. What is not as usual (another privilege, an interrupt that waits for the flag) is left to Rust.
//!
//! Nothing here may write a flag of the host, where the guest's are: bits are changed by rotations and PEXT/PDEP.

use super::builder::{Builder, host};
use super::cold::Cold;
use super::frame::{displacement, segment_base_displacement};
use crate::state::{rflags, segment};
use iced_x86::{Instruction, Mnemonic};

/// Number of a flag's bit.
const fn bit(flag: u64) -> u8 {
    flag.trailing_zeros() as u8
}

/// What PUSHF shows of the flags that are not arithmetic.
const SHOWN: u32 = (!(rflags::ARITHMETIC | rflags::RF | rflags::VM)) as u32;

impl Builder<'_> {
    /// Emits the instruction; false if it is none of these.
    pub fn quick_system(&mut self, instruction: &Instruction) -> bool {
        if self.alone || !self.mode.long() || self.mode.user() {
            return false;
        }
        match instruction.mnemonic() {
            Mnemonic::Cli => {
                self.require_privilege(instruction, false, |builder| builder.change_flag(bit(rflags::IF), false));
            }
            // The shadow is over when the next instruction is; without one here, it must be kept.
            Mnemonic::Sti if !self.is_last() => {
                self.require_privilege(instruction, true, |builder| builder.change_flag(bit(rflags::IF), true));
            }
            Mnemonic::Cld => self.change_flag(bit(rflags::DF), false),
            Mnemonic::Swapgs => self.require_privilege(instruction, false, Self::swap_gs),
            Mnemonic::Pushfq => {
                self.flags_image();
                self.store(host::RCX, displacement!(temporary));
                self.push_temporary(8);
            }
            _ => return false,
        }
        true
    }

    /// Leaves the instruction to Rust unless CPL is 0; with `window`, also if an interrupt waits for IF.
    fn require_privilege(&mut self, instruction: &Instruction, window: bool, operation: impl FnOnce(&mut Self)) {
        self.bytes(&[0x0f, 0xb6, 0x8c, 0x24]); // movzx ecx, byte [rsp+cpl]
        self.bytes(&displacement!(state.cpl).to_le_bytes());
        let waiting = window.then_some((host::R10, 1));
        if window {
            self.load(host::R10, displacement!(interrupt_waiting));
        }
        self.lea(host::RCX, Some(host::RCX), waiting, 1, true);
        let jump = self.unless_one();
        operation(self);
        let after = self.here();
        self.cold.push_back(Cold::System { index: self.index, jump, instruction: *instruction, after });
    }

    /// Sets or clears a bit of RFLAGS that is not arithmetic: rotates it to the top, shifts it out, another in.
    fn change_flag(&mut self, bit: u8, on: bool) {
        self.bytes(&[0x8b, 0x8c, 0x24]); // mov ecx, [rsp+rflags]
        self.bytes(&displacement!(state.rflags).to_le_bytes());
        self.bytes(&[0xc4, 0xe3, 0x7b, 0xf0, 0xc9, bit + 1]); // rorx ecx, ecx, bit+1
        self.lea(host::RCX, Some(host::RCX), Some((host::RCX, 1)), i32::from(on), false);
        self.bytes(&[0xc4, 0xe3, 0x7b, 0xf0, 0xc9, 32 - bit]); // rorx ecx, ecx, 32-bit
        self.store(host::RCX, displacement!(state.rflags));
    }

    /// RCX = RFLAGS as PUSHF shows them: the arithmetic ones are the host's.
    fn flags_image(&mut self) {
        self.bytes(&[0x9c, 0x59]); // pushfq; pop rcx
        self.mask_rcx(rflags::ARITHMETIC as u32);
        self.copy(host::R10, host::RCX);
        self.load(host::RCX, displacement!(state.rflags));
        self.mask_rcx(SHOWN);
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), 0, true);
    }

    /// ECX &= mask.
    fn mask_rcx(&mut self, mask: u32) {
        self.constant(host::R13, mask.into());
        self.bytes(&[0xc4, 0xc2, 0x72, 0xf5, 0xcd]); // pext ecx, ecx, r13d
        self.bytes(&[0xc4, 0xc2, 0x73, 0xf5, 0xcd]); // pdep ecx, ecx, r13d
    }

    fn swap_gs(&mut self) {
        let base = segment_base_displacement(segment::GS);
        self.load(host::RCX, base);
        self.load(host::R10, displacement!(state.kernel_gs_base));
        self.store(host::RCX, displacement!(state.kernel_gs_base));
        self.store(host::R10, base);
    }
}
