//! The hooks that the golden files have: settings of every shape that serde reads.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use longhaul::config::{Cidr, KnownHooks, Period, Problem, Settings, Size};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A program with five hooks.
pub(crate) struct Program;

impl KnownHooks for Program {
    fn names(&self) -> Vec<&str> {
        vec!["origin", "jwt", "rate_limit", "headers", "shapes"]
    }

    fn check(&self, name: &str, settings: &Settings) -> Result<(), Vec<Problem>> {
        match name {
            "jwt" => read::<Jwt>(settings),
            "rate_limit" => read::<RateLimit>(settings),
            "headers" => read::<Headers>(settings),
            "shapes" => read::<Shapes>(settings),
            _ => read::<()>(settings),
        }
    }
}

fn read<T: DeserializeOwned>(settings: &Settings) -> Result<(), Vec<Problem>> {
    settings.read::<T>().map(|_| ())
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Jwt {
    secret_file: String,
    #[serde(default)]
    algorithms: Vec<Algorithm>,
    leeway: Option<Period>,
    #[serde(default)]
    claims: BTreeMap<String, Claim>,
}

#[derive(Deserialize)]
enum Algorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Claim {
    header: String,
    #[serde(default)]
    required: bool,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct RateLimit {
    messages: Rate,
    burst: Option<NonZeroU32>,
    bytes: Option<Size>,
    #[serde(default)]
    exempt: Vec<Cidr>,
}

/// `20/s`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Rate;

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_suffix("/s").and_then(|number| number.parse::<u32>().ok());
        number.map(|_| Self).ok_or_else(|| format!("`{text}` is not a rate\n  expected: a rate such as `20/s`"))
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Headers {
    #[serde(default)]
    set: BTreeMap<String, String>,
    status: Option<BTreeMap<u16, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Shapes {
    whole: Option<i8>,
    huge: Option<u128>,
    number: Option<f64>,
    letter: Option<char>,
    pair: Option<(u8, bool)>,
    action: Option<Action>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only whether it can be read matters")]
enum Action {
    Drop,
    Close(u16),
    Reply { text: String, code: u16 },
}
