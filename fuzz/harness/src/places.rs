//! Where every chip is: its ports, its registers in memory, its number on the PCI bus. By these names fuzzers are started.

/// Ports, first and last.
type Ports = &'static [(u16, u16)];
/// Addresses in memory, first and last.
type Windows = &'static [(u64, u64)];

/// A chip.
#[derive(Debug)]
pub struct Chip {
    /// Its name, as in `scripts/fuzz NAME`.
    pub name: &'static str,
    /// Fixed ports.
    pub ports: Ports,
    /// Fixed addresses.
    pub windows: Windows,
    /// Device and function on the PCI bus; what is behind its base addresses belongs to it, too.
    pub slots: &'static [u8],
}

const NOWHERE: Windows = &[];
const NO_PORTS: Ports = &[];

/// The IDE function.
pub const IDE: u8 = 1 << 3 | 1;
const VGA: u8 = 2 << 3;
/// The 82540EM.
pub const E1000: u8 = 3 << 3;
// Cards in the order of the harness's configuration.
const VIRTIO_NETWORK: u8 = 4 << 3;
const VIRTIO_BLOCK: u8 = 5 << 3;
const VIRTIO_ENTROPY: u8 = 6 << 3;
const VIRTIO_CONSOLE: u8 = 7 << 3;

const fn isa(name: &'static str, ports: Ports) -> Chip {
    Chip { name, ports, windows: NOWHERE, slots: &[] }
}

const fn memory(name: &'static str, windows: Windows) -> Chip {
    Chip { name, ports: NO_PORTS, windows, slots: &[] }
}

const fn card(name: &'static str, slots: &'static [u8]) -> Chip {
    Chip { name, ports: NO_PORTS, windows: NOWHERE, slots }
}

/// All of them.
pub const CHIPS: &[Chip] = &[
    isa("8042", &[(0x60, 0x60), (0x64, 0x64)]),
    Chip {
        name: "vga",
        ports: &[(0x3b4, 0x3b5), (0x3ba, 0x3ba), (0x3c0, 0x3cf), (0x3d4, 0x3d5), (0x3da, 0x3da), (0x1ce, 0x1d0)],
        windows: &[(0xa_0000, 0xb_ffff)],
        slots: &[VGA],
    },
    Chip { name: "ide", ports: &[(0x1f0, 0x1f7), (0x3f6, 0x3f6)], windows: NOWHERE, slots: &[IDE] },
    Chip { name: "atapi", ports: &[(0x170, 0x177), (0x376, 0x376)], windows: NOWHERE, slots: &[IDE] },
    memory("hpet", &[(0xfed0_0000, 0xfed0_03ff)]),
    isa("pit", &[(0x40, 0x43), (0x61, 0x61)]),
    isa("pic", &[(0x20, 0x21), (0xa0, 0xa1), (0x4d0, 0x4d1)]),
    memory("io_apic", &[(0xfec0_0000, 0xfec0_004f)]),
    memory("local_apic", &[(0xfee0_0000, 0xfee0_03ff)]),
    isa("rtc", &[(0x70, 0x71)]),
    isa("uart", &[(0x3f8, 0x3ff), (0x2f8, 0x2ff)]),
    isa("power", &[(0x600, 0x605), (0x608, 0x60b)]),
    isa("fw_cfg", &[(0x510, 0x511), (0x514, 0x51b)]),
    Chip {
        name: "pci",
        ports: &[(0xcf8, 0xcfb), (0xcfc, 0xcff)],
        windows: NOWHERE,
        slots: &[0, 1 << 3, IDE, 1 << 3 | 3, VGA, E1000, VIRTIO_NETWORK, VIRTIO_BLOCK, VIRTIO_ENTROPY, VIRTIO_CONSOLE],
    },
    card("e1000", &[E1000]),
    card("virtio_network", &[VIRTIO_NETWORK]),
    card("virtio_block", &[VIRTIO_BLOCK]),
    card("virtio_entropy", &[VIRTIO_ENTROPY]),
    card("virtio_console", &[VIRTIO_CONSOLE]),
    isa("system", &[(0x80, 0x80), (0x92, 0x92), (0xb2, 0xb3), (0x402, 0x402)]),
];

/// The whole board.
pub const EVERYTHING: Chip = Chip {
    name: "board",
    ports: &[
        (0x20, 0x21),
        (0x40, 0x43),
        (0x60, 0x64),
        (0x70, 0x71),
        (0x80, 0xb3),
        (0x170, 0x1f7),
        (0x1ce, 0x1d0),
        (0x2f8, 0x3ff),
        (0x4d0, 0x51b),
        (0x600, 0x60b),
        (0xcf8, 0xcff),
        (0, 0xffff),
    ],
    windows: &[
        (0xa_0000, 0xb_ffff),
        (0xfec0_0000, 0xfec0_0fff),
        (0xfed0_0000, 0xfed0_03ff),
        (0xfee0_0000, 0xfee0_0fff),
    ],
    slots: &[VGA, IDE, E1000, VIRTIO_NETWORK, VIRTIO_BLOCK, VIRTIO_ENTROPY, VIRTIO_CONSOLE],
};
