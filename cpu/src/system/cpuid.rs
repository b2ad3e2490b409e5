//! The one CPU model every guest sees, on every host (APM vol. 3 appendix E).
//!
//! It offers what the translator executes, x86-64-v2, and says what is true of it about speculation: there is none,
//! so kernels need not work around any. Family 1Ah is this vendor's newest; its parts need the fewest mitigations.

use crate::execution::Execution;
use crate::paging::PHYSICAL_BITS;
use crate::state::gpr::{RAX, RBX, RCX, RDX};
use iced_x86::Code::{Reservednop_rm16_r16_0F0D, Reservednop_rm32_r32_0F0D, Reservednop_rm64_r64_0F0D};
use iced_x86::{CpuidFeature, Instruction, Mnemonic};

/// EAX, EBX, ECX, EDX.
pub type Leaf = [u32; 4];

const MAX_BASIC: u32 = 7;
const MAX_HYPERVISOR: u32 = 0x4000_0010;
const MAX_EXTENDED: u32 = 0x8000_0021;
/// Family 1Ah (0Fh + 0Bh), model 2, stepping 1.
const SIGNATURE: u32 = 0x00b0_0f21;
const VENDOR: &[u8; 12] = b"AuthenticAMD";
const HYPERVISOR: &[u8; 12] = b"ftemuftemu  ";
const BRAND: &[u8; 48] = b"ftemu Virtual CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const TSC_KHZ: u32 = 1_000_000;
/// A cache line, in bytes.
const LINE: u32 = 64;

const fn bits(positions: &[u32]) -> u32 {
    let mut value = 0;
    let mut index = 0;
    while index < positions.len() {
        value |= 1 << positions[index];
        index += 1;
    }
    value
}

/// FPU DE PSE TSC MSR PAE MCE CX8 APIC MTRR PGE MCA CMOV PAT PSE36 MMX FXSR: also in leaf 8000_0001h.
const SHARED_EDX: u32 = bits(&[0, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 23, 24]);
/// SEP CLFSH SSE SSE2.
const BASIC_EDX: u32 = SHARED_EDX | bits(&[11, 19, 25, 26]);
/// SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT, running under a hypervisor.
const BASIC_ECX: u32 = bits(&[0, 9, 13, 19, 20, 23, 31]);
/// SYSCALL NX MMXEXT 1-GiB pages RDTSCP LM.
const EXTENDED_EDX: u32 = SHARED_EDX | bits(&[11, 20, 22, 26, 27, 29]);
/// LAHF and SAHF in 64-bit mode.
const EXTENDED_ECX: u32 = bits(&[0]);
/// Not subject to speculative store bypass (26) nor branch type confusion (29).
const SPECULATION_EBX: u32 = bits(&[26, 29]);
/// LFENCE serializes (2), null selectors clear the base (6), automatic IBRS (8), not subject to SRSO (29).
const EXTENDED_FEATURES_2: u32 = bits(&[2, 6, 8, 29]);
/// Not subject to transient scheduler attacks.
const EXTENDED_FEATURES_2_ECX: u32 = bits(&[1, 2]);

/// The model's answer. Leaves it does not have are zero.
pub fn leaf(number: u32) -> Leaf {
    match number {
        0 => vendor(MAX_BASIC, VENDOR),
        1 => [SIGNATURE, ((LINE / 8) << 8) | (1 << 16), BASIC_ECX, BASIC_EDX],
        // The local APIC timer runs in every idle state.
        6 => [bits(&[2]), 0, 0, 0],
        0x4000_0000 => hypervisor(),
        0x4000_0010 => [TSC_KHZ, 0, 0, 0],
        0x8000_0000 => vendor(MAX_EXTENDED, VENDOR),
        0x8000_0001 => [SIGNATURE, 0, EXTENDED_ECX, EXTENDED_EDX],
        0x8000_0002..=0x8000_0004 => brand((number - 0x8000_0002) as usize),
        // 64-entry TLBs, 32 KiB 8-way first-level caches.
        0x8000_0005 => {
            [0xff40_ff40, 0xff40_ff40, 32 << 24 | 8 << 16 | 1 << 8 | LINE, 32 << 24 | 8 << 16 | 1 << 8 | LINE]
        }
        // 512-entry 4-way second-level TLBs, a 1 MiB 8-way second-level cache, no third.
        0x8000_0006 => [0x4200_4200, 0x4200_4200, 1024 << 16 | 6 << 12 | 1 << 8 | LINE, 0],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, bits(&[8])],
        0x8000_0008 => [48 << 8 | PHYSICAL_BITS, SPECULATION_EBX, 0, 0],
        0x8000_0021 => [EXTENDED_FEATURES_2, 0, EXTENDED_FEATURES_2_ECX, 0],
        _ => [0; 4],
    }
}

/// EBX, EDX, ECX in this order spell the vendor.
fn vendor(maximum: u32, name: &[u8; 12]) -> Leaf {
    [maximum, word(name, 0), word(name, 8), word(name, 4)]
}

/// EBX, ECX, EDX spell a hypervisor.
fn hypervisor() -> Leaf {
    [MAX_HYPERVISOR, word(HYPERVISOR, 0), word(HYPERVISOR, 4), word(HYPERVISOR, 8)]
}

fn brand(part: usize) -> Leaf {
    [0, 4, 8, 12].map(|offset| word(BRAND, 16 * part + offset))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Executes CPUID.
pub fn execute(x: &mut Execution) {
    let leaf = leaf(x.state.gpr[RAX] as u32);
    for (register, value) in [RAX, RBX, RCX, RDX].into_iter().zip(leaf) {
        x.state.gpr[register] = u64::from(value);
    }
}

/// Whether the model has every feature an instruction needs; otherwise it is #UD. Hints of later parts that run as
/// NOPs on the model are accepted.
pub fn accepts(instruction: &Instruction) -> bool {
    // Prefetches of registers.
    if matches!(instruction.code(), Reservednop_rm16_r16_0F0D | Reservednop_rm32_r32_0F0D | Reservednop_rm64_r64_0F0D) {
        return false;
    }
    is_hint(instruction.mnemonic()) || instruction.cpuid_features().iter().all(|&feature| has(feature))
}

/// ENDBR, RDSSP, CLDEMOTE and prefetches are NOPs where their features are missing; WBNOINVD is WBINVD.
fn is_hint(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        mnemonic,
        Endbr32
            | Endbr64
            | Rdsspd
            | Rdsspq
            | Cldemote
            | Wbnoinvd
            | Prefetch
            | Prefetchw
            | Prefetchwt1
            | Prefetchit0
            | Prefetchit1
    )
}

fn has(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(
        feature,
        INTEL8086
            | INTEL186
            | INTEL286
            | INTEL386
            | INTEL486
            | X64
            | FPU
            | FPU287
            | FPU387
            | MMX
            | SSE
            | SSE2
            | SSE3
            | SSSE3
            | SSE4_1
            | SSE4_2
            | CMOV
            | CPUID
            | CX8
            | CMPXCHG16B
            | CLFSH
            | FXSR
            | SMM
            | MSR
            | MULTIBYTENOP
            | PAUSE
            | POPCNT
            | RDPMC
            | RDTSCP
            | SEP
            | SYSCALL
            | TSC
    )
}
