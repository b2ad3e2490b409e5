//! What makes the engine fast and could be left out: each can be turned off to find out which one a fault lies in.
//!
//! A guest never notices: registers, memory, counts and digests are bit for bit the same with any of them off. To add
//! one, add a line to the table below and ask [`Optimisations::has`] where it matters; the tests take it from there.

/// Names one bit of [`Optimisations`] a line, with the word for the command line and what it is.
macro_rules! optimisations {
    ($($variant:ident $name:literal $description:literal;)*) => {
        /// One thing that could be left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Optimisation {
            $(#[doc = $description] $variant,)*
        }

        impl Optimisation {
            /// All of them.
            pub const ALL: &[Optimisation] = &[$(Optimisation::$variant),*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Optimisation::$variant => $name),* }
            }

            /// What it is, on one line.
            pub fn description(self) -> &'static str {
                match self { $(Optimisation::$variant => $description),* }
            }
        }
    };
}

optimisations! {
    KeptBlocks "kept-blocks" "translated blocks are kept; without it every block is translated each time it runs";
    LongBlocks "long-blocks" "a block has many instructions; without it one";
    SideExits "side-exits" "a block goes on behind conditional jumps forward, and is left early where they are taken";
    Chaining "chaining" "jumps within a page lead from block to block once they have been taken";
    FallThrough "fall-through" "a block is put behind the one that leads there, which needs no jump then (nor is any without direct-dispatch)";
    MovableBlocks "movable-blocks" "code of programs is translated once for all addresses it is mapped at";
    FarLinks "far-links" "jumps to other pages lead to the block linked to them if that table says so";
    JumpCache "jump-cache" "indirect jumps and those to other pages find their block in a table";
    DirectDispatch "direct-dispatch" "a block that is not in the table is entered without going back to the dispatcher";
    InlineLookup "inline-lookup" "loads and stores find their page in a table; without it each walks the page tables";
    SystemLookup "system-lookup" "instructions executed in Rust use that table, too";
    FetchCache "fetch-cache" "the pages of instructions are remembered";
    SharedSpaces "shared-spaces" "a write to CR3 keeps what the new page tables share with the old ones";
    KnownWriters "known-writers" "when a page becomes code or a table, only the slots noted for it are looked at";
    TablesInPlace "tables-in-place" "stores to page tables that map data are made in the middle of a block";
    CodePieces "code-pieces" "stores beside code in one page are told from stores to code, by pieces of 64 bytes";
    QuickStrings "quick-strings" "string instructions work on whole spans of a page";
    InlineStrings "inline-strings" "REP MOVS and REP STOS within a page are the host's; without it Rust's";
    LoopChecks "loop-checks" "checks end in a LOOP that falls through, fast on AMD's; without it JRCXZ jumps over a JMP";
    GroupedLookup "grouped-lookup" "a block's accesses off one register are looked up together";
    QuickSystem "quick-system" "frequent system instructions (CLI, STI, PUSHF, SWAPGS) are translated, not left to Rust";
    DirectEntry "direct-entry" "what changes mode or privilege goes on in translated code without the dispatcher";
    LazyFpu "lazy-fpu" "x87 and SSE registers are loaded where a block needs them; without it always";
    StayInBlock "stay-in-block" "a block goes on behind an instruction that was executed in Rust";
}

/// Which of them are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optimisations(u32);

impl Default for Optimisations {
    /// Those that make code faster on this host.
    fn default() -> Optimisations {
        let all = Optimisations::all();
        if has_fast_loop() { all } else { all.without(Optimisation::LoopChecks) }
    }
}

/// Whether the host's LOOP costs no more than another jump: AMD's does, Intel's seven times as much (Agner Fog, Instruction
/// tables). SSE4A is what only AMD's processors have.
fn has_fast_loop() -> bool {
    std::arch::is_x86_feature_detected!("sse4a")
}

impl Optimisations {
    /// All are on.
    pub fn all() -> Optimisations {
        Optimisations(u32::MAX)
    }

    /// None is on.
    pub fn none() -> Optimisations {
        Optimisations(0)
    }

    /// The others, without this one.
    #[must_use]
    pub fn without(self, one: Optimisation) -> Optimisations {
        Optimisations(self.0 & !(1 << one as u32))
    }

    /// Whether one is on.
    #[inline]
    pub fn has(self, one: Optimisation) -> bool {
        self.0 & 1 << one as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bit_and_a_name_of_its_own() {
        assert!(Optimisation::ALL.len() <= 32);
        for &one in Optimisation::ALL {
            let others = Optimisations::all().without(one);
            let off: Vec<_> = Optimisation::ALL.iter().filter(|&&other| !others.has(other)).collect();
            assert_eq!(off, [&one]);
            let same = Optimisation::ALL.iter().filter(|other| other.name() == one.name());
            assert_eq!(same.count(), 1, "{}", one.name());
        }
    }
}
