//! The stream that comes from passt, cut into frames: each comes after its length, 32 bits, big-endian.

/// No frame is longer.
const LONGEST: usize = 65_550;
/// Before each frame comes its length.
const LENGTH: usize = 4;

/// Bytes from passt, in their order.
#[derive(Default)]
pub struct Waiting {
    bytes: Vec<u8>,
    /// So many of them have been taken.
    taken: usize,
}

/// What is at the front.
#[derive(Debug, PartialEq, Eq)]
pub enum Front {
    /// A frame.
    Frame,
    /// Not all of one.
    Part,
    /// What says to be a frame of this length, which none has.
    Nonsense(usize),
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.rest().len()
    }

    /// Where more of them go.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What the next bytes are.
    pub fn front(&self) -> Front {
        let Some((length, rest)) = self.rest().split_first_chunk::<LENGTH>() else { return Front::Part };
        match u32::from_be_bytes(*length) as usize {
            length if length > LONGEST => Front::Nonsense(length),
            length if length > rest.len() => Front::Part,
            _ => Front::Frame,
        }
    }

    /// The frame at the front.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.rest().split_first_chunk::<LENGTH>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let frame = rest.get(..length).filter(|_| length <= LONGEST)?.to_vec();
        self.taken += LENGTH + length;
        Some(frame)
    }

    /// Makes room for so many behind the last byte: what is in front of the first moves away when it is the larger part.
    pub fn make_room(&mut self, more: usize) {
        if self.taken * 2 >= self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.reserve(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: &[u8]) -> Waiting {
        Waiting { bytes: bytes.to_vec(), taken: 0 }
    }

    #[test]
    fn frames_are_taken_whole() {
        let mut two = waiting(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((two.front(), two.take(), two.take()), (Front::Frame, Some(vec![7, 8]), Some(vec![])));
        assert_eq!((two.front(), two.take()), (Front::Part, None));
        two.make_room(1);
        two.bytes.push(9);
        assert_eq!((two.take(), two.rest().len()), (Some(vec![9]), 0));
        for part in [&[][..], &[0, 0, 0], &[0, 0, 0, 2, 7]] {
            assert_eq!((waiting(part).front(), waiting(part).take()), (Front::Part, None));
        }
        assert_eq!((waiting(&[255; 9]).front(), waiting(&[255; 9]).take()), (Front::Nonsense(0xffff_ffff), None));
    }
}
