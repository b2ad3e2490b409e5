//! The gigabit PHY inside of the 82540EM, an M88E1011 to software (manual §13.4.3 and table 13-5; IEEE 802.3 clause 22).
//! Its partner offers everything and pauses; autonegotiation takes a little virtual time, so that drivers see the link
//! come up.

use crate::state::saved;

/// Registers.
const PCTRL: usize = 0;
const PSTATUS: usize = 1;
const PHY_ID1: usize = 2;
const PHY_ID2: usize = 3;
const ANA: usize = 4;
const ANE: usize = 6;
const GCON: usize = 9;
const GSTATUS: usize = 10;
const ESTATUS: usize = 15;
const PSCON: usize = 16;
const PSSTAT: usize = 17;
const EPSCON: usize = 20;

const PCTRL_RESET: u16 = 1 << 15;
const PCTRL_LOOPBACK: u16 = 1 << 14;
const PCTRL_SPEED_LOW: u16 = 1 << 13;
const PCTRL_AUTONEGOTIATE: u16 = 1 << 12;
const PCTRL_POWER_DOWN: u16 = 1 << 11;
const PCTRL_RESTART: u16 = 1 << 9;
const PCTRL_DUPLEX: u16 = 1 << 8;
const PCTRL_SPEED_HIGH: u16 = 1 << 6;
const PSTATUS_LINK: u16 = 1 << 2;
const PSTATUS_COMPLETE: u16 = 1 << 5;

/// How long autonegotiation takes.
const NEGOTIATION_NS: u64 = 10_000_000;

/// MDIC (manual §13.4.3).
const MDIC_OP_WRITE: u32 = 1 << 26;
const MDIC_OP_READ: u32 = 2 << 26;
const MDIC_READY: u32 = 1 << 28;
const MDIC_INTERRUPT: u32 = 1 << 29;
const MDIC_ERROR: u32 = 1 << 30;

/// The PHY and the register that reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phy {
    registers: [u16; 32],
    cable: bool,
    /// When autonegotiation is done, while it runs.
    negotiating: Option<u64>,
    mdic: u32,
}
saved!(Phy { registers, cable, negotiating, mdic });

impl Default for Phy {
    fn default() -> Phy {
        let mut phy = Phy { registers: [0; 32], cable: true, negotiating: None, mdic: MDIC_READY };
        phy.set_defaults();
        phy
    }
}

impl Phy {
    fn set_defaults(&mut self) {
        self.registers = [0; 32];
        let defaults = [
            (PCTRL, PCTRL_AUTONEGOTIATE | PCTRL_DUPLEX | PCTRL_SPEED_HIGH),
            (PHY_ID1, 0x0141),
            (PHY_ID2, 0x0c20),
            (ANA, 0x0de1),
            (ANE, 0x000d),
            (GCON, 0x0e00),
            (ESTATUS, 0x3000),
            (PSCON, 0x0068),
            (EPSCON, 0x0d60),
        ];
        defaults.into_iter().for_each(|(register, value)| self.registers[register] = value);
    }

    /// A hardware or software reset at `now_ns`.
    pub fn reset(&mut self, now_ns: u64) {
        self.set_defaults();
        self.negotiating = Some(now_ns.saturating_add(NEGOTIATION_NS));
    }

    /// The cable is plugged in or pulled.
    pub fn set_cable(&mut self, plugged: bool, now_ns: u64) {
        if plugged && !self.cable {
            self.negotiating = Some(now_ns.saturating_add(NEGOTIATION_NS));
        }
        self.cable = plugged;
    }

    /// The cable is plugged in.
    pub fn cable(&self) -> bool {
        self.cable
    }

    fn negotiates(&self) -> bool {
        self.registers[PCTRL] & PCTRL_AUTONEGOTIATE != 0
    }

    /// The link is up.
    pub fn link(&self) -> bool {
        let settled = !self.negotiates() || self.negotiating.is_none();
        self.cable && settled && self.registers[PCTRL] & PCTRL_POWER_DOWN == 0
    }

    /// What is sent comes back.
    pub fn loops(&self) -> bool {
        self.registers[PCTRL] & PCTRL_LOOPBACK != 0
    }

    /// 0: 10, 1: 100, 2: 1000 Mbit/s; and full duplex.
    pub fn speed(&self) -> (u16, bool) {
        let control = self.registers[PCTRL];
        match (self.negotiates(), control & PCTRL_SPEED_HIGH != 0, control & PCTRL_SPEED_LOW != 0) {
            (true, ..) => (2, true),
            (false, true, _) => (2, control & PCTRL_DUPLEX != 0),
            (false, false, low) => (u16::from(low), control & PCTRL_DUPLEX != 0),
        }
    }

    /// When autonegotiation is done.
    pub fn deadline(&self) -> Option<u64> {
        self.negotiating
    }

    /// Lets time pass.
    pub fn tick(&mut self, now_ns: u64) {
        self.negotiating = self.negotiating.filter(|due| *due > now_ns);
    }

    fn read(&self, register: usize) -> u16 {
        let link = self.link();
        let (speed, duplex) = self.speed();
        match register {
            PSTATUS => {
                let complete = if link && self.negotiates() { PSTATUS_COMPLETE } else { 0 };
                0x7949 | complete | if link { PSTATUS_LINK } else { 0 }
            }
            // The partner's abilities: all of 10 and 100 Mbit/s, symmetric pause, acknowledged; then gigabit.
            5 if link && self.negotiates() => 0x45e1,
            GSTATUS if link && self.negotiates() => 0x3c00,
            PSSTAT => {
                let resolved = if link { 0x0c00 } else { 0 };
                speed << 14 | u16::from(duplex) << 13 | resolved
            }
            _ => self.registers[register],
        }
    }

    fn write(&mut self, register: usize, value: u16, now_ns: u64) {
        match register {
            PCTRL if value & PCTRL_RESET != 0 => self.reset(now_ns),
            PCTRL => {
                let turned_on = !self.negotiates() && value & PCTRL_AUTONEGOTIATE != 0;
                self.registers[PCTRL] = value & !PCTRL_RESTART;
                if turned_on || self.negotiates() && value & PCTRL_RESTART != 0 {
                    self.negotiating = Some(now_ns.saturating_add(NEGOTIATION_NS));
                }
            }
            PSTATUS | PHY_ID1 | PHY_ID2 | 5 | ANE | GSTATUS | ESTATUS | PSSTAT => {}
            _ => self.registers[register] = value,
        }
    }

    /// MDIC.
    pub fn mdic(&self) -> u32 {
        self.mdic
    }

    /// Carries out what is written to MDIC; true if its end shall interrupt.
    pub fn set_mdic(&mut self, value: u32, now_ns: u64) -> bool {
        let register = (value >> 16 & 0x1f) as usize;
        self.mdic = value & 0x3fff_ffff | MDIC_READY;
        match (value >> 21 & 0x1f, value & (3 << 26)) {
            (1, MDIC_OP_READ) => self.mdic = self.mdic & !0xffff | u32::from(self.read(register)),
            (1, MDIC_OP_WRITE) => self.write(register, value as u16, now_ns),
            _ => self.mdic |= MDIC_ERROR,
        }
        value & MDIC_INTERRUPT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(phy: &mut Phy, register: u32) -> u16 {
        phy.set_mdic(MDIC_OP_READ | 1 << 21 | register << 16, 0);
        assert_ne!(phy.mdic() & MDIC_READY, 0);
        phy.mdic() as u16
    }

    #[test]
    fn a_restarted_negotiation_takes_the_link_down_for_a_while() {
        let mut phy = Phy::default();
        assert_eq!((read(&mut phy, 2), read(&mut phy, 3)), (0x0141, 0x0c20));
        assert_eq!(read(&mut phy, 1), 0x796d);
        phy.set_mdic(MDIC_OP_WRITE | 1 << 21 | 0x1340, 5);
        assert!(!phy.link());
        assert_eq!(read(&mut phy, 1) & PSTATUS_LINK, 0);
        let due = phy.deadline().expect("negotiation ends");
        phy.tick(due - 1);
        assert!(!phy.link());
        phy.tick(due);
        assert!(phy.link());
        assert_eq!(read(&mut phy, 17) & 0xac00, 0xac00, "1000 Mbit/s, full duplex, resolved, link");
        phy.set_cable(false, due);
        assert_eq!(read(&mut phy, 5), 0);
    }

    #[test]
    fn other_addresses_have_no_phy() {
        let mut phy = Phy::default();
        phy.set_mdic(MDIC_OP_READ | 2 << 21, 0);
        assert_ne!(phy.mdic() & MDIC_ERROR, 0);
    }
}
