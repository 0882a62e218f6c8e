//! The listeners of all servers, and which server is the default of each.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::listen::Listen;
use super::scope::NginxScope;
use super::site::ServerBlock;
use crate::convert::model::{Listener, Model, PRIVATE, Tls};

/// Indices of the sites that are the default of one of their sockets.
pub(super) fn defaults(sites: &[ServerBlock<'_>]) -> BTreeSet<usize> {
    let mut defaults = BTreeSet::new();
    for address in addresses(sites) {
        let on = on(sites, address);
        let explicit = on.iter().find(|(_, listen)| listen.is_default);
        defaults.extend(explicit.or(on.first()).map(|(index, _)| *index));
    }
    // Two default servers of different sockets would match the same requests. The first one gets them.
    let serving =
        defaults.into_iter().filter(|index| sites[*index].redirect.is_none() && !sites[*index].routes.is_empty());
    serving.take(1).collect()
}

fn addresses(sites: &[ServerBlock<'_>]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for listen in sites.iter().flat_map(|site| &site.listens) {
        if !addresses.contains(&listen.address) {
            addresses.push(listen.address);
        }
    }
    addresses
}

fn on<'s>(sites: &'s [ServerBlock<'_>], address: SocketAddr) -> Vec<(usize, &'s Listen)> {
    let listens = sites.iter().enumerate().flat_map(|(index, site)| site.listens.iter().map(move |one| (index, one)));
    listens.filter(|(_, listen)| listen.address == address).collect()
}

/// Makes the listeners.
pub(super) fn listeners(sites: &mut [ServerBlock<'_>], model: &mut Model) {
    for address in addresses(sites) {
        let on: Vec<(usize, Listen)> =
            on(sites, address).into_iter().map(|(index, one)| (index, one.clone())).collect();
        let mut listener = Listener::new(address);
        listener.proxy_protocol = on.iter().any(|(_, listen)| listen.proxy_protocol);
        if listener.proxy_protocol && model.process.trusted_proxies.is_empty() {
            let words = "nginx takes PROXY headers from anybody: name the proxies in `trusted_proxies`, for every \
                         private network";
            let line = sites[on[0].0].block.line();
            listener.notes.push(line.unprotected(words));
            model.process.trusted_proxies = PRIVATE.map(str::to_owned).to_vec();
        }
        if on.iter().any(|(_, listen)| listen.tls) {
            let mut indices: Vec<usize> = on.iter().map(|(index, _)| *index).collect();
            // The default server's certificate is the default one.
            indices.sort_by_key(|index| !on.iter().any(|(other, listen)| other == index && listen.is_default));
            let tls = tls(sites, &indices, &mut listener);
            if tls.certificates.is_empty() {
                let line = sites[on[0].0].block.line();
                model.notes.push(line.unprotected(format!("no certificate for {address}: the listener is left out")));
                continue;
            }
            listener.tls = Some(tls);
            listener.hsts = indices.iter().find_map(|index| sites[*index].hsts.clone());
        }
        redirect(sites, &on, &mut listener);
        model.listeners.push(listener);
    }
}

fn redirect(sites: &mut [ServerBlock<'_>], on: &[(usize, Listen)], listener: &mut Listener) {
    let sends = |index: &usize| sites[*index].redirect;
    let serves = |index: &usize| sites[*index].redirect.is_none() && !sites[*index].routes.is_empty();
    let port = on.iter().find_map(|(index, _)| sends(index));
    let Some(port) = port.filter(|_| listener.tls.is_none()) else { return };
    if !on.iter().any(|(index, _)| serves(index)) {
        listener.redirect = Some(port);
        for (index, _) in on {
            let mut notes = std::mem::take(&mut sites[*index].notes);
            listener.notes.append(&mut notes);
        }
        return;
    }
    let senders: Vec<usize> =
        on.iter().map(|(index, _)| *index).filter(|index| sites[*index].redirect.is_some()).collect();
    for index in senders {
        let words = "another server answers on the same socket, a listener sends everybody to https or nobody: these \
                     hosts are served without TLS here";
        let line = sites[index].block.line();
        sites[index].notes.push(line.unprotected(words));
    }
}

fn tls(sites: &[ServerBlock<'_>], indices: &[usize], listener: &mut Listener) -> Tls {
    let mut tls = Tls { only_1_3: true, ..Tls::default() };
    let mut protocols_said = false;
    let mut auths: Vec<Option<(String, bool)>> = Vec::new();
    for index in indices {
        let site = &sites[*index];
        let scope = &site.scope;
        let certificates = scope.all("ssl_certificate").iter().zip(scope.all("ssl_certificate_key"));
        for (certificate, key) in certificates {
            let pair = (certificate.argument(0).to_owned(), key.argument(0).to_owned());
            if pair.0.contains('$') || pair.1.contains('$') || pair.1.contains("engine:") || pair.0.contains("data:") {
                listener.notes.push(certificate.line().left_out("a certificate is a file, without variables"));
            } else if !tls.certificates.contains(&pair) {
                tls.certificates.push(pair);
            }
        }
        let protocols = scope.one("ssl_protocols").map(|directive| directive.arguments.as_slice());
        protocols_said |= protocols.is_some();
        tls.only_1_3 &= protocols.is_some_and(|all| all.iter().all(|one| one == "TLSv1.3") && !all.is_empty());
        if let Some(directive) = scope
            .one("ssl_protocols")
            .filter(|directive| directive.arguments.iter().any(|one| !matches!(one.as_str(), "TLSv1.2" | "TLSv1.3")))
        {
            listener.notes.push(directive.line().changed("TLS 1.2 is the oldest version"));
        }
        if site.redirect.is_none() {
            auths.push(client_auth(scope, listener));
        }
    }
    tls.only_1_3 &= protocols_said;
    tls.client_auth = auths.iter().flatten().max_by_key(|(_, required)| *required).cloned();
    if auths.iter().any(|auth| *auth != tls.client_auth) {
        let line = sites[indices[0]].block.line();
        let words =
            "servers of one socket ask for certificates of clients in different ways: the strictest holds for all";
        listener.notes.push(line.unprotected(words));
    }
    tls
}

fn client_auth(scope: &NginxScope<'_>, listener: &mut Listener) -> Option<(String, bool)> {
    let verify = scope.one("ssl_verify_client")?;
    let mode = verify.argument(0);
    if mode == "off" {
        return None;
    }
    if mode == "optional_no_ca" {
        listener.notes.push(verify.line().left_out("certificates of clients are verified, or not asked for"));
        return None;
    }
    let ca = scope.word("ssl_client_certificate");
    if ca.is_empty() || ca.contains('$') {
        listener
            .notes
            .push(verify.line().unprotected("no `ssl_client_certificate` with the authorities: not asked for"));
        return None;
    }
    Some((ca.to_owned(), mode == "on"))
}
