//! Types for settings that are written like the file's own values: durations, sizes and ranges of addresses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::config::yaml::address::network;
use crate::config::yaml::node::Node;
use crate::config::yaml::problem::{Problem, Report};
use crate::config::yaml::scalar::{DurationBounds, SIZE, duration_in, size_in};
use crate::config::yaml::value::Value;

/// A duration with its unit, `500ms`, `30s`, `5m` or `1d`; 0s to 365d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// A number of bytes with its unit, `512B`, `64KiB` or `1MB`; 1B to 1TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A range of addresses without bits beyond its prefix, `10.0.0.0/8`; a single address stands for itself alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(pub IpNet);

const PERIOD: DurationBounds =
    DurationBounds { least: Duration::ZERO, most: Duration::from_secs(365 * 86_400), example: "5m" };

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |value: &Value<'_>| duration_in(value, &PERIOD, PERIOD.expected()).map(Self);
        deserializer.deserialize_str(Text { expected: &PERIOD.expected(), read })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |value: &Value<'_>| size_in(value, SIZE.to_owned()).map(Self);
        deserializer.deserialize_str(Text { expected: SIZE, read })
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |value: &Value<'_>| {
            let mut report = Report::default();
            network(value, &mut report).map(Self).ok_or_else(|| report.close().into_list().remove(0))
        };
        deserializer.deserialize_str(Text { expected: "a range of addresses, such as `10.0.0.0/8`", read })
    }
}

/// Reads a text like a value of the file; the problem, if any, becomes serde's error text.
struct Text<'e, R> {
    expected: &'e str,
    read: R,
}

impl<T, R: FnOnce(&Value<'_>) -> Result<T, Problem>> Visitor<'_> for Text<'_, R> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let node = Arc::new(Node::loose(text));
        (self.read)(&Value::root(&node)).map_err(|problem| E::custom(problem.without_place()))
    }
}
