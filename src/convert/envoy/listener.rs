//! Listeners: sockets, TLS, and the HTTP connection manager behind them.

use std::net::{IpAddr, SocketAddr};

use super::cluster::Clusters;
use super::tree::At;
use super::{http, tls};
use crate::convert::model::{Listener, Model, PRIVATE};

/// Keys of a listener that are read, or need nothing.
const KNOWN: &[&str] = &[
    "address",
    "filter_chains",
    "listener_filters",
    "additional_addresses",
    "per_connection_buffer_limit_bytes",
    "listener_filters_timeout",
    "traffic_direction",
    "stat_prefix",
    "default_filter_chain",
    "enable_reuse_port",
    "socket_options",
];

pub(super) fn read(listener: &At<'_>, clusters: &mut Clusters, model: &mut Model) {
    let line = listener.line();
    listener.others(KNOWN, &mut model.notes, |_| "no equivalent");
    let Some(address) = address(listener) else {
        model.notes.push(line.left_out("no IP address and port: pipes and names are not listened on"));
        return;
    };
    let mut made = Listener::new(address);
    socket_filters(listener, &mut made, model);
    let before = model.routes.len();
    let Some(redirects) = chains(listener, &mut made, clusters, model) else {
        model.notes.push(line.left_out("no HTTP connection manager: the listener is left out"));
        return;
    };
    if redirects && made.tls.is_none() {
        if model.routes.len() == before {
            made.redirect = Some(443);
        } else {
            let words = "a listener sends everybody to https or nobody: these hosts are served without TLS here";
            made.notes.push(line.unprotected(words));
        }
    }
    if made.tls.as_ref().is_some_and(|tls| tls.certificates.is_empty()) {
        let words = "no certificate in a file (SDS and inline ones are not read): the listener is left out";
        model.notes.push(line.unprotected(words));
        return;
    }
    model.listeners.push(made);
}

/// The filter chains; whether they send clients to https, or `None` where none of them serves HTTP.
fn chains(listener: &At<'_>, made: &mut Listener, clusters: &mut Clusters, model: &mut Model) -> Option<bool> {
    let mut redirects = None;
    for chain in listener.items("filter_chains").iter().chain(&listener.get("default_filter_chain")) {
        tls::downstream(chain, made);
        for filter in chain.items("filters") {
            if let Some(config) = filter.typed("HttpConnectionManager") {
                let found = http::read(&config, clusters, model);
                redirects = Some(found || redirects.unwrap_or(false));
            } else {
                let words = "TCP is not proxied, and other filters are none of Longhaul's";
                model.notes.push(filter.line().left_out(words));
            }
        }
    }
    redirects
}

/// `listener_filters`: what looks at a connection before HTTP does.
fn socket_filters(listener: &At<'_>, made: &mut Listener, model: &mut Model) {
    for filter in listener.items("listener_filters") {
        match filter.type_name() {
            "ProxyProtocol" | "envoy.filters.listener.proxy_protocol" => {
                made.proxy_protocol = true;
                if model.process.trusted_proxies.is_empty() {
                    let words = "Envoy takes PROXY headers from anybody: name the proxies in `trusted_proxies`, for \
                                 every private network";
                    made.notes.push(filter.line().unprotected(words));
                    model.process.trusted_proxies = PRIVATE.map(str::to_owned).to_vec();
                }
            }
            "TlsInspector" | "envoy.filters.listener.tls_inspector" | "HttpInspector" => {}
            _ => made.notes.push(filter.line().left_out("no equivalent")),
        }
    }
}

fn address(listener: &At<'_>) -> Option<SocketAddr> {
    let socket = listener.way(&["address", "socket_address"])?;
    let ip: IpAddr = socket.word("address").parse().ok()?;
    let port = socket.number("port_value").and_then(|port| u16::try_from(port).ok())?;
    (port != 0).then(|| SocketAddr::new(ip, port))
}
