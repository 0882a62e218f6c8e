//! Certificates of listeners as `longhaul check` lists them: which names each covers, and which hosts none covers.

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::config::{Config, HostPattern, Listener, Route};
use crate::tls;
use crate::tls::certificates::{Certificate, Lapsed};

/// Lines about every certificate of a configuration that was checked, and about hosts of routes that none covers. Empty
/// where no listener speaks TLS.
pub(super) fn listing(config: &Config) -> String {
    let mut text = String::new();
    let loaded: Vec<_> = config.listeners.iter().filter_map(|listener| Some((listener, load(listener)?))).collect();
    for (listener, certificates) in &loaded {
        for (index, certificate) in certificates.iter().enumerate() {
            let default = if index == 0 { ", the default" } else { "" };
            let names = if certificate.names.is_empty() { "no name".into() } else { certificate.names.join(", ") };
            let until = humantime::format_rfc3339_seconds(certificate.not_after);
            let file = certificate.file.display();
            line(&mut text, format_args!("{}: {file} covers {names}; valid until {until}{default}", listener.address));
        }
    }
    for host in uncovered(&config.routes, &loaded) {
        line(
            &mut text,
            format_args!("no certificate covers {host}: clients that come by TLS refuse the default one for it"),
        );
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing into a String cannot fail");
}

/// The certificates of a listener; `None` of a plain one. A file that changed since it was checked is left out.
fn load(listener: &Listener) -> Option<Vec<Certificate>> {
    let (provider, now) = (tls::provider(), SystemTime::now());
    let pairs = listener.tls.as_ref()?.certificates.iter();
    Some(
        pairs
            .filter_map(|pair| Certificate::load(&pair.cert, &pair.key, &provider, now, &Lapsed::Taken).ok())
            .collect(),
    )
}

/// Hosts of routes that no certificate of any TLS listener covers, in the order of the routes and each once.
fn uncovered(routes: &[Route], loaded: &[(&Listener, Vec<Certificate>)]) -> Vec<String> {
    let mut hosts = Vec::new();
    if loaded.is_empty() {
        return hosts;
    }
    let is_covered = |host: &str| loaded.iter().any(|(_, all)| all.iter().any(|one| one.covers(host)));
    for route in routes {
        let host = match &route.host {
            HostPattern::Exact(host) if !is_covered(host) => host.clone(),
            // A wildcard certificate stands for one label, and so covers the part of the route that is used most.
            HostPattern::Wildcard(parent)
                if !loaded.iter().any(|(_, all)| all.iter().any(|one| is_below(one, parent))) =>
            {
                format!("*.{parent}")
            }
            _ => continue,
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Tells if a certificate is for any name below `parent`.
fn is_below(certificate: &Certificate, parent: &str) -> bool {
    certificate.names.iter().any(|name| name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')))
}
