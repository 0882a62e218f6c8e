//! The configuration file: read strictly, explained when wrong, and given out as plain values.
//!
//! [`parse`] turns text into a [`Config`] or into every [`Problem`] of the text at once; [`load`] reads the text
//! from a file, which with [`Stamp::of`] is the only I/O of this module. docs/configuration.md is the reference of the
//! keys.

mod file;
mod fixed;
mod limits;
mod listener;
mod model;
mod named_files;
mod sections;
mod settings;
mod source;
mod yaml;

pub use file::{LoadError, Loaded, MAX_BYTES, load, parse};
pub use limits::{HeadLimits, KeepAlive, Limits};
pub use model::*;
pub use sections::hooks::{KnownHooks, NoHooks};
pub use sections::keys::keys;
pub use settings::{Cidr, Period, Settings, Size};
pub use source::{Source, Stamp};
pub use yaml::problem::{Problem, Problems, Severity};
