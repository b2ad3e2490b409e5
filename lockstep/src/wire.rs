//! The bytes of records and messages: LEB128 numbers, length-prefixed strings, and a reader that cannot panic.

/// Bytes that mean nothing, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Bad {
    /// What was expected or found.
    pub what: &'static str,
    /// Offset from where reading began.
    pub at: u64,
}

/// Appends a number in LEB128: 7 bits a byte, lowest first.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a length and the text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Takes values off the front of bytes from anywhere.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes taken so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// All bytes were taken.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// An error at this place.
    pub fn bad(&self, what: &'static str) -> Bad {
        Bad { what, at: self.at }
    }

    /// Takes `length` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Bad> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(self.bad("cut short"))?;
        self.bytes = rest;
        self.at += length as u64;
        Ok(head)
    }

    /// Takes exactly `N` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let error = self.bad("cut short");
        self.take(N)?.try_into().map_err(|_| error)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// None is left.
    pub fn byte(&mut self) -> Result<u8, Bad> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a LEB128 number in its one shortest form.
    ///
    /// # Errors
    /// Cut short, longer than 64 bits, or padded.
    pub fn number(&mut self) -> Result<u64, Bad> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(self.bad("number too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(self.bad("padded number")) } else { Ok(value) };
            }
        }
        Err(self.bad("number too long"))
    }

    /// Takes a number below 2^32.
    ///
    /// # Errors
    /// As [`Reader::number`], or too large.
    pub fn number32(&mut self) -> Result<u32, Bad> {
        let value = self.number()?;
        u32::try_from(value).map_err(|_| self.bad("number too large"))
    }

    /// Takes length-prefixed bytes.
    ///
    /// # Errors
    /// Cut short.
    pub fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let length = self.number()?;
        let length = usize::try_from(length).map_err(|_| self.bad("cut short"))?;
        self.take(length)
    }

    /// Takes length-prefixed text; bytes that are no UTF-8 are replaced, for it is only shown.
    ///
    /// # Errors
    /// Cut short.
    pub fn text(&mut self) -> Result<String, Bad> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Bytes are left over.
    pub fn end(&self) -> Result<(), Bad> {
        if self.is_empty() { Ok(()) } else { Err(self.bad("bytes left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_in_their_shortest_form_only() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.number(), Ok(value));
            assert!(reader.is_empty());
        }
        assert_eq!(Reader::new(&[0x80, 0]).number().unwrap_err().what, "padded number");
        assert!(Reader::new(&[0xff; 10]).number().is_err());
        assert!(Reader::new(&[0xff; 9]).number().is_err());
    }

    #[test]
    fn nothing_panics_and_errors_say_where() {
        let mut reader = Reader::new(&[5, 1, 2]);
        assert_eq!(reader.bytes(), Err(Bad { what: "cut short", at: 1 }));
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert!(reader.bytes().is_err());
    }
}
