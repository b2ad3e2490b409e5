//! What a disk shall be.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::BuildError;

/// The guest's architecture, by Debian's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit.
    Amd64,
    /// 32-bit.
    I386,
}

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// 64-bit, all drivers.
    Amd64,
    /// 64-bit, with what virtual machines have.
    Cloud,
    /// 32-bit without PAE.
    I686,
    /// 32-bit with PAE.
    I686Pae,
}

/// What a disk shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Debian's release, by its code name.
    pub release: String,
    /// The architecture.
    pub architecture: Architecture,
    /// The kernel.
    pub kernel: Kernel,
    /// More packages.
    pub include: Vec<String>,
    /// The disk's size in bytes.
    pub bytes: u64,
    /// The guest's name.
    pub hostname: String,
    /// The ordinary user.
    pub user: String,
    /// The password of the user and of root, at the console.
    pub password: String,
    /// Whether ssh accepts passwords.
    pub ssh_passwords: bool,
    /// A public key that both may log in with through ssh.
    pub ssh_key: Option<String>,
    /// Where packages come from, instead of where this machine's apt gets them.
    pub mirror: Option<String>,
}

impl Plan {
    /// Debian 12 with its usual kernel for an architecture; user and password are `debian`, at the console only.
    pub fn new(architecture: Architecture) -> Self {
        let kernel = match architecture {
            Architecture::Amd64 => Kernel::Amd64,
            Architecture::I386 => Kernel::I686Pae,
        };
        Self {
            release: "bookworm".to_owned(),
            architecture,
            kernel,
            include: Vec::new(),
            bytes: 4 << 30,
            hostname: "debian".to_owned(),
            user: "debian".to_owned(),
            password: "debian".to_owned(),
            ssh_passwords: false,
            ssh_key: None,
            mirror: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let wrong = |text: String| Err(BuildError::Plan(text));
        if self.kernel.architecture() != self.architecture {
            return wrong(format!("the kernel {} is not for {}", self.kernel, self.architecture));
        }
        if self.bytes < 1 << 30 || !self.bytes.is_multiple_of(1 << 20) {
            return wrong("the disk must have at least 1G, in whole MiB".to_owned());
        }
        let plain = |text: &str| {
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c);
            !text.is_empty() && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fine)
        };
        if let Some(name) = self.include.iter().find(|name| !plain(name)) {
            return wrong(format!("{name:?} is not a package's name"));
        }
        for (what, name) in [("host name", &self.hostname), ("user", &self.user), ("release", &self.release)] {
            if !plain(name) || name.len() > 63 {
                return wrong(format!("{name:?} cannot be a {what}"));
            }
        }
        let lines = [Some(&self.password), self.ssh_key.as_ref()];
        if lines.into_iter().flatten().any(|line| line.is_empty() || line.contains(['\n', '\0'])) {
            return wrong("a password and a key are one line each".to_owned());
        }
        Ok(())
    }

    /// The packages that the disk has besides the essential ones.
    pub(super) fn packages(&self) -> Vec<String> {
        let mut packages = vec![self.kernel.package().to_owned()];
        packages.extend(PACKAGES.iter().map(|name| (*name).to_owned()));
        packages.extend(self.include.iter().cloned());
        packages
    }

    /// An identity for something on the disk that is the same whenever the same plan is built.
    pub(super) fn uuid(&self, of: &str) -> String {
        let text = format!(
            "ftemu disk 1|{of}|{}|{}|{:?}|{}|{}",
            self.release, self.kernel, self.include, self.bytes, self.hostname
        );
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(text)[..16]);
        // RFC 9562 section 5.8: version 8, whose other bits are ours.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = crate::chain::hex(&bytes);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// What every disk has: an init, devices, the network, remote and local logins.
const PACKAGES: [&str; 17] = [
    "systemd-sysv",
    "udev",
    "dbus",
    "libpam-systemd",
    "systemd-resolved",
    "initramfs-tools",
    "zstd",
    "kmod",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "openssh-server",
    "ca-certificates",
    "procps",
    "sudo",
    "less",
    "vim-tiny",
];

impl Kernel {
    fn architecture(self) -> Architecture {
        match self {
            Self::Amd64 | Self::Cloud => Architecture::Amd64,
            Self::I686 | Self::I686Pae => Architecture::I386,
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Amd64 => "linux-image-amd64",
            Self::Cloud => "linux-image-cloud-amd64",
            Self::I686 => "linux-image-686",
            Self::I686Pae => "linux-image-686-pae",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::I386 => "i386",
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Cloud => "cloud",
            Self::I686 => "686",
            Self::I686Pae => "686-pae",
        })
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Amd64, Self::I386].into_iter().find(|one| one.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is neither amd64 nor i386"))
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Amd64, Self::Cloud, Self::I686, Self::I686Pae];
        let found = all.into_iter().find(|one| one.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is none of amd64, cloud, 686 and 686-pae"))
    }
}
