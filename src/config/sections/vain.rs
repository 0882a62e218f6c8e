//! Warnings of limits and lists that are accepted and cannot do what they seem to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::model::{HeadLimits, Limits, OverRate, PerClient, Route, TunnelRates, Upstream};
use crate::config::yaml::node::Mark;
use crate::config::yaml::problem::{Problem, Report, Severity};
use crate::config::yaml::scalar::spelled_size;
use crate::config::yaml::value::{Value, join};

/// Warns of limits per affinity key in an upstream whose clients have no key.
///
/// A hook may give a key and choose any upstream, so that where a route has hooks nothing is known.
pub(crate) fn of_keys(upstream: &Upstream, mark: Mark, routes: &[Route], report: &mut Report) {
    let leads_here = |route: &Route| route.upstream == upstream.name && route.affinity.is_some();
    let may_have_key = |route: &Route| !route.hooks.is_empty() || leads_here(route);
    if !upstream.affinity.is_empty() || routes.iter().any(may_have_key) {
        return;
    }
    let limits = [("limits", upstream.limits.per_key.is_some()), ("tunnel", upstream.rates.per_key.are_on())];
    for (section, _) in limits.into_iter().filter(|(_, is_on)| *is_on) {
        let path = join(&join(&join("upstreams", &upstream.name), section), "per_key");
        let problem = Problem::new(Severity::Warning, mark, path, "no client has a key here: nobody is limited");
        report.push(problem.remedy("add `affinity`, such as `affinity: [client_ip]`, or use `limits.per_client`"));
    }
}

/// Warns where a message that `max_message` allows is over the rate of bytes that ends its tunnel.
pub(crate) fn of_rates(over_rate: &Value<'_>, rates: &TunnelRates, max_message: Option<u64>, report: &mut Report) {
    let Some(longest) = max_message.filter(|_| rates.over_rate == OverRate::Close) else { return };
    for (key, rate) in [("bytes", rates.each.bytes), ("per_key.bytes", rates.per_key.bytes)] {
        let Some(rate) = rate.map(u64::from).filter(|rate| *rate <= longest) else { continue };
        let (rate, longest) = (spelled_size(rate), spelled_size(longest));
        let problem = over_rate.warning(format!(
            "`{key}` of {rate}/s is no more than `max_message` of {longest}: a client that sends such a message is \
             closed"
        ));
        report.push(problem.remedy(format!(
            "set `{key}` to more than {longest}/s, make `max_message` shorter, or write `over_rate: throttle`"
        )));
    }
}

/// Warns of a `limits.memory` that one client can reach.
pub(crate) fn of_memory(memory: &Value<'_>, most: Option<u64>, head: &HeadLimits, report: &mut Report) {
    let least = head.size as u64 + ON_THE_WAY;
    let Some(most) = most.filter(|most| *most < least) else { return };
    let (most, least) = (spelled_size(most), spelled_size(least));
    let problem = memory.warning(format!("{most} is less than one client may have kept, and then all others get 503"));
    report.push(problem.remedy(format!("write `{least}` or more (a head and what is on its way), or `off`")));
}

/// Warns of a listener at `address` that denies everybody.
pub(crate) fn of_denial(deny: &Value<'_>, address: IpAddr, denied: &[IpNet], report: &mut Report) {
    let (all_ipv4, all_ipv6) = covers(denied);
    let is_everybody = match address.to_canonical() {
        IpAddr::V4(_) => all_ipv4,
        IpAddr::V6(address) => all_ipv6 && (all_ipv4 || !address.is_unspecified()),
    };
    if is_everybody {
        let problem = deny.warning("every address is denied: nobody may connect to this listener");
        report.push(problem.remedy("name in `allow` who may, or remove the listener"));
    }
}

/// Warns of `trusted_proxies` that are everybody beside limits of one client, which trusted proxies do not have.
pub(crate) fn of_trust(trusted: &Value<'_>, networks: &[IpNet], limits: &Limits, report: &mut Report) {
    let default = PerClient::default();
    let PerClient { connections, tunnels, handshakes, .. } = limits.per_client;
    let are_limited =
        tunnels.is_some() || handshakes.is_some() || connections.is_some() && connections != default.connections;
    let who = match covers(networks) {
        (true, true) => "everybody",
        (true, false) => "every IPv4 address",
        (false, true) => "every IPv6 address",
        (false, false) => return,
    };
    if are_limited {
        let problem = trusted.warning(format!("{who} is a trusted proxy, which `limits.per_client` does not limit"));
        report.push(problem.remedy("name the networks of your own proxies alone"));
    }
}

/// Tells if networks hold all addresses of IPv4, and all of IPv6.
fn covers(networks: &[IpNet]) -> (bool, bool) {
    let joined = IpNet::aggregate(&networks.to_vec());
    let has = |address: IpAddr| joined.iter().any(|network| network.prefix_len() == 0 && network.contains(&address));
    (has(Ipv4Addr::UNSPECIFIED.into()), has(Ipv6Addr::UNSPECIFIED.into()))
}

/// Bytes of one client that may wait for the other side: 65 KiB in one direction (`tunnel::worker`).
const ON_THE_WAY: u64 = 65 * 1024;
