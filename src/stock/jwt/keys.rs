//! The keys that signatures are verified with, and the algorithms of each.

use std::slice;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;

/// Keys, each with the only algorithms that it may verify. The `alg` of a token chooses among the keys. It cannot have
/// a public key used as a secret (RFC 8725 §3.1).
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a file or a text gives no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum KeysError {
    /// The secret is too easily guessed for an algorithm that is to be accepted.
    #[error("{algorithm:?} needs a secret of at least {least} bytes, and this one has {has} (RFC 7518 §3.2)")]
    SecretShort { algorithm: Algorithm, least: usize, has: usize },
    /// A PEM file stands where a secret should be. A public key that is used as a secret is known to everybody.
    #[error("this is a PEM file, not a secret: a public key is given as `public_key_file`")]
    SecretIsPem,
    /// The key is a private one, which a gateway should not have.
    #[error("this is a private key, and the public one is needed: `openssl pkey -in KEY -pubout` gives it")]
    KeyIsPrivate,
    /// The file is a certificate, and not a key alone.
    #[error("this is a certificate, and its key is needed: `openssl x509 -in FILE -pubkey -noout` gives it")]
    KeyIsCertificate,
    /// The file is not PEM, or has no key of a known kind.
    #[error("no public key (RSA, P-256, P-384 or Ed25519) in PEM form, `-----BEGIN PUBLIC KEY-----`")]
    NotAPublicKey,
    /// The key is not for any of the algorithms that are to be accepted.
    #[error("this key is for {}, and none of them is accepted", names(.0))]
    OtherAlgorithms(Vec<Algorithm>),
    /// The text is not a JWK Set.
    #[error("not a JWK Set (RFC 7517 §5): {0}")]
    NotAKeySet(String),
    /// The JWK Set has no key that can be used.
    #[error("none of its keys ({0}) can verify a signature of an algorithm that is accepted")]
    NoUsableKey(usize),
    /// The JWK Set has more keys than are accepted.
    #[error("it has {0} keys, and at most {MOST_KEYS} are taken")]
    TooManyKeys(usize),
}

impl KeySet {
    /// A shared secret, for the algorithms of `accepted`. With `None` it is for those of HS256, HS384 and HS512 that it
    /// is long enough for.
    ///
    /// # Errors
    /// The secret is a PEM file, or too short.
    pub(super) fn secret(secret: &[u8], accepted: Option<&[Algorithm]>) -> Result<Self, KeysError> {
        if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(KeysError::SecretIsPem);
        }
        let short = |algorithm: Algorithm| {
            let (least, has) = (digest_bytes(algorithm), secret.len());
            (has < least).then_some(KeysError::SecretShort { algorithm, least, has })
        };
        let of_family = AlgorithmFamily::Hmac.algorithms();
        let algorithms: Vec<_> = match accepted {
            Some(accepted) => accepted.iter().copied().filter(|algorithm| of_family.contains(algorithm)).collect(),
            None => of_family.iter().copied().filter(|algorithm| short(*algorithm).is_none()).collect(),
        };
        if let Some(error) = algorithms.iter().copied().find_map(short) {
            return Err(error);
        }
        match algorithms.is_empty() {
            true if accepted.is_some() => Err(KeysError::OtherAlgorithms(of_family.to_vec())),
            true => Err(short(Algorithm::HS256).expect("a secret long enough for HS256 has that algorithm")),
            false => Ok(Self::of(Key { id: None, algorithms, key: DecodingKey::from_secret(secret) })),
        }
    }

    /// A public key in PEM form, for those of its algorithms that are in `accepted`; with `None` for all of them.
    ///
    /// # Errors
    /// The PEM holds no public key, or one for none of the algorithms.
    pub(super) fn public_pem(pem: &[u8], accepted: Option<&[Algorithm]>) -> Result<Self, KeysError> {
        let text = String::from_utf8_lossy(pem);
        match text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----")) {
            Some(("PUBLIC KEY" | "RSA PUBLIC KEY", _)) => {}
            Some((label, _)) if label.ends_with("PRIVATE KEY") => return Err(KeysError::KeyIsPrivate),
            Some(("CERTIFICATE", _)) => return Err(KeysError::KeyIsCertificate),
            _ => return Err(KeysError::NotAPublicKey),
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| KeysError::NotAPublicKey)?;
        let family = key.family();
        let able: &[Algorithm] = match (family, key.try_get_as_bytes().map(<[u8]>::len)) {
            (AlgorithmFamily::Ec, Ok(P256_POINT)) => &[Algorithm::ES256],
            (AlgorithmFamily::Ec, Ok(P384_POINT)) => &[Algorithm::ES384],
            (AlgorithmFamily::Ec | AlgorithmFamily::Hmac, _) => return Err(KeysError::NotAPublicKey),
            (AlgorithmFamily::Rsa | AlgorithmFamily::Ed, _) => family.algorithms(),
        };
        let algorithms = both(able, accepted);
        if algorithms.is_empty() {
            return Err(KeysError::OtherAlgorithms(able.to_vec()));
        }
        Ok(Self::of(Key { id: None, algorithms, key }))
    }

    /// The keys of a JWK Set (RFC 7517 §5), each for those of its algorithms that are in `accepted`; with `None` for
    /// all but the symmetric ones. Keys for another use and keys of an unknown kind are skipped, as §5 asks.
    ///
    /// # Errors
    /// The text is no JWK Set, or none of its keys is of use.
    pub(super) fn jwks(text: &[u8], accepted: Option<&[Algorithm]>) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| KeysError::NotAKeySet(error.to_string()))?;
        let count = set.keys.len();
        if count > MOST_KEYS {
            return Err(KeysError::TooManyKeys(count));
        }
        // One by one: a key that cannot be read must not hide the others.
        let read = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Vec<Key> = read.filter_map(|jwk| Key::of_jwk(&jwk, accepted)).collect();
        if keys.is_empty() { Err(KeysError::NoUsableKey(count)) } else { Ok(Self { keys }) }
    }

    fn of(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// The keys that may have signed a token with this header: those of its id, and those without one.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            let same = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            same && key.algorithms.contains(&algorithm)
        };
        self.keys.iter().filter(fits).map(|key| &key.key)
    }

    /// Returns true if any key is for this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithms.contains(&algorithm))
    }

    /// Returns true if keys have ids here, and none has this one.
    pub(super) fn lacks(&self, id: &str) -> bool {
        let mut ids = self.keys.iter().filter_map(|key| key.id.as_deref()).peekable();
        ids.peek().is_some() && ids.all(|other| other != id)
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Key {
    fn of_jwk(jwk: &Jwk, accepted: Option<&[Algorithm]>) -> Option<Self> {
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let secret_bytes;
        let able = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => slice::from_ref(&Algorithm::ES256),
                EllipticCurve::P384 => slice::from_ref(&Algorithm::ES384),
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                AlgorithmFamily::Ed.algorithms()
            }
            // A symmetric key only where one was asked for.
            AlgorithmParameters::OctetKey(key) if accepted.is_some() => {
                secret_bytes = URL_SAFE_NO_PAD.decode(&key.value).ok()?.len();
                let long_enough = |algorithm: &&Algorithm| secret_bytes >= digest_bytes(**algorithm);
                return Self::with(jwk, AlgorithmFamily::Hmac.algorithms().iter().filter(long_enough), accepted);
            }
            _ => return None,
        };
        Self::with(jwk, able.iter(), accepted)
    }

    fn with<'a>(jwk: &Jwk, able: impl Iterator<Item = &'a Algorithm>, accepted: Option<&[Algorithm]>) -> Option<Self> {
        let named = match jwk.common.key_algorithm {
            Some(named) => Some(Algorithm::try_from(named).ok()?),
            None => None,
        };
        let able: Vec<_> = able.copied().filter(|algorithm| named.is_none_or(|named| named == *algorithm)).collect();
        let algorithms = both(&able, accepted);
        let key = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self { id: jwk.common.key_id.clone(), algorithms, key })
    }
}

/// The algorithms of `able` that are accepted.
fn both(able: &[Algorithm], accepted: Option<&[Algorithm]>) -> Vec<Algorithm> {
    able.iter().copied().filter(|algorithm| accepted.is_none_or(|accepted| accepted.contains(algorithm))).collect()
}

/// The length of the digest that an algorithm signs.
fn digest_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS512 | Algorithm::RS512 | Algorithm::PS512 => 64,
        Algorithm::HS384 | Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => 48,
        _ => 32,
    }
}

/// Algorithms as they are written in tokens.
pub(super) fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect::<Vec<_>>().join(", ")
}

/// Bytes of a point of the curve P-256, not compressed (SEC 1 §2.3.3).
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;

/// Most keys of a set. A token without a key id is tried with every key of its algorithm, which must stay cheap.
/// Providers have two to ten keys.
const MOST_KEYS: usize = 64;
