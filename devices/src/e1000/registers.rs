//! Register offsets and bits of the 82540EM by their names in Intel's PCI/PCI-X Family of Gigabit Ethernet Controllers
//! Software Developer's Manual, §13.

/// Device control.
pub const CTRL: u32 = 0x0000;
/// The same register, where the 82542 has it too.
pub const CTRL_DUP: u32 = 0x0004;
/// Device status.
pub const STATUS: u32 = 0x0008;
/// EEPROM and flash control.
pub const EECD: u32 = 0x0010;
/// EEPROM read.
pub const EERD: u32 = 0x0014;
/// Extended device control.
pub const CTRL_EXT: u32 = 0x0018;
/// Access to the PHY.
pub const MDIC: u32 = 0x0020;
/// Flow control address, type.
pub const FCAL: u32 = 0x0028;
pub const FCAH: u32 = 0x002c;
pub const FCT: u32 = 0x0030;
/// VLAN Ethernet type.
pub const VET: u32 = 0x0038;
/// Interrupts: cause (read clears), throttling, cause set, mask set, mask clear.
pub const ICR: u32 = 0x00c0;
pub const ITR: u32 = 0x00c4;
pub const ICS: u32 = 0x00c8;
pub const IMS: u32 = 0x00d0;
pub const IMC: u32 = 0x00d8;
/// Receive control.
pub const RCTL: u32 = 0x0100;
pub const FCTTV: u32 = 0x0170;
pub const TXCW: u32 = 0x0178;
pub const RXCW: u32 = 0x0180;
/// Transmit control.
pub const TCTL: u32 = 0x0400;
pub const TIPG: u32 = 0x0410;
pub const TBT: u32 = 0x0448;
pub const AIT: u32 = 0x0458;
pub const LEDCTL: u32 = 0x0e00;
/// How the packet buffer is divided: KiB for receiving in bits 15:0.
pub const PBA: u32 = 0x1000;
pub const FCRTL: u32 = 0x2160;
pub const FCRTH: u32 = 0x2168;
/// The receive ring: base, length, head, tail; then its delay timers.
pub const RDBAL: u32 = 0x2800;
pub const RDT: u32 = 0x2818;
pub const RDTR: u32 = 0x2820;
pub const RXDCTL: u32 = 0x2828;
pub const RADV: u32 = 0x282c;
pub const RSRPD: u32 = 0x2c00;
pub const TXDMAC: u32 = 0x3000;
/// The transmit ring, laid out as the receive ring.
pub const TDBAL: u32 = 0x3800;
pub const TDT: u32 = 0x3818;
pub const TIDV: u32 = 0x3820;
pub const TXDCTL: u32 = 0x3828;
pub const TADV: u32 = 0x382c;
pub const TSPMT: u32 = 0x3830;
/// Statistics, cleared when read.
pub const STATISTICS: std::ops::Range<u32> = 0x4000..0x4128;
/// Receive checksum control.
pub const RXCSUM: u32 = 0x5000;
/// Multicast table, receive addresses, VLAN filter table.
pub const MTA: std::ops::Range<u32> = 0x5200..0x5400;
pub const RAL: std::ops::Range<u32> = 0x5400..0x5480;
pub const VFTA: std::ops::Range<u32> = 0x5600..0x5800;
pub const WUC: u32 = 0x5800;
pub const WUFC: u32 = 0x5808;
pub const IPAV: u32 = 0x5838;
pub const MANC: u32 = 0x5820;

pub const CTRL_FD: u32 = 1 << 0;
pub const CTRL_RST: u32 = 1 << 26;
pub const CTRL_VME: u32 = 1 << 30;
pub const CTRL_PHY_RST: u32 = 1 << 31;

pub const STATUS_FD: u32 = 1 << 0;
pub const STATUS_LU: u32 = 1 << 1;
/// Speed in bits 7:6, and as detected in bits 9:8.
pub const STATUS_SPEED: u32 = 6;
pub const STATUS_ASDV: u32 = 8;

pub const ICR_TXDW: u32 = 1 << 0;
pub const ICR_TXQE: u32 = 1 << 1;
pub const ICR_LSC: u32 = 1 << 2;
pub const ICR_RXDMT0: u32 = 1 << 4;
pub const ICR_RXO: u32 = 1 << 6;
pub const ICR_RXT0: u32 = 1 << 7;
pub const ICR_MDAC: u32 = 1 << 9;
/// Every cause that the 82540EM has.
pub const CAUSES: u32 = 0x1_f6df;

pub const RCTL_EN: u32 = 1 << 1;
pub const RCTL_UPE: u32 = 1 << 3;
pub const RCTL_MPE: u32 = 1 << 4;
pub const RCTL_LPE: u32 = 1 << 5;
/// Loopback mode, bits 7:6.
pub const RCTL_LBM: u32 = 3 << 6;
pub const RCTL_BAM: u32 = 1 << 15;
pub const RCTL_VFE: u32 = 1 << 18;
pub const RCTL_CFIEN: u32 = 1 << 19;
pub const RCTL_CFI: u32 = 1 << 20;
pub const RCTL_BSEX: u32 = 1 << 25;
pub const RCTL_SECRC: u32 = 1 << 26;

pub const TCTL_EN: u32 = 1 << 1;

pub const RXCSUM_IPOFLD: u32 = 1 << 8;
pub const RXCSUM_TUOFLD: u32 = 1 << 9;

/// Registers that only keep what is written: offset, bits that can be written, value after reset.
pub const PLAIN: [(u32, u32, u32); 30] = [
    (CTRL_EXT, 0x00ff_ffff, 0),
    (FCAL, u32::MAX, 0),
    (FCAH, 0xffff, 0),
    (FCT, 0xffff, 0),
    (VET, 0xffff, 0x8100),
    (FCTTV, 0xffff, 0),
    (TXCW, 0xc000_ffff, 0),
    (RXCW, 0, 0),
    (TCTL, 0x03ff_fffa, 0),
    (TIPG, 0x3fff_ffff, 0),
    (TBT, 0xffff, 0),
    (AIT, 0xffff, 0),
    (LEDCTL, 0x0fcf_cfcf, 0x0706_8302),
    (PBA, 0xffff, 0x0010_0030),
    (FCRTL, 0x8000_fff8, 0),
    (FCRTH, 0xfff8, 0),
    (RXDCTL, 0x013f_3f3f, 0x0001_0000),
    (RSRPD, 0xfff, 0),
    (TXDMAC, 1, 0),
    (TXDCTL, 0xff3f_3f3f, 0),
    (TSPMT, u32::MAX, 0),
    (RXCSUM, 0x7ff, 0),
    (WUC, 0xf, 0),
    (WUFC, 0xf_80ff, 0),
    (IPAV, 0x1_000f, 0),
    (MANC, u32::MAX, 0),
    (0x2410, 0xffff, 0), // RDFH, RDFT: the receive FIFO's pointers, for diagnosis
    (0x2418, 0xffff, 0),
    (0x3410, 0xffff, 0), // TDFH, TDFT
    (0x3418, 0xffff, 0),
];

/// Where a register that the 82542 had elsewhere is now (§13.2.1).
pub fn modern(offset: u32) -> u32 {
    match offset {
        0x0040..=0x00bf => offset - 0x0040 + RAL.start,
        0x0108 => RDTR,
        0x0110..=0x0128 => offset - 0x0110 + RDBAL,
        0x0160 => FCRTH,
        0x0168 => FCRTL,
        0x0200..=0x03ff => offset - 0x0200 + MTA.start,
        0x0420..=0x0438 => offset - 0x0420 + TDBAL,
        0x0440 => TIDV,
        0x0600..=0x07ff => offset - 0x0600 + VFTA.start,
        CTRL_DUP => CTRL,
        _ => offset,
    }
}
