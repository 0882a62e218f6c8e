//! The Longhaul file of a model.

use super::document::{DocumentEntry, Yaml, comment, written};
use super::model::{
    AccessLog, Backend, Bytes, Discover, Health, Hook, Listener, Model, Process, Route, Source, Upstream, UpstreamTls,
};
use super::place::Note;
use super::quantity::{duration, size};

/// The text of the file. `source` is what it was converted from, in words.
pub(super) fn text(model: &Model, source: &str) -> String {
    let mut text = head(model, source);
    let mut top = vec![DocumentEntry::new("version", Yaml::word(1))];
    let listeners = model.listeners.iter().map(listener).collect();
    let process = &model.process;
    top.extend(process.threads.map(|threads| DocumentEntry::new("threads", Yaml::word(threads))));
    top.push(DocumentEntry::new("listeners", Yaml::List(listeners)));
    top.extend(of_process(process));
    top.push(DocumentEntry::new("routes", Yaml::List(model.routes.iter().map(route).collect())));
    top.push(DocumentEntry::new("upstreams", Yaml::Map(model.upstreams.iter().map(upstream).collect())));
    text.push_str(&written(&top));
    if !model.notes.is_empty() {
        text.push_str("\n# Lines of the source that have no place above:\n");
        model.notes.iter().for_each(|note| text.push_str(&comment(&note.to_string())));
    }
    text
}

fn head(model: &Model, source: &str) -> String {
    let mut text = comment(&format!("Converted from {source}. Try it with `longhaul check` before you use it."));
    text.push_str("# Every line of the source that means something else here, or nothing, is in a comment.\n");
    if !model.defaults.is_empty() {
        text.push_str("#\n# Defaults that differ, where the source says nothing:\n");
        model.defaults.iter().for_each(|line| text.push_str(&comment(&format!("- {line}"))));
    }
    for note in &model.process.notes {
        text.push_str("#\n");
        text.push_str(&comment(&note.to_string()));
    }
    text.push('\n');
    text
}

fn comments(notes: &[Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

fn with_notes(mut entry: DocumentEntry, notes: &[Note]) -> DocumentEntry {
    entry.comments = comments(notes);
    entry
}

fn row(texts: &[String]) -> Yaml {
    Yaml::Row(texts.iter().map(Yaml::text).collect())
}

fn inline(entries: Vec<(&str, Option<Yaml>)>) -> Yaml {
    Yaml::Inline(entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

fn time(milliseconds: Option<u64>) -> Option<Yaml> {
    milliseconds.map(|milliseconds| Yaml::Word(duration(milliseconds)))
}

fn number(number: Option<u64>) -> Option<Yaml> {
    number.map(Yaml::word)
}

fn bytes(bytes: Bytes) -> Yaml {
    match bytes {
        Bytes::Off => Yaml::word("off"),
        Bytes::At(bytes) => Yaml::Word(size(bytes)),
    }
}

/// The entry of a mapping on one line, unless it is empty.
fn inlined(key: &str, entries: Vec<(&str, Option<Yaml>)>) -> Option<DocumentEntry> {
    let value = inline(entries);
    match &value {
        Yaml::Inline(entries) if entries.is_empty() => None,
        _ => Some(DocumentEntry::new(key, value)),
    }
}

fn listener(listener: &Listener) -> DocumentEntry {
    let mut entries = vec![DocumentEntry::new("address", Yaml::text(listener.address.to_string()))];
    let lists = [("allow", &listener.allow), ("deny", &listener.deny)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    entries.extend(lists.map(|(key, list)| DocumentEntry::new(key, row(list))));
    entries.extend(inlined("limits", vec![("connections", number(listener.connections))]));
    if listener.proxy_protocol {
        entries.push(DocumentEntry::new("proxy_protocol", Yaml::word("required")));
    }
    if let Some(tls) = &listener.tls {
        let pair = |(cert, key): &(String, String)| {
            inline(vec![("cert", Some(Yaml::text(cert))), ("key", Some(Yaml::text(key)))])
        };
        let pairs = tls.certificates.iter().map(|pair_of| DocumentEntry::item(pair(pair_of), Vec::new())).collect();
        let mut below = vec![DocumentEntry::new("certificates", Yaml::List(pairs))];
        below.extend(tls.only_1_3.then(|| DocumentEntry::new("min_version", Yaml::text("1.3"))));
        below.extend(tls.client_auth.as_ref().and_then(|(ca, required)| {
            let mode = (!required).then(|| Yaml::word("optional"));
            inlined("client_auth", vec![("ca", Some(Yaml::text(ca))), ("mode", mode)])
        }));
        entries.push(DocumentEntry::new("tls", Yaml::Map(below)));
    }
    if let Some(hsts) = &listener.hsts {
        let flag = |set: bool| set.then(|| Yaml::word(true));
        entries.extend(inlined(
            "hsts",
            vec![
                ("max_age", time(Some(hsts.max_age))),
                ("include_subdomains", flag(hsts.subdomains)),
                ("preload", flag(hsts.preload)),
            ],
        ));
    }
    entries.extend(listener.redirect.map(|port| {
        let to = if port == 443 { "https".to_owned() } else { format!("https:{port}") };
        DocumentEntry::new("redirect", Yaml::Word(to))
    }));
    DocumentEntry::item(Yaml::Map(entries), comments(&listener.notes))
}

fn of_process(process: &Process) -> Vec<DocumentEntry> {
    let mut entries = Vec::new();
    if !process.trusted_proxies.is_empty() {
        entries.push(DocumentEntry::new("trusted_proxies", row(&process.trusted_proxies)));
    }
    if process.keep_underscores {
        entries.push(DocumentEntry::new("underscores_in_headers", Yaml::word("keep")));
    }
    entries.extend(inlined(
        "forwarding",
        vec![
            ("forwarded", process.write_forwarded.then(|| Yaml::word("write"))),
            ("strangers", process.drop_strangers.then(|| Yaml::word("drop"))),
        ],
    ));
    entries.extend(process.access_log.as_ref().map(|log| match log {
        AccessLog::Off => DocumentEntry::new("access_log", Yaml::word("off")),
        AccessLog::File(path) => {
            DocumentEntry::new("access_log", Yaml::Inline(vec![("to".to_owned(), Yaml::text(path))]))
        }
    }));
    let per_client = [("connections", number(process.client_connections)), ("tunnels", number(process.client_tunnels))];
    let limits: Vec<DocumentEntry> = [
        process.connections.map(|most| DocumentEntry::new("connections", Yaml::word(most))),
        inlined("per_client", per_client.into()),
        inlined("head", vec![("time", time(process.head_time))]),
        inlined("body", vec![("size", process.body_size.map(bytes)), ("idle", time(process.body_idle))]),
        inlined("answer", vec![("idle", time(process.answer_idle))]),
        inlined(
            "keep_alive",
            vec![("idle", time(process.keep_alive)), ("requests", number(process.keep_alive_requests))],
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !limits.is_empty() {
        entries.push(DocumentEntry::new("limits", Yaml::Map(limits)));
    }
    entries.extend(inlined("drain", vec![("window", time(process.drain_window))]));
    entries
}

fn route(route: &Route) -> DocumentEntry {
    let mut entries = Vec::new();
    entries.extend(route.host.as_ref().map(|host| DocumentEntry::new("host", Yaml::text(host))));
    if route.path != "/" {
        entries.push(DocumentEntry::new("path", Yaml::text(&route.path)));
    }
    entries.push(DocumentEntry::new("upstream", Yaml::text(&route.upstream)));
    entries.extend(route.affinity.as_ref().map(|sources| affinity(sources)));
    if !route.hooks.is_empty() {
        let hooks = route.hooks.iter().map(|one| DocumentEntry::item(Yaml::Map(hook(one)), Vec::new())).collect();
        entries.push(DocumentEntry::new("hooks", Yaml::List(hooks)));
    }
    entries.extend(inlined("body", vec![("size", route.body_size.map(bytes))]));
    DocumentEntry::item(Yaml::Map(entries), comments(&route.notes))
}

fn hook(hook: &Hook) -> Vec<DocumentEntry> {
    let named =
        |name: &str, with: Yaml| vec![DocumentEntry::new("hook", Yaml::word(name)), DocumentEntry::new("with", with)];
    let some = |list: &[String]| (!list.is_empty()).then(|| row(list));
    match hook {
        Hook::IpFilter { allow, deny, otherwise_deny } => {
            let otherwise = (*otherwise_deny == allow.is_empty())
                .then(|| Yaml::word(if *otherwise_deny { "deny" } else { "allow" }));
            named("ip_filter", inline(vec![("allow", some(allow)), ("deny", some(deny)), ("otherwise", otherwise)]))
        }
        Hook::Closed => {
            let all = ["0.0.0.0/0".to_owned(), "::/0".to_owned()];
            named("ip_filter", inline(vec![("deny", Some(row(&all)))]))
        }
        Hook::RateLimit { requests, tunnels } => {
            let requests = requests.as_ref().map(Yaml::text);
            named("rate_limit", inline(vec![("requests", requests), ("tunnels", number(*tunnels))]))
        }
        Hook::Headers(headers) => {
            let map = |pairs: &[(String, String)]| {
                let written = |(name, value): &(String, String)| (name.clone(), Yaml::text(value));
                (!pairs.is_empty()).then(|| Yaml::Inline(pairs.iter().map(written).collect()))
            };
            let side = |key, set: &[_], add: &[_], remove: &[_]| {
                inlined(key, vec![("set", map(set)), ("add", map(add)), ("remove", some(remove))])
            };
            let request = side("request", &headers.set, &headers.add, &headers.remove);
            let answer = side("response", &headers.answer_set, &headers.answer_add, &headers.answer_remove);
            named("headers", Yaml::Map(request.into_iter().chain(answer).collect()))
        }
    }
}

fn affinity(sources: &[Source]) -> DocumentEntry {
    if sources.is_empty() {
        return DocumentEntry::new("affinity", Yaml::Row(Vec::new()));
    }
    let items = sources.iter().map(|one| DocumentEntry::item(source(one), Vec::new())).collect();
    DocumentEntry::new("affinity", Yaml::List(items))
}

fn source(source: &Source) -> Yaml {
    // A mapping of one key, as an item of a list on a line of its own.
    let keyed = |key: &str, value: Yaml| Yaml::Map(vec![DocumentEntry::new(key, value)]);
    match source {
        Source::Cookie(name) => keyed("cookie", Yaml::text(name)),
        Source::BackendCookie(name) => {
            let name = ("name", Some(Yaml::text(name)));
            keyed("cookie", inline(vec![name, ("born_on", Some(Yaml::word("backend")))]))
        }
        Source::Header(name) => keyed("header", Yaml::text(name)),
        Source::Query(name) => keyed("query", Yaml::text(name)),
        Source::IssueCookie(cookie) => {
            let settings = inline(vec![
                ("name", Some(Yaml::text(&cookie.name))),
                ("max_age", time(cookie.max_age)),
                ("same_site", cookie.same_site.map(Yaml::word)),
                ("path", cookie.path.as_ref().map(Yaml::text)),
                ("domain", cookie.domain.as_ref().map(Yaml::text)),
                ("secure", cookie.secure.then(|| Yaml::word("always"))),
            ]);
            keyed("issue_cookie", settings)
        }
        Source::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 } => Yaml::word("client_ip"),
        Source::ClientIp { ipv4_prefix, ipv6_prefix } => {
            let ipv4 = (*ipv4_prefix != 32).then(|| Yaml::word(ipv4_prefix));
            let ipv6 = (*ipv6_prefix != 64).then(|| Yaml::word(ipv6_prefix));
            keyed("client_ip", inline(vec![("ipv4_prefix", ipv4), ("ipv6_prefix", ipv6)]))
        }
        Source::ClientCertificate => Yaml::word("client_certificate"),
    }
}

fn upstream(upstream: &Upstream) -> DocumentEntry {
    let mut entries = Vec::new();
    if !upstream.affinity.is_empty() {
        entries.push(affinity(&upstream.affinity));
    }
    entries.push(match &upstream.discover {
        None => DocumentEntry::new("backends", Yaml::List(upstream.backends.iter().map(backend).collect())),
        Some(Discover::Dns { name, port }) => {
            let dns = inline(vec![("name", Some(Yaml::text(name))), ("port", Some(Yaml::word(port)))]);
            DocumentEntry::new("discover", Yaml::Inline(vec![("dns".to_owned(), dns)]))
        }
        Some(Discover::Srv(name)) => {
            DocumentEntry::new("discover", Yaml::Inline(vec![("srv".to_owned(), Yaml::text(name))]))
        }
    });
    if let Some(factor) = upstream.balance_factor {
        entries.push(DocumentEntry::new("balance_factor", Yaml::Word(format!("{}.{:02}", factor / 100, factor % 100))));
    }
    entries.extend(upstream.health.as_ref().and_then(health));
    entries.extend(upstream.fail_open.then(|| DocumentEntry::new("fail_open", Yaml::word(true))));
    entries.extend(number(upstream.tries).map(|tries| DocumentEntry::new("tries", tries)));
    let policy = &upstream.policy;
    entries.extend(inlined(
        "timeouts",
        vec![
            ("connect", time(policy.connect)),
            ("handshake", time(policy.handshake)),
            ("read", time(policy.read)),
            ("write", time(policy.write)),
        ],
    ));
    entries.extend(inlined("tunnel", vec![("idle", time(policy.idle)), ("max_age", time(policy.max_age))]));
    let limits = vec![("tunnels", number(upstream.tunnels)), ("requests", number(upstream.requests))];
    entries.extend(inlined("limits", limits));
    entries.extend(inlined("admission", vec![("wait", time(upstream.wait))]));
    entries.extend(policy.tls.as_ref().map(upstream_tls));
    entries.extend(upstream.proxy_protocol.map(|version| DocumentEntry::new("proxy_protocol", Yaml::word(version))));
    with_notes(DocumentEntry::new(&upstream.name, Yaml::Map(entries)), &upstream.notes)
}

fn upstream_tls(tls: &UpstreamTls) -> DocumentEntry {
    let (certificate, key) = tls.certificate.clone().unzip();
    let keys = inline(vec![
        ("server_name", tls.server_name.as_ref().map(Yaml::text)),
        ("ca", tls.ca.as_ref().map(Yaml::text)),
        ("certificate", certificate.map(Yaml::Text)),
        ("key", key.map(Yaml::Text)),
        ("verify", tls.unverified.then(|| Yaml::word(false))),
    ]);
    DocumentEntry::new("tls", keys)
}

fn backend(backend: &Backend) -> DocumentEntry {
    let value = if backend.name.is_none() && backend.weight == 1 {
        Yaml::text(&backend.address)
    } else {
        inline(vec![
            ("name", backend.name.as_ref().map(Yaml::text)),
            ("address", Some(Yaml::text(&backend.address))),
            ("weight", (backend.weight != 1).then(|| Yaml::word(backend.weight))),
        ])
    };
    DocumentEntry::item(value, comments(&backend.notes))
}

fn health(health: &Health) -> Option<DocumentEntry> {
    if health.off {
        return Some(DocumentEntry::new("health", Yaml::word("off")));
    }
    let text = |text: &Option<String>| text.as_ref().map(Yaml::text);
    let headers = health.headers.iter().map(|(name, value)| (name.clone(), Yaml::text(value))).collect::<Vec<_>>();
    let values = vec![
        ("check", health.check.map(Yaml::word)),
        ("path", text(&health.path)),
        ("host", text(&health.host)),
        ("expect", health.expect.as_ref().map(|expect| Yaml::Word(expect.clone()))),
        ("origin", text(&health.origin)),
        ("subprotocols", (!health.subprotocols.is_empty()).then(|| row(&health.subprotocols))),
        ("headers", (!headers.is_empty()).then_some(Yaml::Inline(headers))),
        ("interval", time(health.interval)),
        ("timeout", time(health.timeout)),
        ("rise", number(health.rise)),
        ("fall", number(health.fall)),
        ("traffic", health.traffic.map(Yaml::word)),
        ("on_down", health.close_when_down.then(|| Yaml::word("close"))),
    ];
    inlined("health", values)
}
