//! The table of every known key, and what is said about a key that is not in it.

use super::node::Mark;
use super::problem::{Problem, Severity};
use crate::config::sections::pingora_keys;

/// The keys that one kind of mapping may have.
#[derive(Debug)]
pub(crate) struct Section {
    /// Where such a mapping stands: `*` for a name of the user's, `[]` for an item of a list.
    pub(crate) path: &'static str,
    pub(crate) keys: &'static [&'static str],
}

/// Every key of Longhaul's own. A reader takes its keys from here and knows no others.
static SECTIONS: [Section; 16] = [
    Section {
        path: "",
        keys: &[
            "listeners",
            "trusted_proxies",
            "metrics",
            "access_log",
            "watch",
            "control_sock",
            "drain",
            "routes",
            "upstreams",
        ],
    },
    Section { path: "listeners[]", keys: &["address"] },
    Section { path: "metrics", keys: &["address"] },
    Section { path: "access_log", keys: &["to", "format"] },
    Section { path: "routes[]", keys: &["host", "path", "upstream", "affinity", "hooks", "compression"] },
    Section {
        path: "upstreams.*",
        keys: &[
            "affinity",
            "backends",
            "balance_factor",
            "health",
            "fail_open",
            "on_change",
            "drain_window",
            "rehome",
            "timeouts",
            "tunnel",
        ],
    },
    Section { path: "upstreams.*.affinity[]", keys: &["cookie", "header", "query", "issue_cookie", "client_ip"] },
    Section { path: "upstreams.*.affinity[].issue_cookie", keys: &["name", "max_age", "same_site"] },
    Section { path: "upstreams.*.affinity[].client_ip", keys: &["ipv4_prefix", "ipv6_prefix"] },
    Section { path: "upstreams.*.backends[]", keys: &["address", "weight"] },
    Section {
        path: "upstreams.*.health",
        keys: &["check", "path", "host", "expect", "interval", "timeout", "rise", "fall", "traffic", "on_down"],
    },
    Section { path: "upstreams.*.timeouts", keys: &["connect", "handshake", "read", "write"] },
    Section { path: "upstreams.*.tunnel", keys: &["idle", "max_age", "ping", "max_message", "tcp_user_timeout"] },
    Section { path: "drain", keys: &["grace", "window", "code"] },
    Section { path: "upstreams.*.rehome", keys: &["over"] },
    Section { path: "routes[].hooks[]", keys: &["hook", "with", "timeout"] },
];

pub(crate) static TOP: &Section = &SECTIONS[0];
pub(crate) static LISTENER: &Section = &SECTIONS[1];
pub(crate) static METRICS: &Section = &SECTIONS[2];
pub(crate) static ACCESS_LOG: &Section = &SECTIONS[3];
pub(crate) static ROUTE: &Section = &SECTIONS[4];
pub(crate) static UPSTREAM: &Section = &SECTIONS[5];
pub(crate) static AFFINITY: &Section = &SECTIONS[6];
pub(crate) static ISSUE_COOKIE: &Section = &SECTIONS[7];
pub(crate) static CLIENT_IP: &Section = &SECTIONS[8];
pub(crate) static BACKEND: &Section = &SECTIONS[9];
pub(crate) static HEALTH: &Section = &SECTIONS[10];
pub(crate) static TIMEOUTS: &Section = &SECTIONS[11];
pub(crate) static TUNNEL: &Section = &SECTIONS[12];
pub(crate) static DRAIN: &Section = &SECTIONS[13];
pub(crate) static REHOME: &Section = &SECTIONS[14];
pub(crate) static HOOK: &Section = &SECTIONS[15];

/// The path of every key there is, Pingora's first: `threads`, `routes[].host`, `upstreams.*.health.check`, …
///
/// `*` stands for a name of the user's, `[]` for an item of a list. A route's `affinity` has the same keys as an
/// upstream's, and they are not listed again.
pub fn keys() -> Vec<String> {
    let ours = SECTIONS.iter().flat_map(|section| {
        let dot = if section.path.is_empty() { "" } else { "." };
        section.keys.iter().map(move |key| format!("{}{dot}{key}", section.path))
    });
    pingora_keys::names().into_iter().chain(ours).collect()
}

/// The problem of `key`, which is none of `known`. With `brief` no time is spent on a remedy.
pub(crate) fn unknown(path: String, key: &str, mark: Mark, known: &[&str], brief: bool) -> Problem {
    let problem = Problem::new(Severity::Error, mark, path, "unknown key");
    if brief {
        return problem;
    }
    let problem = problem.expected(match known {
        [one] => format!("`{one}`"),
        _ if known.starts_with(TOP.keys) => {
            format!("one of {}, or one of Pingora's own (docs/configuration.md lists them)", TOP.keys.join(", "))
        }
        _ => format!("one of {}", known.join(", ")),
    });
    if key == MERGE {
        return problem.remedy(NO_MERGE);
    }
    if let Some(near) = nearest(key, known.iter().copied()) {
        return problem.remedy(format!("did you mean `{near}`?"));
    }
    if known == HOOK.keys {
        return problem.remedy("the settings of a hook are written under `with:`");
    }
    let homes: Vec<_> = SECTIONS.iter().filter(|section| section.keys.contains(&key)).collect();
    match homes.as_slice() {
        [] => match starts_like(key, known) {
            Some(near) => problem.remedy(format!("did you mean `{near}`?")),
            None => problem,
        },
        homes => {
            let homes: Vec<_> = homes.iter().map(|section| section.home()).collect();
            problem.remedy(format!("`{key}` belongs {}", homes.join(" or ")))
        }
    }
}

/// The key that means, to programs that know it, the entries of another mapping.
pub(crate) const MERGE: &str = "<<";
pub(crate) const NO_MERGE: &str =
    "merge keys are not read: write the keys out, or let an alias stand for the whole value";

/// The known key that `key` was probably meant to be.
pub(crate) fn likely<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    nearest(key, known.iter().copied()).or_else(|| starts_like(key, known))
}

/// The known key that `key` goes on from, or that goes on from `key`: `hostname` and `host`, `pid` and `pid_file`.
fn starts_like<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    const SHORTEST: usize = 3;
    let alike =
        |known: &&str| known.len().min(key.len()) >= SHORTEST && (known.starts_with(key) || key.starts_with(*known));
    known.iter().copied().filter(alike).min_by_key(|known| known.len().abs_diff(key.len()))
}

impl Section {
    fn home(&self) -> String {
        match self.path {
            "" => "at the top level".to_owned(),
            path => format!("under `{path}`"),
        }
    }
}

/// The candidate that `word` was probably meant to be: at most a third of its letters wrong, and at least one may be.
pub(crate) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // The time taken grows with the product of the lengths; nothing known is longer than this.
    const LONGEST: usize = 100;
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .filter(|candidate| candidate.len() <= LONGEST && candidate.len().abs_diff(word.len()) <= allowed)
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
