//! Private keys in PEM files: found, loaded, and each reason told for which one cannot be used.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use x509_parser::asn1_rs::{Any, FromDer, Oid, Tag};
use zeroize::Zeroizing;

use super::{CertificateError, pem};
use crate::tls::files::read;

/// Reads the private key of a PEM file: the first one that is not encrypted.
///
/// # Errors
/// The file cannot be read, is not PEM, or has no key in it that can be used.
pub(super) fn load(file: &Path, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, CertificateError> {
    let text = Zeroizing::new(read(file)?);
    let sections = pem::sections(file, &text)?;
    let keys = pem::of_kinds(file, &sections, &KINDS)?;
    let is_plain = |section: &&&pem::PemSection<'_>| section.kind != ENCRYPTED && !section.is_encrypted();
    let Some(plain) = keys.iter().find(is_plain) else {
        return Err(match keys.is_empty() {
            true => pem::lacking(file, &sections, PRIVATE_KEY),
            false => CertificateError::KeyEncrypted(file.into()),
        });
    };
    let key = Zeroizing::new(plain.decode::<PrivateKeyDer<'static>>(file)?);
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|_| CertificateError::KeyUnusable { file: file.into(), fault: KeyFault::of(&key) })
}

/// Reason for which a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFault {
    /// An RSA key of so many bits, which are too few or too many.
    RsaSize(usize),
    /// A key of another kind or on another curve, by its name or its object identifier.
    Kind(String),
    /// No private key, or one whose parts do not belong together.
    Broken,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaSize(bits) => {
                let (thousands, rest) = (bits / 1_000, bits % 1_000);
                let bits = if thousands == 0 { rest.to_string() } else { format!("{thousands},{rest:03}") };
                write!(to, "it is an RSA key of {bits} bits, and RSA keys of 2,048 to 8,192 bits are taken")
            }
            Self::Kind(kind) => write!(to, "it is a key of the kind {kind}, which is not taken"),
            Self::Broken => write!(to, "it is damaged, or no private key at all"),
        }
    }
}

impl KeyFault {
    /// The fault of a key that the provider of cryptography has refused.
    fn of(key: &PrivateKeyDer<'_>) -> Self {
        let fault = match key {
            PrivateKeyDer::Pkcs1(key) => rsa_size(key.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(key) => curve(key.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(key) => kind(key.secret_pkcs8_der()),
            _ => None,
        };
        fault.unwrap_or(Self::Broken)
    }
}

/// The fault of an RSA key by its size (`RSAPrivateKey`, RFC 8017 §A.1.2); `None` where the size is right.
fn rsa_size(der: &[u8]) -> Option<KeyFault> {
    let mut fields = sequence(der)?;
    let (_version, modulus) = (element(&mut fields)?, element(&mut fields)?);
    let bytes = modulus.data.iter().position(|byte| *byte != 0).map(|zeros| &modulus.data[zeros..])?;
    let bits = bytes.len() * 8 - bytes.first()?.leading_zeros() as usize;
    (!(LEAST_RSA..=MOST_RSA).contains(&bits)).then_some(KeyFault::RsaSize(bits))
}

/// The fault of a key on a curve (`ECPrivateKey`, RFC 5915 §3); `None` where the curve is right or not named.
fn curve(der: &[u8]) -> Option<KeyFault> {
    let mut fields = sequence(der)?;
    let (_version, _key) = (element(&mut fields)?, element(&mut fields)?);
    let parameters = element(&mut fields)?;
    (parameters.tag() == Tag(0)).then_some(parameters.data).and_then(other_kind)
}

/// The fault of a key by its algorithm (`PrivateKeyInfo`, RFC 5958 §2); `None` where size and kind are right.
fn kind(der: &[u8]) -> Option<KeyFault> {
    let mut fields = sequence(der)?;
    let (_version, algorithm, key) = (element(&mut fields)?, element(&mut fields)?, element(&mut fields)?);
    let mut parameters = algorithm.data;
    let (_, name) = Oid::from_der(parameters).ok()?;
    element(&mut parameters)?;
    match name.to_id_string().as_str() {
        RSA => rsa_size(key.data),
        ON_CURVE => other_kind(parameters),
        _ => other_kind(algorithm.data),
    }
}

/// The fault of a key of the kind that an object identifier names; `None` where such keys are taken.
fn other_kind(der: &[u8]) -> Option<KeyFault> {
    let (_, identifier) = Oid::from_der(der).ok()?;
    let identifier = identifier.to_id_string();
    if TAKEN.contains(&identifier.as_str()) {
        return None;
    }
    let named = NAMES.iter().find(|(known, _)| *known == identifier);
    Some(KeyFault::Kind(named.map_or(identifier, |(_, name)| (*name).to_owned())))
}

/// Content of a sequence.
fn sequence(mut der: &[u8]) -> Option<&[u8]> {
    element(&mut der).filter(|element| element.tag() == Tag::Sequence).map(|element| element.data)
}

/// Takes the first element off.
fn element<'d>(der: &mut &'d [u8]) -> Option<Any<'d>> {
    let (rest, element) = Any::from_der(der).ok()?;
    *der = rest;
    Some(element)
}

/// Name of what a file lacks that has no section of [`KINDS`].
pub(super) const PRIVATE_KEY: &str = "private key";

/// Kinds of sections that are private keys as rustls takes them, or were before they were encrypted.
const KINDS: [&str; 4] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", ENCRYPTED];
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// Sizes of RSA keys that aws-lc-rs takes, in bits.
const LEAST_RSA: usize = 2_048;
const MOST_RSA: usize = 8_192;

const RSA: &str = "1.2.840.113549.1.1.1";
const ON_CURVE: &str = "1.2.840.10045.2.1";

/// P-256, P-384, P-521 and Ed25519.
const TAKEN: [&str; 4] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35", "1.3.101.112"];

/// Names of kinds that are met and are not taken.
const NAMES: [(&str, &str); 9] = [
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.113", "Ed448"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];
