//! Verifies a token: signature, time limits, issuer, audience.

use std::collections::HashSet;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::Value;

use super::keys::KeySet;

/// Claims of a token, by name.
pub(super) type Claims = serde_json::Map<String, Value>;

/// The rules that tokens are held to.
#[derive(Debug)]
pub(super) struct TokenRules {
    validations: Vec<(Algorithm, Validation)>,
    required: Vec<String>,
}

/// Rules for tokens beyond their signature, as configured.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// Issuers that are accepted; any issuer when there are none here.
    pub(super) issuers: Vec<String>,
    /// Audiences, one of which the token must name. `aud` is not looked at when there are none here.
    pub(super) audience: Vec<String>,
    /// Tolerated difference of clocks, in seconds.
    pub(super) leeway: u64,
    /// Claims that a token must have.
    pub(super) required: Vec<String>,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum TokenRefused {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    #[error("the token's key is not known")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has no usable claim {0:?}")]
    Claim(String),
}

impl TokenRefused {
    /// The word for it in the access log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim(_) => "claim_missing",
        }
    }
}

impl TokenRules {
    /// The rules for tokens under these terms.
    pub(super) fn new(terms: Terms) -> Self {
        let every = [
            Algorithm::HS256,
            Algorithm::HS384,
            Algorithm::HS512,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
            Algorithm::EdDSA,
        ];
        let validations = every.map(|algorithm| (algorithm, validation(algorithm, &terms)));
        Self { validations: validations.into(), required: terms.required }
    }

    /// Verifies a token with the keys that may have signed it, and returns its claims.
    ///
    /// # Errors
    /// See [`TokenRefused`].
    pub(super) fn verify(&self, token: &str, keys: &KeySet) -> Result<Claims, TokenRefused> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenRefused::Malformed);
        }
        let header = decode_header(token).map_err(|error| match error.kind() {
            // `alg` is read as one of the algorithms that there are: `none`, say, is not.
            ErrorKind::Json(error) if error.is_data() => TokenRefused::Algorithm,
            _ => TokenRefused::Malformed,
        })?;
        // RFC 7515 §4.1.11: extensions that must be understood, and none is.
        if header.crit.is_some() {
            return Err(TokenRefused::Malformed);
        }
        let known = self.validations.iter().find(|(algorithm, _)| *algorithm == header.alg);
        let Some((_, validation)) = known.filter(|_| keys.verifies(header.alg)) else {
            return Err(TokenRefused::Algorithm);
        };
        let id = header.kid.as_deref();
        let mut outcome = Err(TokenRefused::UnknownKey);
        for key in keys.candidates(id, header.alg) {
            outcome = decode::<Claims>(token, key, validation).map_err(|error| refused(error.kind()));
            if !matches!(outcome, Err(TokenRefused::Signature)) {
                break;
            }
        }
        let claims = match outcome {
            // Signed by none of those without an id: whatever key the id stands for is not there.
            Err(TokenRefused::Signature) if id.is_some_and(|id| keys.lacks(id)) => {
                return Err(TokenRefused::UnknownKey);
            }
            outcome => outcome?.claims,
        };
        match self.required.iter().find(|name| claim(&claims, name).is_none()) {
            Some(missing) => Err(TokenRefused::Claim(missing.clone())),
            None => Ok(claims),
        }
    }
}

/// The claim of this name. Where there is none, the dots of a name lead into claims within claims.
pub(super) fn claim<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    let exact = claims.get(name);
    let nested = || {
        let (first, rest) = name.split_once('.')?;
        claim(claims.get(first)?.as_object()?, rest)
    };
    exact.or_else(nested).filter(|value| !value.is_null())
}

/// Moment at which a token expires, in seconds since 1970; `None` for a token that does not expire.
pub(super) fn expires(claims: &Claims) -> Option<u64> {
    let exp = claims.get("exp")?;
    // NumericDate may have a fraction (RFC 7519 §2).
    exp.as_u64().or_else(|| exp.as_f64().map(|seconds| seconds as u64))
}

fn validation(algorithm: Algorithm, terms: &Terms) -> Validation {
    let mut validation = Validation::new(algorithm);
    // Claims that are checked must be there, and be of their type: the library passes over those that are not.
    let checked = [
        ("exp", terms.required.iter().any(|name| name == "exp")),
        ("iss", !terms.issuers.is_empty()),
        ("aud", !terms.audience.is_empty()),
    ];
    let checked = checked.into_iter().filter(|(_, is_checked)| *is_checked);
    validation.required_spec_claims = checked.map(|(name, _)| name.to_owned()).collect::<HashSet<_>>();
    validation.leeway = terms.leeway;
    validation.validate_nbf = true;
    validation.validate_aud = !terms.audience.is_empty();
    if !terms.audience.is_empty() {
        validation.set_audience(&terms.audience);
    }
    if !terms.issuers.is_empty() {
        validation.set_issuer(&terms.issuers);
    }
    validation
}

fn refused(kind: &ErrorKind) -> TokenRefused {
    match kind {
        ErrorKind::InvalidSignature => TokenRefused::Signature,
        ErrorKind::ExpiredSignature => TokenRefused::Expired,
        ErrorKind::ImmatureSignature => TokenRefused::NotYet,
        ErrorKind::InvalidIssuer => TokenRefused::Issuer,
        ErrorKind::InvalidAudience => TokenRefused::Audience,
        ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => {
            TokenRefused::Claim(name.clone())
        }
        ErrorKind::InvalidAlgorithm => TokenRefused::Algorithm,
        _ => TokenRefused::Malformed,
    }
}

/// Most bytes of a token. Many HTTP servers take no more than 8 KiB of headers.
const LONGEST_TOKEN: usize = 16 * 1024;
