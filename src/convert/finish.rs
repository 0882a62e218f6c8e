//! The rules of a Longhaul file that no source has: each address, name and route once, weights within bounds, no way
//! to an upstream without backends.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::fits;
use super::model::{AccessLog, Backend, Keeps, Listener, Model, Route, Upstream};
use super::place::SourceLine;
use crate::config::{MAX_BACKENDS, MAX_TOTAL_WEIGHT};
use crate::counted::counted;

/// Most routes of a file: more than any source states, and a bound for those that rules make together.
const MAX_ROUTES: usize = 20_000;

/// Changes a model until a Longhaul file can state it.
pub(super) fn finish(model: &mut Model) {
    for upstream in &mut model.upstreams {
        backends(upstream);
        weights(upstream);
        checks(upstream);
    }
    names(model);
    files(model);
    without_backends(model);
    routes(model);
    listeners(model);
    model.process.trusted_proxies = once(std::mem::take(&mut model.process.trusted_proxies));
}

/// Keeps the first upstream of each name. Two names of a source may have become one, because characters that a name
/// cannot have were replaced.
fn names(model: &mut Model) {
    let mut seen = HashSet::new();
    let (kept, again): (Vec<_>, Vec<_>) =
        std::mem::take(&mut model.upstreams).into_iter().partition(|upstream| seen.insert(upstream.name.clone()));
    model.upstreams = kept;
    for upstream in again {
        let line = SourceLine::new(&upstream.place, &["upstream", &upstream.name]);
        model.notes.push(line.unprotected("another upstream has this name: routes lead to that one"));
    }
}

/// Leaves out names of files that no system can have, and listeners that then have no certificate.
fn files(model: &mut Model) {
    let mut wrong = Vec::new();
    for upstream in &mut model.upstreams {
        let Some(tls) = &mut upstream.policy.tls else { continue };
        let is_wrong = |file: &String| !fits::file(file);
        let pair_is_wrong = tls.certificate.as_ref().is_some_and(|(cert, key)| is_wrong(cert) || is_wrong(key));
        if pair_is_wrong || tls.ca.as_ref().is_some_and(is_wrong) {
            tls.certificate = tls.certificate.take().filter(|_| !pair_is_wrong);
            tls.ca = tls.ca.take().filter(|file| fits::file(file));
            wrong.push(upstream.place.clone());
        }
    }
    let place = model.routes.first().map(|route| route.place.clone());
    model.listeners.retain_mut(|listener| {
        let Some(tls) = &mut listener.tls else { return true };
        let before = tls.certificates.len();
        tls.certificates.retain(|(cert, key)| fits::file(cert) && fits::file(key));
        // Without these authorities the listener would accept every client.
        let is_open = tls.client_auth.as_ref().is_some_and(|(ca, _)| !fits::file(ca));
        if is_open || tls.certificates.len() < before {
            wrong.extend(place.clone());
        }
        !is_open && !tls.certificates.is_empty()
    });
    if let Some(AccessLog::File(file)) = &model.process.access_log
        && !fits::file(file)
    {
        model.process.access_log = None;
        wrong.extend(place);
    }
    for place in wrong {
        let line = SourceLine::new(&place, &["a file"]);
        model.notes.push(line.unprotected("a name that no file has: what needs it is left out"));
    }
}

fn once(texts: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

/// Merges backends that stand twice, with the sum of their weights.
fn backends(upstream: &mut Upstream) {
    let line = SourceLine::new(&upstream.place, &["upstream", &upstream.name]);
    let mut kept: Vec<Backend> = Vec::new();
    let mut twice = 0;
    let mut left_out = 0;
    for backend in std::mem::take(&mut upstream.backends) {
        let same = |other: &&mut Backend| {
            let identity = |one: &Backend| one.name.clone().unwrap_or_else(|| one.address.clone());
            canonical(&other.address) == canonical(&backend.address) || identity(other) == identity(&backend)
        };
        if let Some(other) = kept.iter_mut().find(same) {
            other.weight = other.weight.saturating_add(backend.weight);
            twice += 1;
        } else if kept.len() >= MAX_BACKENDS {
            left_out += 1;
        } else {
            kept.push(backend);
        }
    }
    upstream.backends = kept;
    if twice > 0 {
        upstream.notes.push(line.changed("a backend stands once, with its weights together"));
    }
    if left_out > 0 {
        upstream
            .notes
            .push(line.left_out(format!("{} beyond the {MAX_BACKENDS} of an upstream", counted(left_out, "backend"))));
    }
}

/// The canonical form of an address.
fn canonical(address: &str) -> String {
    let parsed = address.parse::<SocketAddr>();
    let ip = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port()).to_string();
    parsed.map_or_else(|_| address.to_ascii_lowercase(), ip)
}

/// Brings weights within bounds, in nearly the same ratio.
fn weights(upstream: &mut Upstream) {
    let most = upstream.backends.iter().map(|backend| u64::from(backend.weight)).max().unwrap_or_default();
    let total: u64 = upstream.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    // Rounding up may add one for each backend.
    let room = MAX_TOTAL_WEIGHT.saturating_sub(upstream.backends.len() as u64).max(1);
    let divisor = most.div_ceil(u64::from(u16::MAX)).max(total.div_ceil(room));
    if divisor <= 1 {
        return;
    }
    for backend in &mut upstream.backends {
        let weight = u64::from(backend.weight).div_ceil(divisor);
        backend.weight = u32::try_from(weight).unwrap_or(u32::MAX);
    }
    let line = SourceLine::new(&upstream.place, &["upstream", &upstream.name]);
    upstream.notes.push(line.changed(format!("weights are divided by {divisor}, for they take room on the ring")));
    if let Keeps::Yes(_) = upstream.keeps {
        upstream.keeps = Keeps::No("weights had to be divided".to_owned());
    }
}

/// Brings the times of checks within bounds. A timeout is at most as long as the interval.
fn checks(upstream: &mut Upstream) {
    let Some(health) = &mut upstream.health else { return };
    let clamp = |time: Option<u64>, least| time.map(|time: u64| time.clamp(least, 86_400_000));
    health.interval = clamp(health.interval, 10);
    health.timeout = clamp(health.timeout, 1);
    let interval = health.interval.unwrap_or(2_000);
    if health.timeout.unwrap_or(1_000) > interval {
        health.timeout = Some(interval);
    }
}

/// Leaves out upstreams without a backend, and the routes to them.
fn without_backends(model: &mut Model) {
    let usable =
        |upstream: &Upstream| upstream.discover.is_some() || upstream.backends.iter().any(|backend| backend.weight > 0);
    let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut model.upstreams).into_iter().partition(usable);
    model.upstreams = kept;
    for upstream in gone {
        let line = SourceLine::new(&upstream.place, &["upstream", &upstream.name]);
        model.notes.extend(upstream.notes);
        model.notes.push(line.left_out("no backend that can be used: its routes are left out, and answer 404"));
    }
    let names: BTreeSet<&str> = model.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let (kept, gone): (Vec<_>, Vec<_>) =
        std::mem::take(&mut model.routes).into_iter().partition(|route| names.contains(route.upstream.as_str()));
    model.routes = kept;
    model.notes.extend(gone.into_iter().flat_map(|route| route.notes));
}

/// Keeps the first route of each host and path.
fn routes(model: &mut Model) {
    let mut seen: HashMap<(Option<String>, String), usize> = HashMap::new();
    let mut kept: Vec<Route> = Vec::new();
    for mut route in std::mem::take(&mut model.routes) {
        let Some(path) = fits::path(&route.path).filter(|_| kept.len() < MAX_ROUTES) else {
            model.notes.append(&mut route.notes);
            let line = SourceLine::new(&route.place, &["route", &route.path]);
            model.notes.push(line.left_out(format!("no path that a route may have, or beyond {MAX_ROUTES} routes")));
            continue;
        };
        route.path = path;
        let key = (route.host.clone(), route.path.clone());
        let Some(first) = seen.get(&key).map(|index| &kept[*index]) else {
            seen.insert(key, kept.len());
            kept.push(route);
            continue;
        };
        model.notes.append(&mut route.notes);
        if first.upstream != route.upstream || first.hooks != route.hooks {
            let line = SourceLine::new(&route.place, &[route.host.as_deref().unwrap_or("any host"), &route.path]);
            let words = format!("{} has a route for the same host and path, on every listener", first.place);
            // The route that is left out had hooks that the kept one has not: what they protected may be open now.
            let is_guarded = !route.hooks.is_empty() && first.hooks != route.hooks;
            model.notes.push(if is_guarded { line.unprotected(words) } else { line.left_out(words) });
        }
    }
    model.routes = kept;
}

/// Merges listeners that the system would not bind beside each other: the one with the wider address serves the clients
/// of both.
fn listeners(model: &mut Model) {
    let mut kept: Vec<Listener> = Vec::new();
    for listener in std::mem::take(&mut model.listeners) {
        let other = kept.iter_mut().find(|other| overlap(other, &listener));
        let Some(other) = other else {
            kept.push(listener);
            continue;
        };
        let (mine, theirs) = (listener.address, other.address);
        let same = (other.tls.is_some(), other.redirect, other.proxy_protocol)
            == (listener.tls.is_some(), listener.redirect, listener.proxy_protocol);
        let ip = wider(mine.ip(), theirs.ip());
        other.address.set_ip(ip);
        if let (Some(tls), Some(more)) = (&mut other.tls, listener.tls) {
            let fresh: Vec<_> = more.certificates.into_iter().filter(|pair| !tls.certificates.contains(pair)).collect();
            tls.certificates.extend(fresh);
        }
        other.notes.extend(listener.notes);
        if !same {
            let place = model.routes.first().map(|route| route.place.clone());
            let line = place.map(|place| SourceLine::new(&place, &["listen", &mine.to_string()]));
            let words = format!("{mine} and {theirs} cannot both be bound: the first one's TLS and redirect hold");
            model.notes.extend(line.map(|line| line.unprotected(words)));
        }
    }
    // After a merge a listener may be wider than a third one.
    let mut again = false;
    for (index, one) in kept.iter().enumerate() {
        again |= kept[index + 1..].iter().any(|other| overlap(one, other));
    }
    model.listeners = kept;
    if again {
        listeners(model);
    }
}

fn overlap(one: &Listener, other: &Listener) -> bool {
    let (a, b) = (one.address.ip().to_canonical(), other.address.ip().to_canonical());
    let all = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let all_v4 = IpAddr::from([0, 0, 0, 0]);
    one.address.port() == other.address.port()
        && (a == b || a == all || b == all || a == all_v4 && b.is_ipv4() || b == all_v4 && a.is_ipv4())
}

fn wider(one: IpAddr, other: IpAddr) -> IpAddr {
    let all = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let all_v4 = IpAddr::from([0, 0, 0, 0]);
    let is = |ip| one.to_canonical() == ip || other.to_canonical() == ip;
    match () {
        () if is(all) => all,
        () if is(all_v4) => all_v4,
        () => one,
    }
}
