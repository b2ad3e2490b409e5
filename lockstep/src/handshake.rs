//! What two servers must have in common before a byte of a guest is shared.

use crate::wire::{Bad, Reader, put_number, put_text};
use ftemu_devices::storage::SECTOR_BYTES;

/// The version of messages and records. Any change of meaning raises it.
pub const PROTOCOL: u32 = 2;

/// A server as its peer must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The program's version and build. Two builds may translate differently, so they never pair.
    pub build: String,
    /// CPUID leaf 0.
    pub cpu_vendor: String,
    /// CPUID leaf 1, base and extended family together.
    pub cpu_family: u32,
    /// CPUID leaf 1, base and extended model together.
    pub cpu_model: u32,
    /// Sizes of the guest's drives in sectors of 512 bytes; of a standby: of its copies.
    pub drives: Vec<u64>,
}

/// Why two servers cannot pair, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another protocol.
    #[error("the peer speaks protocol {theirs}, this side {ours}: install the same ftemu on both servers")]
    Protocol {
        /// This side's.
        ours: u32,
        /// The peer's.
        theirs: u32,
    },
    /// Another build.
    #[error("the peer runs ftemu {theirs}, this side {ours}: install the same build on both servers")]
    Build {
        /// This side's.
        ours: String,
        /// The peer's.
        theirs: String,
    },
    /// Another kind of CPU.
    #[error(
        "the peer's CPU is {theirs}, this one is {ours}: undefined results may differ, so use servers of one CPU kind"
    )]
    Cpu {
        /// This side's.
        ours: String,
        /// The peer's.
        theirs: String,
    },
    /// Other drives.
    #[error(
        "the peer has {theirs}, this side {ours}: give both sides copies of the same images, in the same order (ftemu run          DISK ..., ftemu standby DISK ...)"
    )]
    Drives {
        /// This side's.
        ours: String,
        /// The peer's.
        theirs: String,
    },
}

impl Identity {
    /// Checks a peer.
    ///
    /// # Errors
    /// The first thing that differs, in an order that helps: a different protocol explains the rest.
    pub fn check(&self, peer: &Identity) -> Result<(), Mismatch> {
        let Identity { protocol, build, cpu_vendor, cpu_family, cpu_model, drives } = self;
        if *protocol != peer.protocol {
            return Err(Mismatch::Protocol { ours: *protocol, theirs: peer.protocol });
        }
        if *build != peer.build {
            return Err(Mismatch::Build { ours: build.clone(), theirs: peer.build.clone() });
        }
        if (cpu_vendor, cpu_family, cpu_model) != (&peer.cpu_vendor, &peer.cpu_family, &peer.cpu_model) {
            return Err(Mismatch::Cpu { ours: self.cpu(), theirs: peer.cpu() });
        }
        if *drives != peer.drives {
            return Err(Mismatch::Drives { ours: self.drives(), theirs: peer.drives() });
        }
        Ok(())
    }

    /// The drives in words.
    pub fn drives(&self) -> String {
        match &self.drives[..] {
            [] => "no drive".into(),
            [one] => format!("a drive of {} bytes", one.saturating_mul(SECTOR_BYTES)),
            more => {
                let sizes = more.iter().map(|sectors| sectors.saturating_mul(SECTOR_BYTES).to_string());
                format!("drives of {} bytes", sizes.collect::<Vec<String>>().join(", "))
            }
        }
    }

    /// The CPU in words.
    pub fn cpu(&self) -> String {
        format!("{} family {:#x} model {:#x}", self.cpu_vendor, self.cpu_family, self.cpu_model)
    }

    /// Appends the encoding. The protocol comes first, for that a peer of any version can read.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Identity { protocol, build, cpu_vendor, cpu_family, cpu_model, drives } = self;
        put_number(out, u64::from(*protocol));
        put_text(out, build);
        put_text(out, cpu_vendor);
        put_number(out, u64::from(*cpu_family));
        put_number(out, u64::from(*cpu_model));
        put_number(out, drives.len() as u64);
        drives.iter().for_each(|sectors| put_number(out, *sectors));
    }

    /// Reads what [`Identity::encode`] wrote.
    ///
    /// # Errors
    /// Cut short.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Identity {
            protocol: reader.number32()?,
            build: reader.text()?,
            cpu_vendor: reader.text()?,
            cpu_family: reader.number32()?,
            cpu_model: reader.number32()?,
            drives: drives(reader)?,
        })
    }
}

fn drives(reader: &mut Reader<'_>) -> Result<Vec<u64>, Bad> {
    let count = reader.number()?;
    if count > 256 {
        return Err(reader.bad("too many drives"));
    }
    (0..count).map(|_| reader.number()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Identity {
        Identity {
            protocol: PROTOCOL,
            build: "0.1.0 abc".into(),
            cpu_vendor: "AuthenticAMD".into(),
            cpu_family: 0x19,
            cpu_model: 0x21,
            drives: vec![2048],
        }
    }

    #[test]
    fn every_difference_is_named_with_both_sides() {
        let ours = example();
        assert_eq!(ours.check(&ours), Ok(()));
        let theirs = Identity { protocol: 9, ..example() };
        assert_eq!(ours.check(&theirs), Err(Mismatch::Protocol { ours: PROTOCOL, theirs: 9 }));
        let theirs = Identity { build: "0.2.0".into(), ..example() };
        assert!(ours.check(&theirs).unwrap_err().to_string().contains("ftemu 0.2.0"));
        for theirs in [
            Identity { cpu_vendor: "GenuineIntel".into(), ..example() },
            Identity { cpu_family: 6, ..example() },
            Identity { cpu_model: 1, ..example() },
        ] {
            let error = ours.check(&theirs).unwrap_err().to_string();
            assert!(error.contains(&theirs.cpu()) && error.contains(&ours.cpu()), "{error}");
        }
    }
}
