//! The marks of a tunnel's ring key, in little room.

use crate::affinity::Digest;

/// Two hashes of a tunnel's ring key, and not the key itself, which may be a secret. Kept as bytes, between which
/// nothing is left empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyMark {
    digest: [u8; 4],
    hash: [u8; 4],
    has_digest: bool,
    has_hash: bool,
}

impl KeyMark {
    /// The marks of a key; without any for a tunnel that was picked without one.
    pub fn new(digest: Option<Digest>, hash: Option<u32>) -> Self {
        Self {
            digest: digest.map(Digest::to_bytes).unwrap_or_default(),
            hash: hash.unwrap_or_default().to_ne_bytes(),
            has_digest: digest.is_some(),
            has_hash: hash.is_some(),
        }
    }

    /// Short hash of the key, for logs and listings.
    pub fn digest(&self) -> Option<Digest> {
        self.has_digest.then(|| Digest::from_bytes(self.digest))
    }

    /// Place of the key on a ring ([`Ring::hash`](crate::upstream::Ring::hash)): enough to find its backend on any
    /// ring.
    pub fn hash(&self) -> Option<u32> {
        self.has_hash.then(|| u32::from_ne_bytes(self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were() {
        for digest in [None, Some(Digest::of(b"key"))] {
            for hash in [None, Some(0), Some(0x0102_0304)] {
                let mark = KeyMark::new(digest, hash);
                assert_eq!((mark.digest(), mark.hash()), (digest, hash));
            }
        }
    }
}
