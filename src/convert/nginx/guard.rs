//! `allow`, `deny`, `limit_req`, `limit_conn` and protections without an equivalent: the hooks of a route.

use std::collections::HashMap;

use super::header;
use super::lex::Directive;
use super::scope::NginxScope;
use crate::convert::fits;
use crate::convert::model::Hook;
use crate::convert::place::Note;

/// Zones of `limit_req_zone` and `limit_conn_zone` by their names.
#[derive(Debug, Default)]
pub(super) struct Zones<'d> {
    by_name: HashMap<&'d str, &'d Directive>,
}

impl<'d> Zones<'d> {
    pub(super) fn of(directives: &'d [Directive], notes: &mut Vec<Note>) -> Self {
        let mut zones = Self::default();
        for directive in directives.iter().filter(|directive| directive.name.starts_with("limit_")) {
            if !matches!(directive.name.as_str(), "limit_req_zone" | "limit_conn_zone") {
                continue;
            }
            let zone = directive.arguments.iter().find_map(|argument| argument.strip_prefix("zone="));
            let name = zone.and_then(|zone| zone.split(':').next());
            zones.by_name.extend(name.map(|name| (name, directive)));
            if !matches!(directive.argument(0), "$binary_remote_addr" | "$remote_addr") {
                notes.push(directive.line().left_out("limits count by the client's address alone"));
            }
        }
        zones
    }

    /// The directive that makes a zone of clients' addresses.
    fn by_client(&self, name: &str) -> Option<&'d Directive> {
        let zone = self.by_name.get(name).copied()?;
        matches!(zone.argument(0), "$binary_remote_addr" | "$remote_addr").then_some(zone)
    }
}

/// The hooks of a route in `scope`, in the order in which they are asked.
pub(super) fn hooks(
    scope: &NginxScope<'_>,
    zones: &Zones<'_>,
    hsts_is_carried: bool,
    notes: &mut Vec<Note>,
) -> Vec<Hook> {
    let mut hooks = Vec::new();
    if scope.is_protected() {
        hooks.push(Hook::Closed);
    } else {
        hooks.extend(filter(scope, notes));
    }
    hooks.extend(limits(scope, zones, notes));
    let headers = header::headers(scope, hsts_is_carried);
    if !headers.is_empty() {
        hooks.push(Hook::Headers(headers));
    }
    hooks
}

/// nginx goes by the first rule that fits, Longhaul by the most specific one.
fn filter(scope: &NginxScope<'_>, notes: &mut Vec<Note>) -> Option<Hook> {
    let (mut allow, mut deny, mut otherwise_deny) = (Vec::new(), Vec::new(), false);
    let mut seen: Vec<ipnet::IpNet> = Vec::new();
    for rule in scope.all("allow") {
        let allows = rule.name == "allow";
        if rule.argument(0) == "all" {
            otherwise_deny = !allows;
            break;
        }
        let Some(network) = fits::network(rule.argument(0)) else {
            notes.push(rule.line().unprotected("no network; the route is closed (403)"));
            return Some(Hook::Closed);
        };
        let parsed = network.parse().or_else(|_| network.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
        let Ok(parsed) = parsed else { continue };
        if seen.iter().any(|wider| wider.contains(&parsed)) {
            continue;
        }
        // A narrower network that stands first is the more specific one: the same in both.
        seen.push(parsed);
        if allows { allow.push(network) } else { deny.push(network) }
    }
    if allow.is_empty() && deny.is_empty() {
        return otherwise_deny.then_some(Hook::Closed);
    }
    Some(Hook::IpFilter { allow, deny, otherwise_deny })
}

fn limits(scope: &NginxScope<'_>, zones: &Zones<'_>, notes: &mut Vec<Note>) -> Option<Hook> {
    let (mut requests, mut tunnels) = (None, None);
    for rule in scope.all("limit_req") {
        let zone = rule.arguments.iter().find_map(|argument| argument.strip_prefix("zone="));
        let rate = zone.and_then(|zone| zones.by_client(zone)).and_then(rate_of);
        match rate {
            Some(rate) if requests.is_none() => {
                let burst = rule.arguments.iter().find_map(|argument| argument.strip_prefix("burst="));
                let burst = burst.and_then(|burst| burst.parse::<u64>().ok()).unwrap_or(0).min(999_999) + 1;
                requests = Some(format!("{rate} burst {burst}"));
                let delays = burst > 1 && !rule.arguments.iter().any(|argument| argument == "nodelay");
                let delays = if delays { "; what nginx delays passes at once" } else { "" };
                notes.push(rule.line().changed(format!("answered 429 and not 503, counted by route{delays}")));
            }
            _ => notes.push(rule.line().unprotected("a second limit, or one by another key than the client's address")),
        }
    }
    for rule in scope.all("limit_conn") {
        let known = zones.by_client(rule.argument(0)).is_some();
        match rule.argument(1).parse::<u64>() {
            Ok(most) if known && most > 0 && tunnels.is_none() => {
                tunnels = Some(most.min(u64::from(u32::MAX)));
                notes.push(rule.line().changed("counts open tunnels, and no plain requests; answered 429 and not 503"));
            }
            _ => notes.push(rule.line().unprotected("a second limit, or one by another key than the client's address")),
        }
    }
    (requests.is_some() || tunnels.is_some()).then_some(Hook::RateLimit { requests, tunnels })
}

/// A rate as the hook `rate_limit` has it: `10r/s` is `10/s`.
fn rate_of(zone: &Directive) -> Option<String> {
    let rate = zone.arguments.iter().find_map(|argument| argument.strip_prefix("rate="))?;
    let (number, unit) = rate.split_once("r/")?;
    let number = number.parse::<u64>().ok().filter(|number| (1..=1_000_000).contains(number))?;
    matches!(unit, "s" | "m").then(|| format!("{number}/{unit}"))
}
