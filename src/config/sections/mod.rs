//! The sections of the file: one reader for each.

pub(in crate::config) mod access_log;
pub(in crate::config) mod affinity;
pub(in crate::config) mod drain;
pub(in crate::config) mod health;
pub(in crate::config) mod hooks;
pub(in crate::config) mod limits;
pub(in crate::config) mod listeners;
pub(in crate::config) mod matching;
pub(in crate::config) mod pingora_keys;
pub(in crate::config) mod routes;
pub(in crate::config) mod upstreams;
