//! Names of this program's functions, from the symbol table of its file (System V ABI, chapter 4).

use std::fs;

/// Functions of this program in memory, ascending.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// Address, size, name.
    functions: Vec<(u64, u64, String)>,
}

/// `SHT_SYMTAB`, and `STT_FUNC` in the low half of `st_info`.
const SYMBOL_TABLE: u32 = 2;
const FUNCTION: u8 = 2;

impl Symbols {
    /// Those of the running program; none if its file has no table.
    pub(super) fn of_this_program() -> Self {
        let file = fs::read("/proc/self/exe").unwrap_or_default();
        let mut functions = parse(&file).unwrap_or_default();
        let base = base().unwrap_or(0);
        for function in &mut functions {
            function.0 = function.0.wrapping_add(base);
        }
        functions.sort();
        Self { functions }
    }

    /// The function at an address.
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|(start, _, _)| *start <= address);
        let (start, size, name) = self.functions.get(after.checked_sub(1)?)?;
        (address - start < (*size).max(1)).then_some(name)
    }
}

/// Where the program's first byte is in memory: proc(5), `maps`.
fn base() -> Option<u64> {
    let program = fs::read_link("/proc/self/exe").ok()?;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with(program.to_string_lossy().as_ref()))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?).into())
}

/// The bytes of a section, given its header.
fn section<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let (start, length) = (usize::try_from(word(header, 24)?).ok()?, usize::try_from(word(header, 32)?).ok()?);
    file.get(start..start.checked_add(length)?)
}

fn parse(file: &[u8]) -> Option<Vec<(u64, u64, String)>> {
    let (start, size, count) = (usize::try_from(word(file, 40)?).ok()?, short(file, 58)?, short(file, 60)?);
    let headers = file.get(start..)?;
    let header = |number: usize| headers.get(number.checked_mul(size)?..);
    let table = (0..count).filter_map(header).find(|header| half(header, 4) == Some(SYMBOL_TABLE))?;
    let names = section(file, header(usize::try_from(half(table, 40)?).ok()?)?)?;
    let mut functions = Vec::new();
    for symbol in section(file, table)?.chunks_exact(24) {
        if symbol[4] & 15 == FUNCTION {
            let name = names.get(usize::try_from(half(symbol, 0)?).ok()?..)?;
            let name = name.split(|byte| *byte == 0).next()?;
            functions.push((word(symbol, 8)?, word(symbol, 16)?, String::from_utf8_lossy(name).into_owned()));
        }
    }
    Some(functions)
}

/// A mangled name, readable: the words after their lengths, without the hash at the end.
pub(super) fn readable(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN") else { return name.to_owned() };
    let mut words = Vec::new();
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0) {
        let Ok(length) = rest[..digits].parse::<usize>() else { break };
        let Some(word) = rest.get(digits..digits.saturating_add(length)) else { break };
        words.push(word);
        rest = &rest[digits + length..];
    }
    words.pop_if(|word| word.len() == 17 && word.starts_with('h'));
    words.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_finds_itself() {
        let symbols = Symbols::of_this_program();
        let address = this_test_finds_itself as *const () as u64;
        let name = symbols.name(address).expect("the test program has symbols");
        assert!(name.contains("this_test_finds_itself"), "{name}");
    }

    #[test]
    fn names_become_readable() {
        assert_eq!(readable("_ZN9ftemu_cpu6engine3run17h0123456789abcdefE"), "ftemu_cpu::engine::run");
        assert_eq!(readable("memcpy"), "memcpy");
        assert_eq!(readable("_ZN99short"), "");
    }

    #[test]
    fn a_damaged_table_has_no_names() {
        let file = fs::read("/proc/self/exe").expect("this program's file");
        for length in [0, 1, 40, 63, 64, file.len() / 2, file.len() - 1] {
            let _ = parse(&file[..length]);
        }
        assert!(parse(&[0xff; 4096]).is_none());
    }
}
