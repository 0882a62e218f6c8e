//! The sections of the file: one reader for each.

pub(crate) mod access_log;
pub(crate) mod affinity;
mod check_request;
pub(crate) mod client_limits;
pub(crate) mod drain;
pub(crate) mod health;
pub(crate) mod hooks;
mod issue_cookie;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod listener_tls;
pub(crate) mod listeners;
pub(crate) mod matching;
pub(crate) mod pingora_keys;
pub(crate) mod routes;
mod upstream_tls;
pub(crate) mod upstreams;
