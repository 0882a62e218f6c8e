//! ACLs and the conditions of rules: hosts, paths and addresses, as far as routes and filters know them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;

use super::words::Statement;
use crate::convert::files::Files;
use crate::convert::fits;
use crate::convert::rules::Region;

/// A test of one ACL line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Hosts(Vec<String>),
    Paths(AclPaths),
    WebSocket,
    Networks(Vec<String>),
    Tls,
    Always,
    /// A user and a password.
    Login,
    Unknown,
}

/// Paths that a test is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AclPaths {
    prefixes: Vec<String>,
    /// The difference where the test is for more or less than these prefixes.
    words: Option<&'static str>,
    /// One of them takes paths that go on within its last segment, too.
    is_open_beside: bool,
}

/// ACLs by name; the lines of one name are alternatives.
#[derive(Debug, Default)]
pub(super) struct Acls {
    by_name: HashMap<String, Vec<Test>>,
}

/// One conjunction of a condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    hosts: Option<Vec<String>>,
    paths: Option<AclPaths>,
    pub(super) websocket: bool,
    pub(super) tls: Option<bool>,
    /// Networks of clients, and whether they are in or out.
    pub(super) networks: Option<(Vec<String>, bool)>,
    pub(super) unknown: bool,
    pub(super) login: bool,
}

/// Most pairs of host and path of one case: one more than rules that are looked at, so that the excess is told of.
const MAX_REGIONS: usize = 5_001;

/// Most conjunctions that one condition stands for.
const MAX_CASES: usize = 256;

impl Case {
    pub(super) fn is_everything(&self) -> bool {
        self.hosts.is_none() && self.paths.is_none()
    }

    /// The difference between the case's paths and the prefixes of routes.
    pub(super) fn words(&self) -> Option<&'static str> {
        self.paths.as_ref()?.words
    }

    /// Tells whether the case takes paths beside the prefixes of routes.
    pub(super) fn is_open_beside(&self) -> bool {
        self.paths.as_ref().is_some_and(|paths| paths.is_open_beside)
    }

    /// Hosts and paths of the case.
    pub(super) fn regions(&self) -> Vec<Region> {
        let any = vec![None];
        let hosts = self.hosts.as_ref().map_or(any, |hosts| hosts.iter().cloned().map(Some).collect());
        let root = vec!["/".to_owned()];
        let paths = self.paths.as_ref().map_or(&root, |paths| &paths.prefixes);
        let pairs = hosts.iter().flat_map(|host| paths.iter().map(move |path| (host, path)));
        pairs.take(MAX_REGIONS).map(|(host, path)| Region { host: host.clone(), path: path.clone() }).collect()
    }

    fn and(&mut self, test: &Test, negated: bool) {
        match (test, negated) {
            (Test::Hosts(hosts), false) if self.hosts.is_none() => self.hosts = Some(hosts.clone()),
            (Test::Paths(paths), false) if self.paths.is_none() => self.paths = Some(paths.clone()),
            (Test::WebSocket, false) => self.websocket = true,
            (Test::Tls, negated) => self.tls = Some(!negated),
            (Test::Networks(networks), negated) if self.networks.is_none() => {
                self.networks = Some((networks.clone(), !negated));
            }
            (Test::Login, _) => self.login = true,
            (Test::Always, false) => {}
            _ => self.unknown = true,
        }
    }
}

impl Acls {
    /// Adds an `acl` line.
    pub(super) fn add(&mut self, statement: &Statement, files: &dyn Files) {
        let test = test(&statement.words[2.min(statement.words.len())..], files);
        self.by_name.entry(statement.word(1).to_owned()).or_default().push(test);
    }

    /// The cases of the condition that begins with `if` or `unless` in a line; one case of everything without one.
    pub(super) fn cases(&self, statement: &Statement, files: &dyn Files) -> Vec<Case> {
        let at = statement.words.iter().position(|word| word == "if" || word == "unless");
        let Some(at) = at else { return vec![Case::default()] };
        let negate_all = statement.word(at) == "unless";
        let mut alternatives = vec![vec![Case::default()]];
        let mut words = statement.words[at + 1..].iter().map(String::as_str);
        let mut terms = 0;
        let mut negated = false;
        while let Some(word) = words.next() {
            let tests = match word {
                "or" | "||" => {
                    alternatives.push(vec![Case::default()]);
                    continue;
                }
                "!" => {
                    negated = !negated;
                    continue;
                }
                "{" | "!{" => {
                    negated ^= word == "!{";
                    let inner: Vec<String> =
                        words.by_ref().take_while(|word| *word != "}").map(str::to_owned).collect();
                    vec![test(&inner, files)]
                }
                name => {
                    negated ^= name.starts_with('!');
                    self.named(name.trim_start_matches('!'))
                }
            };
            terms += 1;
            if let Some(last) = alternatives.last_mut() {
                *last = and_all(last, &tests, negated != negate_all);
            }
            negated = false;
        }
        let mut cases: Vec<Case> = alternatives.into_iter().flatten().take(MAX_CASES).collect();
        // The opposite of several terms is no conjunction of their opposites.
        if negate_all && terms != 1 {
            cases.iter_mut().for_each(|case| case.unknown = true);
        }
        cases
    }

    fn named(&self, name: &str) -> Vec<Test> {
        match name {
            "TRUE" | "HTTP" | "always_true" => vec![Test::Always],
            "LOCALHOST" => vec![Test::Networks(vec!["127.0.0.0/8".to_owned(), "::1".to_owned()])],
            _ => self.by_name.get(name).cloned().unwrap_or_else(|| vec![Test::Unknown]),
        }
    }
}

/// Each case with each alternative of a term; the opposite of alternatives is the opposite of all.
fn and_all(cases: &[Case], tests: &[Test], negated: bool) -> Vec<Case> {
    let mut found = Vec::new();
    for case in cases {
        if negated {
            let mut case = case.clone();
            tests.iter().for_each(|test| case.and(test, true));
            found.push(case);
            continue;
        }
        for test in merged(tests) {
            let mut case = case.clone();
            case.and(&test, false);
            found.push(case);
        }
    }
    found.truncate(MAX_CASES);
    found
}

/// Alternatives of one kind as one.
fn merged(tests: &[Test]) -> Vec<Test> {
    let mut merged: Vec<Test> = Vec::new();
    for test in tests {
        match (merged.last_mut(), test) {
            (Some(Test::Hosts(hosts)), Test::Hosts(more)) => hosts.extend(more.iter().cloned()),
            (Some(Test::Paths(paths)), Test::Paths(more)) => {
                paths.prefixes.extend(more.prefixes.iter().cloned());
                paths.words = paths.words.or(more.words);
                paths.is_open_beside |= more.is_open_beside;
            }
            (Some(Test::Networks(networks)), Test::Networks(more)) => networks.extend(more.iter().cloned()),
            (Some(Test::WebSocket), Test::WebSocket) => {}
            _ => merged.push(test.clone()),
        }
    }
    merged
}

/// The test of a criterion, flags and values.
fn test(words: &[String], files: &dyn Files) -> Test {
    let Some((criterion, rest)) = words.split_first() else { return Test::Unknown };
    let mut values = Vec::new();
    let mut matching = None;
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-i" | "-n" | "-u" | "--" => {}
            "-m" => matching = rest.next().map(String::as_str),
            "-f" => {
                let Some(text) = rest.next().and_then(|file| files.read(Path::new(file)).ok()) else {
                    return Test::Unknown;
                };
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                values.extend(lines.map(str::to_owned));
            }
            word => values.push(word.to_owned()),
        }
    }
    let criterion = criterion.strip_prefix("req.").unwrap_or(criterion).to_ascii_lowercase();
    let (fetch, converters) = criterion.split_once(',').unwrap_or((&criterion, ""));
    let harmless = converters.split(',').filter(|one| !one.is_empty());
    if !harmless.clone().all(|one| matches!(one, "lower" | "host_only" | "field(1" | ":)" | "field(1:)")) {
        return Test::Unknown;
    }
    let (name, argument) = fetch.split_once('(').map_or((fetch, ""), |(name, rest)| (name, rest.trim_end_matches(')')));
    let (name, suffix) = match name.rsplit_once('_') {
        Some((name, suffix @ ("beg" | "end" | "dom" | "reg" | "sub" | "dir" | "len" | "str"))) => (name, suffix),
        _ => (name, matching.unwrap_or("str")),
    };
    match (name, argument) {
        ("hdr", "host") | ("ssl_fc_sni", "") => hosts(suffix, &values),
        ("hdr", "upgrade") if values.iter().all(|value| value.eq_ignore_ascii_case("websocket")) => Test::WebSocket,
        ("hdr", "connection") if values.iter().all(|value| value.eq_ignore_ascii_case("upgrade")) => Test::WebSocket,
        ("path" | "url", "") => paths(suffix, &values),
        ("src", "") => {
            let networks: Option<Vec<String>> = values.iter().map(|value| fits::network(value)).collect();
            let networks = networks.filter(|networks| !networks.is_empty());
            networks.map(with_ipv4_of_wide_ones).map_or(Test::Unknown, Test::Networks)
        }
        ("ssl_fc", "") => Test::Tls,
        ("always_true", "") => Test::Always,
        ("http_auth" | "http_auth_group", _) => Test::Login,
        _ => Test::Unknown,
    }
}

/// Adds `0.0.0.0/0` where a network of IPv6 is wide enough to hold all IPv4-mapped addresses, such as `::/0`: HAProxy
/// looks an IPv4 client up as a mapped one, too (`pat_match_ip`), and Longhaul does not.
fn with_ipv4_of_wide_ones(mut networks: Vec<String>) -> Vec<String> {
    let mapped = IpAddr::from(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    let is_wide = |network: &String| network.parse::<IpNet>().is_ok_and(|network| network.contains(&mapped));
    let all = "0.0.0.0/0";
    if networks.iter().any(is_wide) && !networks.iter().any(|network| network == all) {
        networks.push(all.to_owned());
    }
    networks
}

fn hosts(suffix: &str, values: &[String]) -> Test {
    let mut hosts = Vec::new();
    for value in values {
        let value = fits::without_port(value);
        let found = match (suffix, value.strip_prefix('.')) {
            ("str", _) => vec![fits::host(value)],
            ("end", Some(_)) => vec![fits::host(&format!("*{value}"))],
            ("end" | "dom", None) => vec![fits::host(value), fits::host(&format!("*.{value}"))],
            _ => vec![None],
        };
        let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Test::Unknown };
        hosts.extend(found);
    }
    if hosts.is_empty() { Test::Unknown } else { Test::Hosts(hosts) }
}

fn paths(suffix: &str, values: &[String]) -> Test {
    let words = match suffix {
        "beg" => None,
        "str" => Some("a prefix: it takes what is below that path, too"),
        "dir" => Some("a prefix: the folder has to be the first of the path"),
        "reg" => Some("prefixes in place of the regular expression"),
        _ => return Test::Unknown,
    };
    let path = |value: &String| match suffix {
        "dir" => fits::path(&format!("/{}", value.trim_matches('/'))),
        "reg" => {
            let plain = value.strip_prefix('^')?;
            let plain = plain.trim_end_matches('$').trim_end_matches(".*").replace("\\.", "\u{1}");
            let fits = !plain.contains(['.', '[', '(', '|', '*', '+', '?', '\\']);
            fits.then(|| fits::path(&plain.replace('\u{1}', "."))).flatten()
        }
        _ => fits::path(value),
    };
    let prefixes: Option<Vec<String>> = values.iter().map(path).collect();
    let is_open_beside = suffix == "beg" && values.iter().any(|value| fits::ends_within_a_segment(value));
    let prefixes = prefixes.filter(|prefixes| !prefixes.is_empty());
    prefixes.map_or(Test::Unknown, |prefixes| Test::Paths(AclPaths { prefixes, words, is_open_beside }))
}
