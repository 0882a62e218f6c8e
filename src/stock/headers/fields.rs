//! Names of headers, and headers with their values, as settings have them.

use std::fmt;

use http::HeaderName;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::template::Template;

/// Headers with their values, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderValues(pub Vec<(HeaderName, Template)>);

/// Names of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<HeaderName>);

/// One name.
struct Name(HeaderName);

impl<'de> Deserialize<'de> for HeaderValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;

        impl<'de> Visitor<'de> for Of {
            type Value = HeaderValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers and their values, such as `X-Client: ${client_ip}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderValues, A::Error> {
                let mut fields: Vec<(HeaderName, Template)> = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    let template = map.next_value()?;
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom(format!("`{name}` is there twice, perhaps in other letter case")));
                    }
                    fields.push((name, template));
                }
                Ok(HeaderValues(fields))
            }
        }

        deserializer.deserialize_map(Of)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<Name>::deserialize(deserializer)?;
        Ok(Self(names.into_iter().map(|Name(name)| name).collect()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = HeaderName::from_bytes(text.as_bytes());
        name.map(Self).map_err(|_| D::Error::custom(format!("`{text}` is not the name of a header")))
    }
}
