//! Summary of a configuration that passed `longhaul check`, in three lines: listeners, routes with their backends, and
//! parts that nothing protects yet.

use crate::config::{AffinitySource, Check, ClientAuth, Config, Listener, Route, Upstream};
use crate::counted::counted;

/// The three lines, each ended.
pub(super) fn lines(config: &Config) -> String {
    let unprotected = unprotected(config);
    let unprotected = match unprotected.is_empty() {
        true => "nothing that check looks at".to_owned(),
        false => unprotected.join("; "),
    };
    format!("listeners: {}\nroutes: {}\nnot protected: {unprotected}\n", listeners(config), routes(config))
}

/// Sockets for clients, and those for operators behind them.
fn listeners(config: &Config) -> String {
    let mut text = some(config.listeners.iter().map(|listener| {
        let address = listener.address;
        match (&listener.tls, listener.redirect) {
            (Some(_), _) => format!("{address} by TLS"),
            (None, Some(_)) => format!("{address} sends to https"),
            (None, None) => format!("{address}"),
        }
    }));
    if let Some(metrics) = &config.metrics {
        text += &format!("; metrics on {}", metrics.address);
    }
    if let Some(admin) = &config.admin {
        text += &format!("; admin API on {}", admin.address);
    }
    text
}

/// Routes in the order written. An upstream is described where it is named first.
fn routes(config: &Config) -> String {
    let mut described: Vec<&str> = Vec::new();
    some(config.routes.iter().map(|route| {
        if route.upstream == Upstream::NOWHERE {
            return format!("{} to its hooks", route.name());
        }
        let to = format!("{} to {}", route.name(), route.upstream);
        if described.contains(&&*route.upstream) {
            return to;
        }
        described.push(&route.upstream);
        let upstream = config.upstreams.iter().find(|upstream| upstream.name == route.upstream);
        upstream.map_or(to.clone(), |upstream| format!("{to} ({})", description(route, upstream)))
    }))
}

fn description(route: &Route, upstream: &Upstream) -> String {
    let backends = match (&upstream.discover, upstream.backends.len()) {
        (Some(_), _) => "backends looked up while it runs".to_owned(),
        (None, number) => counted(number, "backend"),
    };
    let affinity = route.affinity.as_ref().unwrap_or(&upstream.affinity);
    let affinity = match affinity.is_empty() {
        true => "clients go where there is least".to_owned(),
        false => format!("clients kept by {}", affinity.iter().map(source).collect::<Vec<_>>().join(", else ")),
    };
    let checks = match upstream.health.as_ref().map(|health| &health.check) {
        None => "not checked",
        Some(Check::Tcp) => "checked by tcp",
        Some(Check::Http { .. }) => "checked by http",
        Some(Check::Websocket { .. }) => "checked by websocket",
    };
    format!("{backends}, {affinity}, {checks}")
}

fn source(source: &AffinitySource) -> String {
    match source {
        AffinitySource::Cookie(name) | AffinitySource::BackendCookie(name) => format!("cookie {name}"),
        AffinitySource::Header(name) => format!("header {name}"),
        AffinitySource::Query(name) => format!("query {name}"),
        AffinitySource::IssueCookie(cookie) => format!("a cookie of the gateway's, {}", cookie.name),
        AffinitySource::ClientCertificate => "client certificate".to_owned(),
        AffinitySource::ClientIp { .. } => "client address".to_owned(),
    }
}

/// Each part that nothing protects, with the key that would.
fn unprotected(config: &Config) -> Vec<String> {
    let mut found = at_the_edge(config);
    found.extend(before_backends(&config.upstreams));
    found
}

fn at_the_edge(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let plain = |listener: &&Listener| listener.tls.is_none() && listener.redirect.is_none();
    let reached = |listener: &&Listener| !listener.address.ip().is_loopback();
    let plain: Vec<_> = config.listeners.iter().filter(plain).filter(reached).collect();
    if !plain.is_empty() {
        found.push(format!("no TLS on {} (listeners.tls)", some(plain.iter().map(|one| one.address.to_string()))));
    }
    if config.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        found.push("X-Forwarded-For is believed from everybody (trusted_proxies)".to_owned());
    }
    let of_one_client = &config.limits.per_client;
    if of_one_client.tunnels.is_none() && of_one_client.handshakes.is_none() {
        found.push("no limit of one client's tunnels or handshakes (limits.per_client)".to_owned());
    }
    if let Some(metrics) = config.metrics.as_ref().filter(|metrics| !metrics.address.ip().is_loopback()) {
        found.push(format!("metrics open to whoever reaches {} (metrics.address)", metrics.address));
    }
    if let Some(admin) = &config.admin {
        let asks_all = |auth: &ClientAuth| auth.required;
        let auth = admin.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        if admin.token_file.is_none() && !auth.is_some_and(asks_all) {
            found.push(format!("admin API open to whoever reaches {} (admin.token_file)", admin.address));
        }
    }
    found
}

/// A lack of protection: words for it, the key against it, and the upstreams that have it.
type Fault = (&'static str, &'static str, fn(&Upstream) -> bool);

fn before_backends(upstreams: &[Upstream]) -> Vec<String> {
    let without: [Fault; 4] = [
        ("no health checks of", "health", |upstream| upstream.health.is_none()),
        ("no limit of messages' size in", "tunnel.max_message", |upstream| upstream.tunnel.max_message.is_none()),
        ("no limit of tunnels to a backend of", "limits, admission", |upstream| {
            upstream.limits.tunnels.is_none() && upstream.admission.is_none()
        }),
        ("certificates are not verified of backends of", "tls.verify", |upstream| {
            upstream.tls.as_ref().is_some_and(|tls| !tls.verify)
        }),
    ];
    let upstreams = || upstreams.iter().filter(|one| !one.is_nowhere());
    let named = |(fault, key, is_without): Fault| {
        let names: Vec<_> = upstreams().filter(|one| is_without(one)).map(|one| one.name.clone()).collect();
        (!names.is_empty()).then(|| format!("{fault} {} (upstreams.*.{key})", some(names.into_iter())))
    };
    without.into_iter().filter_map(named).collect()
}

/// The first few of a list, and how many follow: a line stays one that a person reads.
fn some(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(SHOWN);
    let mut text = items.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// Entries of a list that a line has.
const SHOWN: usize = 8;
