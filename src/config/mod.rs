//! The configuration file: read strictly, explained when wrong, and given out as plain values.
//!
//! [`parse`] turns text into a [`Config`] or into every [`Problem`] of the text at once; [`load`] reads the text
//! from a file, which with [`Stamp::of`] is the only I/O of this module. docs/configuration.md is the reference of the
//! keys.

mod daemon_keys;
mod file;
mod fixed;
mod model;
mod named_files;
mod secrets;
mod sections;
mod settings;
mod source;
mod yaml;

pub(crate) use daemon_keys::{DaemonKey, folder_of};
pub use file::{LoadError, Loaded, MAX_BYTES, control_sock_of, load, load_by, parse};
pub use model::*;
pub use secrets::{SecretError, password, tokens};
pub(crate) use sections::backends::{MAX_BACKENDS, MAX_TOTAL_WEIGHT};
pub use sections::hooks::{KnownHooks, NoHooks};
pub use sections::keys::keys;
pub(crate) use sections::matching::wrong_with_backend_name;
pub use sections::members::read_members;
pub use settings::{Cidr, Period, Settings, Size};
pub use source::{ConfigFile, Stamp, open_regular};
pub(crate) use yaml::address::canonical_network;
pub(crate) use yaml::node::{Content, Node, read as read_yaml};
pub use yaml::problem::{Problem, Problems, Severity};
pub(crate) use yaml::problem::{printable, quoted};
