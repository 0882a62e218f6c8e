//! The settings of `rate_limit`: the key that is counted by, and the limits.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};

use crate::config::{Period, Size};

/// Settings under `with:`. docs/hooks/rate_limit.md is the reference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Settings {
    /// Key by which is counted; by default the client's address.
    #[serde(default)]
    pub by: By,
    /// Rate of requests, upgrades included. No limit if left out; the same holds for the limits that follow.
    pub requests: Option<Rate>,
    /// Rate of WebSocket upgrades.
    pub upgrades: Option<Rate>,
    /// Most tunnels that are open at the same time.
    pub tunnels: Option<NonZeroU32>,
    /// Rate of messages from clients.
    pub messages: Option<Rate>,
    /// Rate of bytes in messages from clients.
    pub bytes: Option<ByteRate>,
    /// Fate of a message over the limit.
    #[serde(default)]
    pub on_excess: OnExcess,
    /// The longest time that `on_excess: delay` holds a message back; 4 s by default.
    #[serde(default = "max_delay")]
    pub max_delay: Period,
    /// Most keys remembered for each limit; 1 to 10,000,000, by default 100,000.
    #[serde(default = "max_keys")]
    pub max_keys: NonZeroU32,
}

/// The default is below the 5 s that a call of a hook may take by default.
fn max_delay() -> Period {
    Period(Duration::from_secs(4))
}

fn max_keys() -> NonZeroU32 {
    NonZeroU32::new(100_000).expect("is not zero")
}

/// Fate of a message over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExcess {
    /// The tunnel ends with Close 1008.
    #[default]
    Close,
    /// Drops the message. The tunnel goes on.
    Drop,
    /// The message waits. Meanwhile nothing more is read from its sender.
    Delay,
}

/// Key by which is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// One count for each client address, or for each network of addresses.
    ClientIp(Prefixes),
    /// One count for each value of a header.
    Header(String),
    /// One count for each value of a cookie.
    Cookie(String),
    /// One count for each value of a query argument.
    Query(String),
    /// One count for the whole route.
    Route,
    /// One count for each tunnel.
    Tunnel,
}

/// Length of the prefix of an address that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Prefixes {
    /// Leading bits of an IPv4 address: 1 to 32, by default 32.
    #[serde(default = "all_of_ipv4")]
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address: 1 to 128, by default 64, which is what one customer is given.
    #[serde(default = "network_of_ipv6")]
    pub ipv6_prefix: u8,
}

fn all_of_ipv4() -> u8 {
    32
}

fn network_of_ipv6() -> u8 {
    64
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { ipv4_prefix: all_of_ipv4(), ipv6_prefix: network_of_ipv6() }
    }
}

impl Default for By {
    fn default() -> Self {
        Self::ClientIp(Prefixes::default())
    }
}

/// [`By`] where it is a mapping with one key.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum ByMapping {
    ClientIp(Prefixes),
    Header(String),
    Cookie(String),
    Query(String),
}

const BY: &[&str] = &["client_ip", "header", "cookie", "query", "route", "tunnel"];

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;

        impl<'de> Visitor<'de> for Of {
            type Value = By;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`client_ip`, `route`, `tunnel`, or a mapping such as `header: x-api-key`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<By, E> {
                match word {
                    "client_ip" => Ok(By::default()),
                    "route" => Ok(By::Route),
                    "tunnel" => Ok(By::Tunnel),
                    "header" | "cookie" | "query" => {
                        Err(E::custom(format!("which {word}?\n  expected: `{word}: NAME`")))
                    }
                    _ => Err(E::unknown_variant(word, BY)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<By, A::Error> {
                let by = match ByMapping::deserialize(MapAccessDeserializer::new(&mut map))? {
                    ByMapping::ClientIp(prefixes) => By::ClientIp(prefixes),
                    ByMapping::Header(name) => By::Header(name),
                    ByMapping::Cookie(name) => By::Cookie(name),
                    ByMapping::Query(name) => By::Query(name),
                };
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(by),
                    Some(_) => Err(A::Error::custom("things are counted by one key; name the hook twice for two")),
                }
            }
        }

        deserializer.deserialize_any(Of)
    }
}

/// A number in a period, and a number at once: `100/s`, `100/s burst 200`. The period is `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Amount that a period brings: 1 to 1,000,000 a second.
    pub count: u64,
    /// The period.
    pub period: Duration,
    /// Amount that may come at once after a pause; by default the amount of a period.
    pub burst: u64,
}

/// [`Rate`] in bytes: `64KiB/s`, `64KiB/s burst 1MiB`; up to 10 GiB a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate(pub Rate);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a number and a period, such as `100/s` or `10/m burst 20`";
        deserializer.deserialize_str(Text { expected: EXPECTED, most: 1_000_000, read: |text: &str| text.parse().ok() })
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a size and a period, such as `64KiB/s` or `64KiB/s burst 1MiB`";
        let read = |text: &str| {
            let size: Result<Size, serde::de::value::Error> = Size::deserialize(text.into_deserializer());
            size.ok().map(|size| size.0)
        };
        deserializer.deserialize_str(Text { expected: EXPECTED, most: 10 << 30, read }).map(Self)
    }
}

/// Reads a rate whose numbers are read by `read`, and of which there may be `most` in a second.
struct Text<R> {
    expected: &'static str,
    most: u64,
    read: R,
}

impl<R: Fn(&str) -> Option<u64>> Visitor<'_> for Text<R> {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Rate, E> {
        let says = |what: &str| E::custom(format!("{what}\n  expected: {}", self.expected));
        let mut words = text.split_ascii_whitespace();
        let rate = words.next().and_then(|rate| rate.split_once('/'));
        let (count, period) = rate.ok_or_else(|| says(&format!("`{text}` is not a rate")))?;
        let number = |text: &str| {
            let number = (self.read)(text).ok_or_else(|| says(&format!("`{text}` does not fit here")))?;
            if number == 0 { Err(says("nothing would ever be let through")) } else { Ok(number) }
        };
        let period = match period {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            other => return Err(says(&format!("`{other}` is not a period: it is s, m, h or d"))),
        };
        let count = number(count)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, ..) => count,
            (Some("burst"), Some(burst), None) => number(burst)?,
            _ => return Err(says(&format!("`{text}` is not a rate"))),
        };
        if count / period > self.most {
            return Err(says("more in a second than can be told apart"));
        }
        if u128::from(burst) * u128::from(period) > u128::from(count) * u128::from(LONGEST_RECOVERY.as_secs()) {
            return Err(says("the burst would take more than a year to come again"));
        }
        Ok(Rate { count, period: Duration::from_secs(period), burst })
    }
}

/// The longest time until a burst is allowed again. The limiter counts nanoseconds in 64 bits.
const LONGEST_RECOVERY: Duration = Duration::from_secs(365 * 86_400);
