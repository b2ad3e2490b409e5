//! The 93C46 EEPROM: 64 words of 16 bits (manual §5), reached word by word through EERD, or bit by bit through EECD as a
//! Microwire device (§5.3; opcodes of the 93C46 data sheet).

use crate::state::saved;

/// EECD: clock, chip select, to the EEPROM, from it.
const SK: u32 = 1 << 0;
const CS: u32 = 1 << 1;
const DI: u32 = 1 << 2;
const DO: u32 = 1 << 3;
/// Flash write enable, bits 5:4; kept.
const FWE: u32 = 3 << 4;
/// Request, grant, present.
const REQ: u32 = 1 << 6;
const GNT: u32 = 1 << 7;
const PRES: u32 = 1 << 8;

const EERD_START: u32 = 1 << 0;
const EERD_DONE: u32 = 1 << 4;

/// All words together give this (§5.6.35).
const CHECKSUM: u16 = 0xbaba;
const CHECKSUM_WORD: usize = 0x3f;
/// Start bit, opcode, address.
const COMMAND_BITS: u8 = 9;

/// The chip and the controller's side of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eeprom {
    words: [u16; 64],
    /// EECD as software left it.
    pins: u32,
    output: bool,
    /// Bits shifted in since the start bit, and how many.
    shift: u32,
    bits: u8,
    /// A READ goes on: bits of the memory given so far, counted from word 0.
    reading: Option<u16>,
    writable: bool,
    eerd: u32,
}
saved!(Eeprom { words, pins, output, shift, bits, reading, writable, eerd });

impl Eeprom {
    /// The words of a PRO/1000 MT Desktop with this address (§5.6).
    pub fn new(mac: [u8; 6], device: u16, subsystem: u16) -> Eeprom {
        let mut words = [0xffff_u16; 64];
        for (word, pair) in words.iter_mut().zip(mac.chunks(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        // Compatibility, then no board number.
        words[0x03..0x0a].copy_from_slice(&[0; 7]);
        // Initialization control 1: valid, 32-bit base addresses, full duplex, loads the ids that follow.
        words[0x0a] = 0x6403;
        words[0x0b] = subsystem;
        words[0x0c] = 0x8086;
        words[0x0d] = device;
        words[0x0e] = 0x8086;
        // Initialization control 2: pause frames in both directions.
        words[0x0f] = 0x3000;
        words[CHECKSUM_WORD] = 0;
        let sum = words.iter().fold(0_u16, |sum, word| sum.wrapping_add(*word));
        words[CHECKSUM_WORD] = CHECKSUM.wrapping_sub(sum);
        Eeprom { words, pins: 0, output: true, shift: 0, bits: 0, reading: None, writable: false, eerd: 0 }
    }

    /// The Ethernet address in words 0 to 2.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c] = [self.words[0], self.words[1], self.words[2]].map(u16::to_le_bytes);
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }

    /// EERD: the last word that was asked for.
    pub fn eerd(&self) -> u32 {
        self.eerd
    }

    /// Reads a word into EERD.
    pub fn set_eerd(&mut self, value: u32) {
        let address = value >> 8 & 0xff;
        self.eerd = address << 8;
        if value & EERD_START != 0 {
            let word = self.words[(address & 0x3f) as usize];
            self.eerd |= u32::from(word) << 16 | EERD_DONE;
        }
    }

    /// EECD.
    pub fn eecd(&self) -> u32 {
        let grant = if self.pins & REQ != 0 { GNT } else { 0 };
        let output = if self.output { DO } else { 0 };
        self.pins | grant | output | PRES
    }

    /// Moves the pins.
    pub fn set_eecd(&mut self, value: u32) {
        let rising = value & SK != 0 && self.pins & SK == 0;
        self.pins = value & (SK | CS | DI | FWE | REQ);
        if value & CS == 0 {
            (self.shift, self.bits, self.reading, self.output) = (0, 0, None, true);
        } else if rising {
            self.clock(value & DI != 0);
        }
    }

    fn clock(&mut self, input: bool) {
        if let Some(position) = self.reading {
            let word = self.words[usize::from(position / 16) % 64];
            self.output = word >> (15 - position % 16) & 1 != 0;
            self.reading = Some((position + 1) % (64 * 16));
            return;
        }
        if self.bits == 0 && !input {
            return; // no start bit yet
        }
        self.shift = self.shift << 1 | u32::from(input);
        self.bits = self.bits.saturating_add(1);
        match self.bits {
            COMMAND_BITS => self.command(),
            25 => self.store(),
            _ => {}
        }
    }

    /// Start bit, opcode and address are in.
    fn command(&mut self) {
        let address = self.shift & 0x3f;
        match (self.shift >> 6 & 3, address >> 4) {
            (2, _) => {
                self.reading = Some(address as u16 * 16);
                self.output = false; // the dummy bit
            }
            (3, _) if self.writable => self.words[address as usize] = 0xffff,
            (0, 3) => self.writable = true,
            (0, 0) => self.writable = false,
            _ => {}
        }
    }

    /// So are 16 bits of data.
    fn store(&mut self) {
        let (opcode, address) = (self.shift >> 22 & 3, self.shift >> 16 & 0x3f);
        if opcode == 1 && self.writable {
            self.words[address as usize] = self.shift as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(eeprom: &mut Eeprom, value: u32, bits: u32) {
        for bit in (0..bits).rev() {
            let data = if value >> bit & 1 != 0 { DI } else { 0 };
            eeprom.set_eecd(REQ | CS | data);
            eeprom.set_eecd(REQ | CS | data | SK);
        }
        eeprom.set_eecd(REQ | CS);
    }

    fn receive(eeprom: &mut Eeprom) -> u16 {
        let bit = |word: u16, _| {
            eeprom.set_eecd(REQ | CS | SK);
            let bit = eeprom.eecd() & DO != 0;
            eeprom.set_eecd(REQ | CS);
            word << 1 | u16::from(bit)
        };
        (0..16).fold(0, bit)
    }

    fn example() -> Eeprom {
        Eeprom::new([0x52, 0x54, 0, 0x12, 0x34, 0x56], 0x100e, 0x001e)
    }

    #[test]
    fn both_ways_read_the_same_words_and_they_sum_to_baba() {
        let mut eeprom = example();
        let mut sum = 0_u16;
        for address in 0..64 {
            eeprom.set_eecd(REQ);
            assert_ne!(eeprom.eecd() & GNT, 0);
            send(&mut eeprom, 0b110 << 6 | address, 9);
            assert_eq!(eeprom.eecd() & DO, 0, "the dummy bit");
            let word = receive(&mut eeprom);
            eeprom.set_eecd(0);
            eeprom.set_eerd(address << 8 | EERD_START);
            assert_eq!(eeprom.eerd(), u32::from(word) << 16 | address << 8 | EERD_DONE);
            sum = sum.wrapping_add(word);
        }
        assert_eq!(sum, CHECKSUM);
        assert_eq!(eeprom.mac(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn writing_must_be_enabled() {
        let mut eeprom = example();
        let write = |eeprom: &mut Eeprom| {
            send(eeprom, 0b101 << 6 | 0x20, 9);
            send(eeprom, 0x1234, 16);
            eeprom.set_eecd(0);
        };
        write(&mut eeprom);
        assert_eq!(eeprom.words[0x20], 0xffff);
        send(&mut eeprom, 0b100_110000, 9);
        eeprom.set_eecd(0);
        write(&mut eeprom);
        assert_eq!(eeprom.words[0x20], 0x1234);
        eeprom.set_eecd(CS);
        assert_ne!(eeprom.eecd() & DO, 0, "ready");
    }
}
