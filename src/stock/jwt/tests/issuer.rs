//! Issuers of tokens with keys of their own.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use serde_json::Value;
use tempfile::TempDir;

/// Signs tokens by one algorithm, with a new key (RSA: the one that the test process has).
pub(super) struct Issuer {
    pub(super) algorithm: Algorithm,
    signing: EncodingKey,
    /// The public key in PEM form; the secret where there is none.
    pub(super) public: String,
    folder: TempDir,
}

/// One RSA key for all tests: making one takes a second.
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

impl Issuer {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let (signing, public) = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                let secret: String =
                    std::iter::repeat_with(|| char::from(rand::random_range(b'a'..=b'z'))).take(64).collect();
                (EncodingKey::from_secret(secret.as_bytes()), secret)
            }
            AlgorithmFamily::Rsa => {
                let private: Pkcs8V1Der<'_> = RSA.as_der().unwrap();
                let private = pem("PRIVATE KEY", private.as_ref());
                let public = RSA.public_key().as_der().unwrap();
                (EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(), pem("PUBLIC KEY", public.as_ref()))
            }
            AlgorithmFamily::Ec => {
                let curve = match algorithm {
                    Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                    _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
                };
                let pair = EcdsaKeyPair::generate(curve).unwrap();
                let private = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
                let public = pair.public_key().as_der().unwrap();
                (EncodingKey::from_ec_pem(private.as_bytes()).unwrap(), pem("PUBLIC KEY", public.as_ref()))
            }
            AlgorithmFamily::Ed => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let private = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
                let public = pair.public_key().as_der().unwrap();
                (EncodingKey::from_ed_pem(private.as_bytes()).unwrap(), pem("PUBLIC KEY", public.as_ref()))
            }
        };
        Self { algorithm, signing, public, folder: TempDir::new().unwrap() }
    }

    /// A token with these claims.
    pub(super) fn token(&self, claims: &Value) -> String {
        encode(&Header::new(self.algorithm), claims, &self.signing).unwrap()
    }

    /// A token that names its key.
    pub(super) fn token_by(&self, id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.signing).unwrap()
    }

    /// A token of the usual claims whose header was changed.
    pub(super) fn token_with(&self, change: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        change(&mut header);
        encode(&header, &super::claims(serde_json::json!({})), &self.signing).unwrap()
    }

    /// The key as a JWK of this id.
    pub(super) fn jwk(&self, id: &str) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.signing, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = id.into();
        jwk
    }

    /// A file that holds the key.
    pub(super) fn key_file(&self) -> String {
        self.file("key", &self.public)
    }

    /// A file with this text, for as long as the issuer is there.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A JWK Set of these keys.
pub(super) fn jwks(keys: &[Value]) -> String {
    serde_json::json!({ "keys": keys }).to_string()
}
