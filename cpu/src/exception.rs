//! Exceptions by their vector and mnemonic (APM vol. 2 §8.2).

/// A fault or trap that an instruction raised. Nothing of the instruction has taken effect when it is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code, for the vectors that push one.
    pub error: Option<u32>,
    /// The faulting linear address; goes to CR2 (page faults only).
    pub address: Option<u64>,
}

macro_rules! exceptions {
    ($($(#[$doc:meta])* $name:ident = $vector:expr, $code:tt;)*) => {
        impl Exception { $(exceptions!(@one $(#[$doc])* $name $vector $code);)* }
    };
    (@one $(#[$doc:meta])* $name:ident $vector:literal none) => {
        $(#[$doc])* pub const fn $name() -> Self { Exception { vector: $vector, error: None, address: None } }
    };
    (@one $(#[$doc:meta])* $name:ident $vector:literal code) => {
        $(#[$doc])* pub const fn $name(error: u32) -> Self { Exception { vector: $vector, error: Some(error), address: None } }
    };
}

exceptions! {
    /// #DE, divide error.
    divide_error = 0, none;
    /// #DB, debug.
    debug = 1, none;
    /// #BP, breakpoint (INT3).
    breakpoint = 3, none;
    /// #OF, overflow (INTO).
    overflow = 4, none;
    /// #BR, BOUND range exceeded.
    bound_range = 5, none;
    /// #UD, invalid opcode.
    invalid_opcode = 6, none;
    /// #NM, device not available.
    device_not_available = 7, none;
    /// #TS, invalid TSS.
    invalid_tss = 10, code;
    /// #NP, segment not present.
    segment_not_present = 11, code;
    /// #SS, stack.
    stack = 12, code;
    /// #GP, general protection.
    general_protection = 13, code;
    /// #MF, x87 floating point.
    x87_floating_point = 16, none;
    /// #AC, alignment check.
    alignment_check = 17, code;
    /// #XF, SIMD floating point.
    simd_floating_point = 19, none;
}

impl Exception {
    /// #PF: `error` as pushed (P 0, W 1, U 2, RSV 3, I 4), `address` for CR2.
    pub const fn page_fault(error: u32, address: u64) -> Self {
        Exception { vector: 14, error: Some(error), address: Some(address) }
    }
}
