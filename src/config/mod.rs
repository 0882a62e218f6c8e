//! The configuration file: read strictly, explained when wrong, and handed on as plain values.
//!
//! [`parse`] turns text into a [`Config`] or into every [`Problem`] of the text at once; [`load`] reads the text
//! from a file, which with [`Stamp::of`] is the only I/O of this module. docs/configuration.md is the reference of the keys.

mod access_log;
mod address;
mod affinity;
mod core_schema;
mod drain;
mod file;
mod fixed;
mod health;
mod hooks;
mod keys;
mod limits;
mod listeners;
mod matching;
mod model;
mod node;
mod pingora_keys;
mod problem;
mod routes;
mod scalar;
mod settings;
mod source;
mod upstreams;
mod value;

pub use file::{LoadError, Loaded, MAX_BYTES, load, parse};
pub use hooks::{KnownHooks, NoHooks};
pub use keys::keys;
pub use model::*;
pub use problem::{Problem, Problems, Severity};
pub use settings::{Cidr, Period, Settings, Size};
pub use source::{Source, Stamp};
