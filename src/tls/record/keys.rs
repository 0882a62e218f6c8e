//! Keys of one direction: an AEAD key, its nonces, and the key that comes next.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::tls::secrets::Secret;

/// Version of TLS that records are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordVersion {
    /// TLS 1.2 (RFC 5246), with an AEAD suite.
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Cipher of a suite. Every AEAD suite of both versions uses one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-128 in Galois/Counter mode.
    Aes128Gcm,
    /// AES-256 in Galois/Counter mode.
    Aes256Gcm,
    /// ChaCha20 with Poly1305.
    Chacha20Poly1305,
}

impl Cipher {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::Chacha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// Records that one key protects at the most: for AES-GCM fewer than the 2^24.5 of RFC 8446 §5.5, as rustls has it;
    /// for ChaCha20-Poly1305 the sequence number is the limit.
    fn limit(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 24,
            Self::Chacha20Poly1305 => u64::MAX - (1 << 16),
        }
    }
}

/// Keys of one direction, and the number of the next record.
pub(super) struct RecordKeys {
    pub(super) key: LessSafeKey,
    /// Mask of the nonces (RFC 8446 §5.3); of AES-GCM in TLS 1.2 the fixed part and the first explicit one.
    iv: Zeroizing<[u8; 12]>,
    /// In TLS 1.3 the traffic secret that key and mask are derived from, in TLS 1.2 the key.
    source: Secret,
    /// Number of the next record.
    pub(super) sequence: u64,
    /// The suite's cipher.
    pub(super) cipher: Cipher,
}

impl RecordKeys {
    /// Keys of TLS 1.3 from their traffic secret; `None` when it has not the length that the cipher's hash has.
    pub(super) fn tls13(cipher: Cipher, secret: Secret, sequence: u64) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        let key = key.get_mut(..cipher.algorithm().key_len())?;
        expand(cipher, &secret, b"key", key)?;
        let mut iv = Zeroizing::new([0; 12]);
        expand(cipher, &secret, b"iv", &mut *iv)?;
        let key = LessSafeKey::new(UnboundKey::new(cipher.algorithm(), key).ok()?);
        Some(Self { key, iv, source: secret, sequence, cipher })
    }

    /// Keys of TLS 1.2; `None` when the key is not as long as the cipher's is.
    pub(super) fn tls12(cipher: Cipher, key: Secret, iv: [u8; 12], sequence: u64) -> Option<Self> {
        let bound = LessSafeKey::new(UnboundKey::new(cipher.algorithm(), key.as_bytes()).ok()?);
        Some(Self { key: bound, iv: Zeroizing::new(iv), source: key, sequence, cipher })
    }

    /// Tells whether these keys are the same as others, the record's number left out.
    #[cfg(test)]
    pub(super) fn are(&self, other: &Self) -> bool {
        self.source == other.source && self.iv == other.iv && self.cipher == other.cipher
    }

    /// The keys that follow these after a KeyUpdate (RFC 8446 §7.2).
    pub(super) fn next(&self) -> Option<Self> {
        Self::tls13(self.cipher, next_secret(self.cipher, &self.source)?, 0)
    }

    /// The nonce of the next record, which is then counted. `None` once every number has been used.
    pub(super) fn nonce(&mut self) -> Option<[u8; 12]> {
        let mut nonce = *self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1)?;
        Some(nonce)
    }

    /// The nonce of a record of TLS 1.2 that states `explicit` (RFC 5288 §3); the record is counted.
    pub(super) fn nonce_with(&mut self, explicit: [u8; 8]) -> Option<[u8; 12]> {
        let mut nonce = *self.iv;
        nonce[4..].copy_from_slice(&explicit);
        self.sequence = self.sequence.checked_add(1)?;
        Some(nonce)
    }

    /// Tells whether the next record is one that these keys are not to protect any more.
    pub(super) fn are_worn_out(&self) -> bool {
        self.sequence >= self.cipher.limit()
    }

    /// Tells whether the limit of these keys has just been reached.
    pub(super) fn have_just_worn_out(&self) -> bool {
        self.sequence == self.cipher.limit()
    }

    /// Source of the keys and mask of the nonces, to be read again by [`tls13`](Self::tls13) or [`tls12`](Self::tls12).
    pub(super) fn parts(&self) -> (&Secret, [u8; 12]) {
        (&self.source, *self.iv)
    }
}

/// The nonce for a call of the AEAD.
pub(super) fn used(nonce: [u8; 12]) -> Nonce {
    Nonce::assume_unique_for_key(nonce)
}

/// Finds the traffic secret of which `key` was derived: `first`, or one that KeyUpdates made of it since.
pub(super) fn secret_of(cipher: Cipher, first: &Secret, key: &[u8]) -> Option<Secret> {
    let mut secret = first.clone();
    let mut derived = Zeroizing::new([0; 32]);
    let derived = derived.get_mut(..cipher.algorithm().key_len())?;
    for _ in 0..MOST_UPDATES {
        expand(cipher, &secret, b"key", derived)?;
        if *derived == *key {
            return Some(secret);
        }
        secret = next_secret(cipher, &secret)?;
    }
    None
}

fn next_secret(cipher: Cipher, secret: &Secret) -> Option<Secret> {
    let mut next = Zeroizing::new([0; 48]);
    let next = next.get_mut(..secret.as_bytes().len())?;
    expand(cipher, secret, b"traffic upd", next)?;
    Secret::new(next)
}

/// HKDF-Expand-Label without a context (RFC 8446 §7.1).
fn expand(cipher: Cipher, secret: &Secret, label: &[u8], out: &mut [u8]) -> Option<()> {
    let hash = match cipher {
        Cipher::Aes128Gcm | Cipher::Chacha20Poly1305 => HKDF_SHA256,
        Cipher::Aes256Gcm => HKDF_SHA384,
    };
    if secret.as_bytes().len() != hash.len() {
        return None;
    }
    let [length, label_length] = [u16::try_from(out.len()).ok()?, u16::try_from(PREFIX.len() + label.len()).ok()?];
    let info = [&length.to_be_bytes(), &label_length.to_be_bytes()[1..], PREFIX, label, &[0]];
    Prk::new_less_safe(hash, secret.as_bytes()).expand(&info, Length(out.len())).ok()?.fill(out).ok()
}

/// Length of what is expanded.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Beginning of every label of TLS 1.3.
const PREFIX: &[u8] = b"tls13 ";
/// KeyUpdates before the record layer takes over. Few are ever made that early, and each costs a few microseconds.
const MOST_UPDATES: usize = 4096;
