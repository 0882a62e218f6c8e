//! Members of upstreams from real sources: what comes and goes, what a broken source changes, and what is kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod api_server;
mod cluster;
mod dns;
mod etcd;
mod etcd_cluster;
mod etcd_server;
mod file;
mod kubernetes;
mod kubernetes_access;
mod lab;
mod name_server;
mod offline;
mod push;
mod replicas;
