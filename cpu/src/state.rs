//! The architectural state of one CPU, in the manual's words (AMD64 APM vol. 2 §3, Intel SDM vol. 3 §2).
//!
//! Everything here is guest-visible and belongs to every checkpoint and digest; nothing here depends on the
//! host, on caches or on how execution was cut.

use crate::save::{Part, Saved, path};
use crate::saved;

/// Index of a general register in [`State::gpr`], in encoding order.
pub mod gpr {
    #![allow(missing_docs)]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R11: usize = 11;
}

/// Index of a segment register in [`State::segments`], in encoding order.
pub mod segment {
    #![allow(missing_docs)]
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
}

/// RFLAGS bits (APM vol. 1 §3.1.4).
pub mod rflags {
    #![allow(missing_docs)]
    pub const CF: u64 = 1 << 0;
    pub const FIXED: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
    /// The six flags that arithmetic writes; while translated code runs they live in the host's flags.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// Control register bits (APM vol. 2 §3.1).
pub mod control {
    #![allow(missing_docs)]
    pub const CR0_PE: u64 = 1 << 0;
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_EM: u64 = 1 << 2;
    pub const CR0_TS: u64 = 1 << 3;
    pub const CR0_ET: u64 = 1 << 4;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_AM: u64 = 1 << 18;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_TSD: u64 = 1 << 2;
    pub const CR4_DE: u64 = 1 << 3;
    pub const CR4_PSE: u64 = 1 << 4;
    pub const CR4_PAE: u64 = 1 << 5;
    pub const CR4_MCE: u64 = 1 << 6;
    pub const CR4_PGE: u64 = 1 << 7;
    pub const CR4_OSFXSR: u64 = 1 << 9;
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
}

/// One segment register with its hidden part (APM vol. 2 §4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Linear base address.
    pub base: u64,
    /// Byte limit, granularity already applied.
    pub limit: u32,
    /// Descriptor bits 40..56 as VMX and SVM keep them: type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D/B 10, G 11.
    pub attributes: u16,
    /// The visible selector.
    pub selector: u16,
}
saved!(Segment { base, limit, attributes, selector });

impl Segment {
    /// Attribute bit: present.
    pub const PRESENT: u16 = 1 << 7;
    /// Attribute bit: 64-bit code.
    pub const LONG: u16 = 1 << 9;
    /// Attribute bit: default size 32 bits.
    pub const BIG: u16 = 1 << 10;

    /// Descriptor privilege level, 0 to 3.
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5 & 3) as u8
    }

    /// The largest offset of the segment's size outside 64-bit mode: by D/B, 16 or 32 bits.
    pub fn offset_mask(&self) -> u64 {
        if self.attributes & Segment::BIG != 0 { 0xffff_ffff } else { 0xffff }
    }

    /// Data that grows down: valid offsets lie above the limit.
    pub fn expands_down(&self) -> bool {
        self.attributes & 0b1100 == 0b0100
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableRegister {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes, inclusive.
    pub limit: u16,
}
saved!(TableRegister { base, limit });

/// The 512-byte FXSAVE image (APM vol. 2 §11.4.4): x87, MXCSR and XMM0-15. FOP, FIP and FDP are always zero: they
/// would hold host addresses, and vendors disagree about them.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct FxArea(pub [u8; 512]);

impl Default for FxArea {
    fn default() -> Self {
        let mut area = [0; 512];
        area[0..2].copy_from_slice(&0x037f_u16.to_le_bytes());
        area[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        FxArea(area)
    }
}

impl Saved for FxArea {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        Saved::load(bytes).map(FxArea)
    }
    fn parts(&self, name: &str, out: &mut Vec<Part>) {
        let (x87, rest) = self.0.split_at(160);
        let (xmm, unused) = rest.as_chunks::<16>().0.split_at(16);
        out.push((path(name, "x87 and MXCSR"), x87.to_vec()));
        (0..).zip(xmm).for_each(|(number, register): (usize, _)| register.parts(&format!("xmm{number}"), out));
        out.push((path(name, "unused"), unused.as_flattened().to_vec()));
    }
}

/// All guest-visible registers of one CPU.
#[derive(Clone, PartialEq, Eq, Default)]
#[repr(C)]
pub struct State {
    /// RAX RCX RDX RBX RSP RBP RSI RDI R8-R15.
    pub gpr: [u64; 16],
    /// Offset within CS of the next instruction: RIP in 64-bit mode, otherwise EIP or IP, zero-extended.
    pub rip: u64,
    /// The complete RFLAGS; bit 1 always set.
    pub rflags: u64,
    /// ES CS SS DS FS GS. CS.attributes' DPL is not the CPL; see `cpl`.
    pub segments: [Segment; 6],
    /// LDTR.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR.
    pub idtr: TableRegister,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER, LMA included.
    pub efer: u64,
    /// STAR.
    pub star: u64,
    /// LSTAR.
    pub lstar: u64,
    /// CSTAR.
    pub cstar: u64,
    /// SFMASK.
    pub sfmask: u64,
    /// KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// SYSENTER_CS.
    pub sysenter_cs: u64,
    /// SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// TSC_AUX.
    pub tsc_aux: u64,
    /// What WRMSR added to the virtual TSC, modulo 2^64.
    pub tsc_offset: u64,
    /// PAT.
    pub pat: u64,
    /// MTRR_DEF_TYPE.
    pub mtrr_def_type: u64,
    /// MTRR physical base/mask pairs.
    pub mtrr_variable: [u64; 16],
    /// Fixed MTRRs in MSR number order.
    pub mtrr_fixed: [u64; 11],
    /// DR0-DR3, (unused 4, 5), DR6, DR7.
    pub dr: [u64; 8],
    /// x87, MXCSR, XMM. Inside translated code the host's registers are newer; every Rust function sees this one current.
    pub fx: FxArea,
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
    /// STI, MOV SS or POP SS just completed: no interrupt before the next instruction ends.
    pub interrupt_shadow: bool,
    /// HLT completed and nothing has woken the CPU yet.
    pub halted: bool,
    /// An NMI is being handled: no other until IRET.
    pub nmi_blocked: bool,
    /// The shadow, if there is one, is that of MOV SS or POP SS, which holds off #DB too.
    pub debug_shadow: bool,
    /// DR6 bits of debug traps that wait for the instruction to end, or for the shadow.
    pub debug_pending: u16,
    /// In system management mode.
    pub smm: bool,
    /// Where system management memory begins, less 8000h.
    pub smbase: u32,
}
saved!(State {
    gpr as ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
    rip,
    rflags,
    segments as ["es", "cs", "ss", "ds", "fs", "gs"],
    ldtr,
    tr,
    gdtr,
    idtr,
    cr0,
    cr2,
    cr3,
    cr4,
    efer,
    star,
    lstar,
    cstar,
    sfmask,
    kernel_gs_base,
    sysenter_cs,
    sysenter_esp,
    sysenter_eip,
    tsc_aux,
    tsc_offset,
    pat,
    mtrr_def_type,
    mtrr_variable,
    mtrr_fixed,
    dr,
    fx,
    debug_pending,
    smbase,
    cpl,
    interrupt_shadow,
    halted,
    nmi_blocked,
    debug_shadow,
    smm,
});

impl State {
    /// Whether long mode is active and CS selects 64-bit code.
    pub fn is_long(&self) -> bool {
        self.efer & control::EFER_LMA != 0 && self.segments[segment::CS].attributes & Segment::LONG != 0
    }

    /// Whether long mode is active: 64-bit mode or compatibility mode.
    pub fn is_long_active(&self) -> bool {
        self.efer & control::EFER_LMA != 0
    }

    /// Real mode.
    pub fn is_real(&self) -> bool {
        self.cr0 & control::CR0_PE == 0
    }

    /// Virtual-8086 mode.
    pub fn is_virtual_8086(&self) -> bool {
        !self.is_real() && self.rflags & rflags::VM != 0 && !self.is_long_active()
    }

    /// Whether selectors are paragraph numbers: real and virtual-8086 mode.
    pub fn has_paragraphs(&self) -> bool {
        self.is_real() || self.is_virtual_8086()
    }

    /// Bits of code in CS: 16, 32 or 64. What instructions are decoded as.
    pub fn code_bits(&self) -> u32 {
        match self.segments[segment::CS].attributes {
            _ if self.is_long() => 64,
            attributes if attributes & Segment::BIG != 0 => 32,
            _ => 16,
        }
    }

    /// Bits of rSP that the stack uses, as a mask: 16, 32 or 64.
    pub fn stack_mask(&self) -> u64 {
        if self.is_long() { u64::MAX } else { self.segments[segment::SS].offset_mask() }
    }

    /// Linear address of an offset in CS.
    pub fn code_address(&self, offset: u64) -> u64 {
        if self.is_long() { offset } else { self.segments[segment::CS].base.wrapping_add(offset) & 0xffff_ffff }
    }
}

#[cfg(test)]
mod tests;
