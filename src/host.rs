//! What this server is: its CPU, its build, its clock, its random numbers.

use std::arch::x86_64::__cpuid;
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use ftemu_lockstep::{Identity, PROTOCOL};

use crate::arguments::SideArguments;

/// Says what is missing if guests cannot run on this CPU.
///
/// # Errors
/// When they cannot.
pub fn check_cpu() -> Result<()> {
    let lacking: Vec<&str> = [
        ("BMI2", is_x86_feature_detected!("bmi2")),
        ("SSE4.2", is_x86_feature_detected!("sse4.2")),
        ("POPCNT", is_x86_feature_detected!("popcnt")),
        ("CMPXCHG16B", is_x86_feature_detected!("cmpxchg16b")),
    ]
    .into_iter()
    .filter_map(|(name, there)| (!there).then_some(name))
    .collect();
    if !lacking.is_empty() {
        bail!(
            "this CPU ({}) lacks {}; ftemu needs an x86-64 CPU of 2013 or later (if this is a virtual machine, let it see \
             the host's CPU: -cpu host)",
            cpu().0,
            lacking.join(", ")
        );
    }
    Ok(())
}

/// This server as its peer must know it, but for the guest's drives.
///
/// # Errors
/// When the running program cannot be read.
pub fn identity() -> Result<Identity> {
    let (cpu_vendor, cpu_family, cpu_model) = cpu();
    Ok(Identity { protocol: PROTOCOL, build: build()?, cpu_vendor, cpu_family, cpu_model, drives: Vec::new() })
}

/// The same, with what the user wants to pretend.
///
/// # Errors
/// As [`identity`].
pub fn identity_of_side(arguments: &SideArguments) -> Result<Identity> {
    let mut identity = identity()?;
    if let Some(build) = &arguments.pretend_build {
        identity.build.clone_from(build);
    }
    if let Some(vendor) = &arguments.pretend_cpu {
        identity.cpu_vendor.clone_from(vendor);
    }
    Ok(identity)
}

/// The version and a hash of the program itself: two builds may translate differently, so only equal ones pair.
fn build() -> Result<String> {
    let program = std::fs::read("/proc/self/exe").context("cannot read the running program to tell its build")?;
    let hash = blake3::hash(&program).to_hex();
    Ok(format!("{} ({})", env!("CARGO_PKG_VERSION"), &hash[..12]))
}

/// Vendor, family and model from CPUID leaves 0 and 1 (Intel SDM volume 2, CPUID).
fn cpu() -> (String, u32, u32) {
    let leaf = __cpuid(0);
    let vendor: Vec<u8> = [leaf.ebx, leaf.edx, leaf.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
    let version = __cpuid(1).eax;
    let (base, extended) = (version >> 8 & 0xf, version >> 20 & 0xff);
    let family = if base == 0xf { base + extended } else { base };
    let model = (version >> 4 & 0xf) | (version >> 16 & 0xf) << 4;
    (String::from_utf8_lossy(&vendor).into_owned(), family, model)
}

/// The name of this machine, or a word in its place.
pub fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "server".into() } else { name.into() }
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds of a steady clock; it runs on while the process is stopped.
pub fn now_ns() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The instant of a time from [`now_ns`].
pub fn instant(ns: u64) -> Instant {
    *START + std::time::Duration::from_nanos(ns)
}

/// Nanoseconds since 1970, for people and for comparing the logs of two servers.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A number nobody has had before.
///
/// # Errors
/// When the system gives none.
pub fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let got = got.context("the system gives no random numbers")?;
    anyhow::ensure!(got == bytes.len(), "the system gives no random numbers");
    Ok(u64::from_le_bytes(bytes))
}
