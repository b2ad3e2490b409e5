//! The guest of the network tests: the catalogue's Debian kernel and busybox with a script of its own as PID 1, which
//! serves what `init.sh` says.
#![allow(dead_code)] // each test file uses its part

pub mod http;
pub mod running;
pub mod ssh;

use ftemu_images::catalogue::Card;
use ftemu_images::initramfs::Initramfs;
use ftemu_images::{Catalogue, Guest, debian};

use crate::namespaces::{GUEST, pattern};

/// The model that `--nic` names, and the card for which the guest has a driver.
pub const CARDS: [(&str, Card); 2] = [("virtio", Card::Virtio), ("e1000", Card::E1000)];

/// Bytes of the file that the guest sends again and again: the beginning of the pattern.
pub const PATTERN_BYTES: u64 = 1 << 20;

/// Ports of the guest.
pub mod port {
    pub const ECHO: u16 = 7;
    pub const SUM: u16 = 9;
    pub const SOURCE: u16 = 19;
    pub const SSH: u16 = 22;
    pub const FETCH: u16 = 80;
}

/// Where an ssh server and its libraries are: the package, the file, and its place in the guest.
const SSH_SERVER: [(&str, &str, &str); 8] = [
    ("dropbear-bin", "sbin/dropbear", "bin/dropbear"),
    ("libc6", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
    ("libc6", "lib/x86_64-linux-gnu/libc.so.6", "lib/libc.so.6"),
    ("libtomcrypt1", "lib/x86_64-linux-gnu/libtomcrypt.so.1", "lib/libtomcrypt.so.1"),
    ("libtommath1", "lib/x86_64-linux-gnu/libtommath.so.1", "lib/libtommath.so.1"),
    ("libgmp10", "lib/x86_64-linux-gnu/libgmp.so.10", "lib/libgmp.so.10"),
    ("zlib1g", "lib/x86_64-linux-gnu/libz.so.1", "lib/libz.so.1"),
    ("libcrypt1", "lib/x86_64-linux-gnu/libcrypt.so.1", "lib/libcrypt.so.1"),
];

/// The guest with a driver for `card`, at the address [`GUEST`], or at the one that DHCP gives it.
pub fn guest(card: Card, dhcp: bool) -> Guest {
    let mode = debian::Mode::Echo { address: GUEST };
    let guest = catalogue().debian_with(card, mode, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    let address = if dhcp { "dhcp".to_owned() } else { format!("{GUEST}/24") };
    let mut more = Initramfs::new();
    more.program("init", include_bytes!("init.sh"));
    more.program("source", include_bytes!("source.sh"));
    more.program("fetch", include_bytes!("fetch.sh"));
    more.program("lease", include_bytes!("lease.sh"));
    more.program("pattern", &(0..PATTERN_BYTES).map(pattern).collect::<Vec<u8>>());
    let command_line = format!("console=ttyS0 panic=-1 ftemu.address={address}");
    Guest { command_line, ..guest }.with(more)
}

/// The same with an ssh server that lets the owner of a key in.
pub fn with_ssh(guest: Guest, public_key: &str) -> Guest {
    let mut more = Initramfs::new();
    for folder in ["lib", "lib64", "etc", "etc/dropbear", "root", "root/.ssh"] {
        more.directory(folder);
    }
    for (package, file, place) in SSH_SERVER {
        let bytes = catalogue().file_of(package, file, &mut |_| {});
        more.program(place, &bytes.unwrap_or_else(|error| panic!("{error}")));
    }
    more.program("root/.ssh/authorized_keys", public_key.as_bytes());
    guest.with(more)
}

fn catalogue() -> Catalogue {
    Catalogue::user().expect("a cache folder")
}

/// The kernel unpacks archives one after the other; later files replace earlier ones.
trait With {
    fn with(self, more: Initramfs) -> Self;
}

impl With for Guest {
    fn with(mut self, more: Initramfs) -> Self {
        self.initrd.get_or_insert_default().extend(more.finish());
        self
    }
}
