//! The hash that chains the log: two servers whose chains agree have seen the same records in the same order.

/// The first 16 bytes of BLAKE3 over (chain before, encoded record).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub [u8; 16]);

impl Chain {
    /// The chain after one more record.
    #[must_use]
    pub fn after(&self, record: &[u8]) -> Chain {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(record);
        Chain(first16(hasher.finalize().as_bytes()))
    }
}

/// The first half of a hash.
pub(crate) fn first16(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_matter() {
        let start = Chain::default();
        assert_ne!(start.after(b"a").after(b"b"), start.after(b"b").after(b"a"));
        assert_ne!(start.after(b"ab"), start.after(b"a").after(b"b"));
        assert_eq!(start.after(b"a"), start.after(b"a"));
    }
}
