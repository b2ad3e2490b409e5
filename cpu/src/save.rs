//! The CPU's state as bytes: little-endian, in the order of the fields, the same on every host.
//!
//! The patterns name every field, so that a new one does not compile before it is written and read here.

use crate::state::{FxArea, Segment, State, TableRegister};

/// Appends the whole state.
pub fn save(state: &State, out: &mut Vec<u8>) {
    let State {
        gpr,
        rip,
        rflags,
        segments,
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
        cpl,
        interrupt_shadow,
        halted,
        nmi_blocked,
        debug_shadow,
        debug_pending,
        smm,
        smbase,
    } = state;
    save_words(out, gpr);
    save_words(out, &[*rip, *rflags]);
    segments.iter().chain([ldtr, tr]).for_each(|segment| save_segment(out, segment));
    [gdtr, idtr].into_iter().for_each(|table| save_table(out, table));
    save_words(out, &[*cr0, *cr2, *cr3, *cr4, *efer, *star, *lstar, *cstar, *sfmask, *kernel_gs_base]);
    save_words(out, &[*sysenter_cs, *sysenter_esp, *sysenter_eip, *tsc_aux, *tsc_offset, *pat, *mtrr_def_type]);
    save_words(out, mtrr_variable);
    save_words(out, mtrr_fixed);
    save_words(out, dr);
    let FxArea(image) = fx;
    out.extend_from_slice(image);
    out.extend_from_slice(&debug_pending.to_le_bytes());
    out.extend_from_slice(&smbase.to_le_bytes());
    out.push(*cpl);
    let flags = [interrupt_shadow, halted, nmi_blocked, debug_shadow, smm];
    out.extend(flags.map(|flag| u8::from(*flag)));
}

fn save_words(out: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn save_segment(out: &mut Vec<u8>, segment: &Segment) {
    let Segment { base, limit, attributes, selector } = segment;
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&limit.to_le_bytes());
    out.extend_from_slice(&attributes.to_le_bytes());
    out.extend_from_slice(&selector.to_le_bytes());
}

fn save_table(out: &mut Vec<u8>, table: &TableRegister) {
    let TableRegister { base, limit } = table;
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&limit.to_le_bytes());
}

/// Takes what [`save`] wrote off the front. `None` when it is cut short or no state: a level above 3, a flag that is
/// neither 0 nor 1.
pub fn load(bytes: &mut &[u8]) -> Option<State> {
    let mut from = Reader(bytes);
    let state = State {
        gpr: from.words()?,
        rip: from.word()?,
        rflags: from.word()?,
        segments: from.array(Reader::segment)?,
        ldtr: from.segment()?,
        tr: from.segment()?,
        gdtr: from.table()?,
        idtr: from.table()?,
        cr0: from.word()?,
        cr2: from.word()?,
        cr3: from.word()?,
        cr4: from.word()?,
        efer: from.word()?,
        star: from.word()?,
        lstar: from.word()?,
        cstar: from.word()?,
        sfmask: from.word()?,
        kernel_gs_base: from.word()?,
        sysenter_cs: from.word()?,
        sysenter_esp: from.word()?,
        sysenter_eip: from.word()?,
        tsc_aux: from.word()?,
        tsc_offset: from.word()?,
        pat: from.word()?,
        mtrr_def_type: from.word()?,
        mtrr_variable: from.words()?,
        mtrr_fixed: from.words()?,
        dr: from.words()?,
        fx: FxArea(from.bytes()?),
        debug_pending: from.bytes().map(u16::from_le_bytes)?,
        smbase: from.bytes().map(u32::from_le_bytes)?,
        cpl: from.byte().filter(|&cpl| cpl < 4)?,
        interrupt_shadow: from.flag()?,
        halted: from.flag()?,
        nmi_blocked: from.flag()?,
        debug_shadow: from.flag()?,
        smm: from.flag()?,
    };
    Some(state)
}

struct Reader<'a, 'b>(&'a mut &'b [u8]);

impl Reader<'_, '_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        *self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn word(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn array<T: Copy + Default, const N: usize>(&mut self, one: fn(&mut Self) -> Option<T>) -> Option<[T; N]> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = one(self)?;
        }
        Some(items)
    }

    fn words<const N: usize>(&mut self) -> Option<[u64; N]> {
        self.array(Self::word)
    }

    fn segment(&mut self) -> Option<Segment> {
        Some(Segment {
            base: self.word()?,
            limit: self.bytes().map(u32::from_le_bytes)?,
            attributes: self.bytes().map(u16::from_le_bytes)?,
            selector: self.bytes().map(u16::from_le_bytes)?,
        })
    }

    fn table(&mut self) -> Option<TableRegister> {
        Some(TableRegister { base: self.word()?, limit: self.bytes().map(u16::from_le_bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state whose every byte differs from its neighbours': loaded from bytes of a small generator.
    fn random_state(seed: u64) -> (Vec<u8>, State) {
        let mut bytes = Vec::new();
        save(&State::default(), &mut bytes);
        let mut word = seed | 1;
        let end = bytes.len() - 6;
        for byte in &mut bytes[..end] {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (word >> 56) as u8;
        }
        let flag = |bit: u64| (seed >> bit) as u8 & 1;
        bytes[end..].copy_from_slice(&[(seed % 4) as u8, flag(2), flag(3), 1, flag(4), flag(5)]);
        let state = load(&mut &bytes[..]).expect("a complete state");
        (bytes, state)
    }

    #[test]
    fn states_survive_the_round_trip() {
        for seed in 0..64 {
            let (bytes, state) = random_state(seed);
            let mut again = Vec::new();
            save(&state, &mut again);
            assert!(bytes == again, "seed {seed}");
            again.push(0x55);
            let mut rest = &again[..];
            assert!(load(&mut rest).is_some_and(|loaded| loaded == state), "seed {seed}");
            assert_eq!(rest, [0x55]);
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let (bytes, _) = random_state(7);
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(load(&mut &bytes[..length]).is_none(), "{length} bytes");
        }
        for (from_end, value) in [(6, 4), (5, 2), (4, 255), (1, 2)] {
            let mut wrong = bytes.clone();
            let at = wrong.len() - from_end;
            wrong[at] = value;
            assert!(load(&mut &wrong[..]).is_none(), "{value} at {from_end} from the end");
        }
    }
}
