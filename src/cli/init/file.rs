//! Text of the file that `longhaul init` writes.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

use super::answers::{Affinity, Answers};

/// The commented file. Each line that begins with `#` and a letter is a key that is off.
pub(super) fn text(answers: &Answers) -> String {
    let mut backends = String::new();
    for backend in &answers.backends {
        writeln!(backends, "      - {}", scalar(backend)).expect("writing into a String cannot fail");
    }
    TEMPLATE
        .replace("{listen}", &scalar(&answers.listen))
        .replace("{affinity}", &affinity(&answers.affinity))
        .replace("{backends}", &backends)
}

/// The lines about affinity, with the meaning of the source.
fn affinity(affinity: &Affinity) -> String {
    let (meaning, source) = match affinity {
        Affinity::None => return UNKEPT.to_owned(),
        Affinity::IssueCookie => (
            "A cookie that Longhaul sets where a client has none, also on the 101 of a WebSocket.",
            "issue_cookie".into(),
        ),
        Affinity::ClientIp => {
            ("The client's address: everybody behind one address gets one backend.", "client_ip".to_owned())
        }
        Affinity::Session(cookie) => (
            "A session cookie that backends set: a client stays where its session began.",
            format!("cookie: {{ name: {}, born_on: backend }}", scalar(cookie)),
        ),
        Affinity::Cookie(cookie) => {
            ("A cookie that is there before a backend is picked.", format!("cookie: {}", scalar(cookie)))
        }
        Affinity::Header(header) => ("A request header.", format!("header: {}", scalar(header))),
        Affinity::Query(argument) => ("An argument of the URL.", format!("query: {}", scalar(argument))),
    };
    let always_has_a_value = matches!(affinity, Affinity::IssueCookie | Affinity::ClientIp);
    let otherwise = if always_has_a_value { "" } else { OTHERWISE };
    format!("{KEEPS}    # {meaning}\n    affinity:\n      - {source}\n{otherwise}")
}

/// A text as a YAML scalar: as it stands where no reader takes it for anything else, in quotes otherwise.
fn scalar(text: &str) -> String {
    let is_name = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase());
    match is_name || text.parse::<SocketAddrV4>().is_ok() {
        true => text.to_owned(),
        false => serde_json::to_string(text).expect("a text is JSON"),
    }
}

const UNKEPT: &str =
    "    # Nothing keeps a client on its backend: the one with the fewest tunnels and requests is picked.
    #affinity: [client_ip]
";
const OTHERWISE: &str = "      # Clients without one are kept by their address.\n      - client_ip\n";
const KEEPS: &str =
    "    # Sources of the key that keeps a client on its backend: the first that a request has decides.\n";

const TEMPLATE: &str = "\
# Longhaul's configuration, begun by `longhaul init`.
#
#   longhaul check -c FILE     whether it is right, what it does, and what nothing protects yet
#   longhaul -c FILE           run
#   longhaul reload -c FILE    put a change into force; no connection is dropped
#
# A line with `#` right before a key is off: take the `#` away to turn it on. docs/configuration.md has every key.

version: 1

# Sockets that clients connect to.
listeners:
  - address: {listen}
    # wss and https. A renewed certificate is taken up without a reload.
    #tls: { certificates: [{ cert: /etc/longhaul/chat.pem, key: /etc/longhaul/chat.key }] }

# Load balancers before this gateway, whose X-Forwarded-For is believed. While this is off, nobody's is.
#trusted_proxies: [10.0.0.0/8]

# What one client may take; one more is answered 429.
#limits: { per_client: { tunnels: 50, handshakes: 10/s } }

# Metrics for Prometheus, /ready and /live. The admin API has the same, and commands.
#metrics: { address: \"127.0.0.1:9100\" }
#admin: { address: \"127.0.0.1:9099\" }

# A line for each request and each tunnel. Standard output is the default.
#access_log: { to: /var/log/longhaul/access.log, format: json }

# The end of the process: so long everything goes on, and then over so long tunnels are closed.
#drain: { grace: 5s, window: 30s }

# Where requests go. The most specific host wins, then the longest path.
routes:
  - upstream: backends
    #host: chat.example.com
    #path: /ws

upstreams:
  backends:
{affinity}
    # IP addresses or host names, each with a port. A weight is a share: { address: 10.0.0.11:9001, weight: 2 }.
    backends:
{backends}
    # A backend that refuses connections gets nothing new. `check: websocket` with a `path` makes a real handshake.
    health: { check: tcp, interval: 2s }

    # No backend carries more than this many times its share.
    #balance_factor: 1.25

    # Open tunnels. `ping` notices clients that are gone; a longer message ends a tunnel with Close 1009.
    #tunnel: { idle: 1d, ping: 30s, max_message: 1MiB }

    # Handshakes that one backend is given, when a fleet comes back all at once.
    #admission: { handshakes: 500/s }

    # Tunnels that one backend carries.
    #limits: { tunnels: 10000 }
";
