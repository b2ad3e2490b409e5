//! The chain of lines that a demonstration guest prints, computed again outside the guest.
//!
//! A line is `ftemu-line N HASH`, and the last one `ftemu-end N HASH` repeats the number and hash of the last line.
//! Each hash covers the one before it and the result of some work on numbers derived from it, so that no line can be
//! right unless every line before it was. Two guests print such chains, and their work differs: [`Work`].

use sha2::{Digest, Sha256};

/// What a guest computes between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `debian/init.sh`: awk generates numbers, sort orders them, gzip and gunzip pass them on, sha256sum hashes.
    Debian,
    /// `tiny/lines.rs`: rounds of a 64-bit mixing function in registers.
    Tiny,
}

/// How many numbers the Debian guest generates and sorts for a line.
pub const NUMBERS_PER_LINE: usize = 48;

/// How many rounds of mixing the tiny guest does for a line.
pub const ROUNDS_PER_LINE: u64 = 200_000;

/// Prefix of a numbered line.
pub const LINE: &str = "ftemu-line";
/// Prefix of the line after the last numbered one.
pub const END: &str = "ftemu-end";

/// What is wrong with a chain of lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The number is not the one that must come next.
    #[error("line {expected} should come next, but the guest printed line {found}: a line was {}", if found > expected { "lost" } else { "repeated" })]
    Number {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The hash is not the one this computation gives.
    #[error("line {number} carries {found}, but the same computation outside the guest gives {expected}")]
    Hash {
        /// The line's number.
        number: u64,
        /// What the host computed.
        expected: String,
        /// What the guest printed.
        found: String,
    },
    /// Starts like a numbered line and is not one.
    #[error("the line after number {after} is not whole: {text:?}")]
    Shape {
        /// The last good line's number.
        after: u64,
        /// What the guest printed.
        text: String,
    },
}

/// What a line of console output meant to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A line that has nothing to do with the chain.
    Other,
    /// The next numbered line, as it must be.
    Line(u64),
    /// The end, after this many lines.
    End(u64),
}

/// The verifier: fed with the console's lines, it computes each hash itself.
#[derive(Clone, Debug)]
pub struct Chain {
    work: Work,
    number: u64,
    hash: String,
    ended: bool,
}

impl Chain {
    /// The chain of a guest started with `ftemu.seed=SEED`.
    pub fn new(work: Work, seed: u64) -> Self {
        let hash = match work {
            Work::Debian => hex(&Sha256::digest(format!("ftemu {seed}"))),
            Work::Tiny => format!("{seed:016x}"),
        };
        Self { work, number: 0, hash, ended: false }
    }

    /// The number of the last line seen; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the guest has said that it is done.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Looks at one line of the console, without its line end.
    ///
    /// # Errors
    /// The line belongs to the chain and is not the one that must come next.
    pub fn feed(&mut self, line: &str) -> Result<Seen, ChainError> {
        // The kernel may have left the cursor behind something without a line end.
        let Some(start) = line.find("ftemu-") else { return Ok(Seen::Other) };
        let text = line.get(start..).unwrap_or_default().trim_end();
        let mut words = text.split(' ');
        match words.next() {
            Some(LINE) => {}
            Some(END) => return self.feed_end(text),
            _ => return Ok(Seen::Other),
        }
        let (number, hash) = self.numbered(text)?;
        let expected = self.number + 1;
        if self.ended || number != expected {
            return Err(ChainError::Number { expected, found: number });
        }
        let wanted = self.next_hash();
        if hash != wanted {
            return Err(ChainError::Hash { number, expected: wanted, found: hash.to_owned() });
        }
        self.number = number;
        self.hash = wanted;
        Ok(Seen::Line(number))
    }

    fn feed_end(&mut self, text: &str) -> Result<Seen, ChainError> {
        let (number, hash) = self.numbered(text)?;
        if self.ended || number != self.number {
            return Err(ChainError::Number { expected: self.number + 1, found: number });
        }
        if hash != self.hash {
            return Err(ChainError::Hash { number, expected: self.hash.clone(), found: hash.to_owned() });
        }
        self.ended = true;
        Ok(Seen::End(number))
    }

    /// Takes `PREFIX NUMBER HASH` apart.
    fn numbered<'a>(&self, text: &'a str) -> Result<(u64, &'a str), ChainError> {
        let words: Vec<&str> = text.split(' ').collect();
        if let [_, number, hash] = words.as_slice()
            && let Ok(number) = number.parse()
            && hash.len() == self.hash.len()
        {
            return Ok((number, hash));
        }
        Err(ChainError::Shape { after: self.number, text: text.to_owned() })
    }

    fn next_hash(&self) -> String {
        let number = self.number + 1;
        match self.work {
            Work::Debian => debian_hash(number, &self.hash),
            Work::Tiny => format!("{:016x}", tiny_hash(number, u64::from_str_radix(&self.hash, 16).unwrap_or(0))),
        }
    }
}

/// The work of `debian/init.sh` for one line: Park and Miller's generator, a numeric sort, SHA-256.
fn debian_hash(number: u64, previous: &str) -> String {
    let seed = previous.get(..7).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let mut x = seed + 1;
    let mut numbers = Vec::with_capacity(NUMBERS_PER_LINE);
    for _ in 0..NUMBERS_PER_LINE {
        x = x * 16807 % 2_147_483_647;
        numbers.push(x);
    }
    numbers.sort_unstable();
    let mut text = format!("{number} {previous}\n");
    for value in numbers {
        text.push_str(&value.to_string());
        text.push('\n');
    }
    hex(&Sha256::digest(text))
}

/// The work of `tiny/lines.rs` for one line: rounds of Stafford's thirteenth mixer over a running sum.
fn tiny_hash(number: u64, previous: u64) -> u64 {
    let mut hash = previous ^ number;
    for _ in 0..ROUNDS_PER_LINE {
        hash = tiny_round(hash);
    }
    hash
}

/// One round: the same operations, in the same order, as `tiny/lines.rs` assembles.
fn tiny_round(hash: u64) -> u64 {
    let mut z = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first lines of a chain, as a right guest prints them.
    fn lines(work: Work, seed: u64, count: u64) -> Vec<String> {
        let mut chain = Chain::new(work, seed);
        (1..=count)
            .map(|number| {
                let line = format!("{LINE} {number} {}", chain.next_hash());
                chain.feed(&line).expect("the chain accepts its own line");
                line
            })
            .collect()
    }

    #[test]
    fn a_whole_chain_is_accepted_to_its_end() {
        let printed = lines(Work::Debian, 7, 5);
        let mut chain = Chain::new(Work::Debian, 7);
        assert_eq!(chain.feed("[    0.000000] Linux version 6.1"), Ok(Seen::Other));
        for (line, number) in printed.iter().zip(1..) {
            assert_eq!(chain.feed(line), Ok(Seen::Line(number)));
        }
        let last = printed[4].replace(LINE, END);
        assert_eq!(chain.feed(&last), Ok(Seen::End(5)));
        assert!(chain.ended());
    }

    #[test]
    fn a_lost_a_repeated_and_an_altered_line_are_noticed() {
        let printed = lines(Work::Debian, 1, 3);
        let mut chain = Chain::new(Work::Debian, 1);
        chain.feed(&printed[0]).unwrap();
        assert_eq!(chain.feed(&printed[2]), Err(ChainError::Number { expected: 2, found: 3 }));
        assert_eq!(chain.feed(&printed[0]), Err(ChainError::Number { expected: 2, found: 1 }));
        let mut altered = printed[1].clone();
        altered.replace_range(altered.len() - 1.., if altered.ends_with('0') { "1" } else { "0" });
        assert!(matches!(chain.feed(&altered), Err(ChainError::Hash { number: 2, .. })));
        assert!(matches!(chain.feed("ftemu-line 2"), Err(ChainError::Shape { after: 1, .. })));
        assert!(matches!(chain.feed("ftemu-line 2 beef"), Err(ChainError::Shape { after: 1, .. })));
        assert!(matches!(chain.feed("ftemu-end 2 beef"), Err(ChainError::Shape { .. })));
        assert_eq!(chain.feed(&printed[1]), Ok(Seen::Line(2)));
    }

    #[test]
    fn another_seed_gives_another_chain() {
        let printed = lines(Work::Debian, 1, 1);
        assert!(Chain::new(Work::Debian, 2).feed(&printed[0]).is_err());
    }

    /// What the guests printed under another emulator.
    #[test]
    fn real_guests_are_accepted() {
        let debian = [
            "ftemu-line 1 8b37b77b42ac413a1790fc037f3921416cea61569e57071a25944af468b85f00",
            "ftemu-line 2 e4d726bd09a9205ae60c55003ebf1e79bc33cfd96417d4a84866cfaef5dc48fd",
            "ftemu-line 3 a61098b27a9a9ce832eee5c8293b9a978f149e8b032411cc62e743606823edf1",
        ];
        let tiny = ["Booting from ROM..ftemu-line 1 efe63e087152e04f", "ftemu-line 2 9b32304148007b59"];
        for (work, printed) in [(Work::Debian, &debian[..]), (Work::Tiny, &tiny)] {
            let mut chain = Chain::new(work, 1);
            for (line, number) in printed.iter().zip(1..) {
                assert_eq!(chain.feed(line), Ok(Seen::Line(number)));
            }
        }
    }
}
