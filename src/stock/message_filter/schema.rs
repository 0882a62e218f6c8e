//! JSON Schema, where the library is built with it (feature `json-schema`).

use std::path::Path;

/// Why a message does not fit.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "json-schema"), expect(dead_code, reason = "without schemas nothing misfits"))]
pub(super) enum Misfit {
    NotJson,
    /// The place that does not fit, as a JSON Pointer (RFC 6901).
    At(String),
}

pub(super) use implementation::Schema;

#[cfg(feature = "json-schema")]
mod implementation {
    use std::fs;

    use jsonschema::{PatternOptions, Validator};
    use serde_json::Value;

    use super::{Misfit, Path};

    /// A JSON Schema, of the draft that its `$schema` names, else 2020-12.
    pub(crate) struct Schema(Validator);

    impl Schema {
        /// Reads a schema that stands in one file. Its patterns are such as find in linear time.
        pub(crate) fn read(file: &Path) -> Result<Self, String> {
            let at = file.display();
            let size = fs::metadata(file).map_err(|why| format!("{at} cannot be read: {why}"))?.len();
            if size > MAX_BYTES {
                return Err(format!("{at} is larger than 16 MiB"));
            }
            let text = fs::read(file).map_err(|why| format!("{at} cannot be read: {why}"))?;
            let schema: Value = serde_json::from_slice(&text).map_err(|why| format!("{at} is not JSON: {why}"))?;
            let options = jsonschema::options().offline().with_pattern_options(PatternOptions::regex());
            let validator = options.build(&schema);
            validator.map(Self).map_err(|why| format!("{at} is not a schema, at `{}`: {why}", why.instance_path()))
        }

        pub(crate) fn check(&self, payload: &[u8]) -> Result<(), Misfit> {
            let value: Value = serde_json::from_slice(payload).map_err(|_| Misfit::NotJson)?;
            self.0.validate(&value).map_err(|why| Misfit::At(why.instance_path().to_string()))
        }
    }

    /// A schema for people to write.
    const MAX_BYTES: u64 = 16 << 20;
}

#[cfg(not(feature = "json-schema"))]
mod implementation {
    use super::{Misfit, Path};

    /// No value of it exists.
    pub(crate) enum Schema {}

    impl Schema {
        pub(crate) fn read(_: &Path) -> Result<Self, String> {
            Err("this program is built without JSON Schema (the feature `json-schema` of longhaul)".into())
        }

        pub(crate) fn check(&self, _: &[u8]) -> Result<(), Misfit> {
            match *self {}
        }
    }
}
