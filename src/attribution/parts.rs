//! Which part of the program a function belongs to, by the modules in its mangled name.

/// What time is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Guest code as translated, with its inline lookups and jumps from block to block.
    Translated,
    /// Finding the next block.
    Dispatcher,
    /// Memory accesses that the inline lookup does not serve; walks; tracking of pages.
    Memory,
    /// Making translated code.
    Translation,
    /// Exceptions, interrupts, privileged instructions.
    System,
    /// Chips and the board.
    Devices,
    /// Digests of the guest's state.
    Hashing,
    /// Inputs, outputs, consoles, logs.
    Edge,
    /// Copying and allocating: the C library, and Rust's.
    Library,
    /// System calls of this program.
    Kernel,
}

/// Marks of modules in mangled names (a length and a name), the first that is found decides.
const MARKS: [(Part, &[&str]); 7] = [
    (Part::Hashing, &["blake3"]),
    (
        Part::Translation,
        &["8iced_x86", "9translate", "8relocate", "7builder", "8transfer", "6legacy", "5sites", "4cold", "6buffer"],
    ),
    (
        Part::Memory,
        &["6engine3tlb", "6paging", "9ftemu_cpu6memory", "7service", "13quick_strings", "9follow_up", "5watch"],
    ),
    (Part::Dispatcher, &["8dispatch", "6blocks", "6engine5stack", "6engine7signals"]),
    (Part::System, &["9ftemu_cpu"]),
    (Part::Devices, &["13ftemu_devices"]),
    (Part::Edge, &["14ftemu_lockstep", "15ftemu_transport", "12ftemu_images", "5ftemu", "5tokio"]),
];

impl Part {
    /// The part of a function; code without a name is in another library.
    pub(super) fn of(name: Option<&str>) -> Self {
        let Some(name) = name else { return Self::Library };
        let found = MARKS.iter().find(|(_, marks)| marks.iter().any(|mark| name.contains(mark)));
        found.map_or(Self::Library, |(part, _)| *part)
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated code",
            Self::Dispatcher => "lookups and dispatcher",
            Self::Memory => "slow memory paths",
            Self::Translation => "translation",
            Self::System => "exceptions and system instructions",
            Self::Devices => "devices",
            Self::Hashing => "hashing",
            Self::Edge => "log, console, network",
            Self::Library => "copying and allocating",
            Self::Kernel => "the host's kernel",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_decide() {
        let part = |name| Part::of(Some(name));
        assert_eq!(part("_ZN9ftemu_cpu6engine9translate4full17h0E"), Part::Translation);
        assert_eq!(part("_ZN9ftemu_cpu6engine3tlb3Tlb4fill17h0E"), Part::Memory);
        assert_eq!(part("_ZN9ftemu_cpu6engine8dispatch6Engine3run17h0E"), Part::Dispatcher);
        assert_eq!(part("_ZN9ftemu_cpu6system3msr4read17h0E"), Part::System);
        assert_eq!(part("_ZN13ftemu_devices5board5Board4tick17h0E"), Part::Devices);
        assert_eq!(part("blake3_hash_many_avx2"), Part::Hashing);
        assert_eq!(part("_ZN6blake36Hasher6update17h0E"), Part::Hashing);
        assert_eq!(Part::of(None), Part::Library);
    }
}
