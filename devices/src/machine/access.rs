//! Accesses that no instruction of the guest makes: a fuzzer's.

use super::Machine;
use crate::board::Board;
use ftemu_cpu::Memory;

impl Machine {
    /// The board and the memory that it is lent with every access ([`ftemu_cpu::Bus`]).
    pub fn bus(&mut self) -> (&mut Board, &mut Memory) {
        (&mut self.board, self.cpu.memory_mut())
    }
}
