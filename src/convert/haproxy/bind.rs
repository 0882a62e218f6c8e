//! `bind`: the sockets of a frontend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::Reading;
use super::words::Statement;
use crate::convert::model::{Listener, Tls};
use crate::convert::place::{Note, SourceLine};

/// Parameters of one value that nothing depends on.
const WITH_VALUE: &[&str] = &[
    "alpn",
    "tls-ticket-keys",
    "crl-file",
    "ca-verify-file",
    "proto",
    "name",
    "process",
    "thread",
    "maxconn",
    "backlog",
    "interface",
    "mss",
    "level",
    "mode",
    "user",
    "group",
    "uid",
    "gid",
    "id",
    "nice",
    "namespace",
    "severity-output",
    "tcp-ut",
    "shards",
    "ciphers",
    "ciphersuites",
    "curves",
    "ecdhe",
    "npn",
    "crt-ignore-err",
    "ca-ignore-err",
    "ssl-max-ver",
];

/// Parameters without a value that nothing depends on.
const FLAGS: &[&str] = &[
    "v6only",
    "tfo",
    "transparent",
    "defer-accept",
    "strict-sni",
    "generate-certificates",
    "prefer-client-ciphers",
    "allow-0rtt",
    "accept-netscaler-cip",
    "expose-fd",
    "listeners",
];

/// Most ports of one range.
const MAX_PORTS: u16 = 64;

/// Settings that the parameters of a line state.
#[derive(Default)]
struct Said {
    is_tls: bool,
    tls: Tls,
    ca: Option<String>,
    verify: String,
    proxy_protocol: bool,
    /// An IPv6 socket takes IPv4 clients, too.
    both: bool,
    notes: Vec<Note>,
}

/// The listeners of a line. Notes about its other parameters go to them, and to `notes` where the line makes no
/// listener.
pub(super) fn read(bind: &Statement, reading: &Reading<'_>, notes: &mut Vec<Note>) -> Vec<Listener> {
    let line = bind.line();
    let mut said = Said::default();
    let mut words = bind.words.iter().skip(2).map(String::as_str);
    while let Some(word) = words.next() {
        said.take(word, &mut || words.next().unwrap_or_default(), &line, reading);
    }
    if let (Some(ca), "required" | "optional") = (said.ca.take(), said.verify.as_str()) {
        said.tls.client_auth = Some((ca, said.verify == "required"));
    }
    let mut listeners = Vec::new();
    for text in bind.word(1).split(',') {
        let Some(addresses) = addresses(text, said.both) else {
            let words = "no IP address and port: Unix sockets, names and HTTP/3 are not listened on";
            notes.push(line.left_out(words));
            continue;
        };
        for address in addresses {
            let mut listener = Listener::new(address);
            listener.proxy_protocol = said.proxy_protocol;
            listener.notes = std::mem::take(&mut said.notes);
            listener.tls = said.is_tls.then(|| said.tls.clone());
            listeners.push(listener);
        }
    }
    notes.append(&mut said.notes);
    listeners
}

impl Said {
    fn take<'w>(&mut self, word: &str, value: &mut dyn FnMut() -> &'w str, line: &SourceLine, reading: &Reading<'_>) {
        match word {
            "ssl" => self.is_tls = true,
            "crt" => self.tls.certificates.extend(certificates(value(), reading)),
            "crt-list" => {
                let file = reading.file(value(), &reading.crt_base);
                match reading.files.read(Path::new(&file)) {
                    Ok(list) => self.tls.certificates.extend(listed(&list, reading)),
                    Err(error) => self.notes.push(line.unprotected(format!("`{file}` cannot be read: {error}"))),
                }
            }
            "ca-file" => self.ca = Some(reading.file(value(), &reading.ca_base)),
            "verify" => value().clone_into(&mut self.verify),
            "ssl-min-ver" => match value() {
                "TLSv1.3" => self.tls.only_1_3 = true,
                "TLSv1.2" => {}
                _ => self.notes.push(line.changed("TLS 1.2 is the oldest version")),
            },
            "accept-proxy" => self.proxy_protocol = true,
            "v4v6" => self.both = true,
            word => self.notes.extend(other(word, value, line)),
        }
    }
}

/// The note about a parameter that has no equivalent on a listener.
fn other<'w>(word: &str, value: &mut dyn FnMut() -> &'w str, line: &SourceLine) -> Option<Note> {
    const SUITES: &str = "suites are not chosen: those of TLS 1.3, and the AEAD suites of 1.2";
    let with_value = WITH_VALUE.contains(&word);
    let text = if with_value { value() } else { "" };
    match word {
        "alpn" if text.split(',').any(|protocol| protocol == "h2") => {
            Some(line.changed("the only protocol is HTTP/1.1, and with it every WebSocket"))
        }
        "ciphers" | "ciphersuites" => Some(line.changed(SUITES)),
        "tls-ticket-keys" => Some(line.left_out("the first key of `ticket_keys` seals, and not the second to last")),
        "crl-file" | "ca-verify-file" => Some(line.unprotected(format!("`{word}` has no equivalent"))),
        _ if with_value || FLAGS.contains(&word) || word.starts_with("no-") || word.starts_with("force-") => None,
        _ => Some(line.left_out(format!("`{word}` is not known here"))),
    }
}

impl Reading<'_> {
    /// A file as the configuration names it: in `base` or in the file's own folder where it is relative.
    pub(super) fn file(&self, name: &str, base: &str) -> String {
        let base = if base.is_empty() { self.folder.to_owned() } else { self.folder.join(base) };
        base.join(name).to_string_lossy().into_owned()
    }
}

/// Pairs of a file that has both, or of every file of a folder.
fn certificates(name: &str, reading: &Reading<'_>) -> Vec<(String, String)> {
    let file = reading.file(name, &reading.crt_base);
    let is_folder = name.ends_with('/') || Path::new(&file).extension().is_none();
    let in_folder = if is_folder { reading.files.matching(&Path::new(&file).join("*")) } else { Vec::new() };
    if in_folder.is_empty() {
        return vec![(file.clone(), file)];
    }
    let other_kinds = ["key", "ocsp", "issuer", "sctl", "dh"];
    let pem = |path: &&std::path::PathBuf| {
        !path.extension().is_some_and(|extension| other_kinds.iter().any(|kind| extension == *kind))
    };
    let text = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    in_folder.iter().filter(pem).map(|path| (text(path), text(path))).collect()
}

fn listed(list: &str, reading: &Reading<'_>) -> Vec<(String, String)> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.flat_map(|name| certificates(name, reading)).collect()
}

/// The addresses that a text stands for.
fn addresses(text: &str, both: bool) -> Option<Vec<SocketAddr>> {
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    let (host, ports) = text.rsplit_once(':')?;
    let ip: IpAddr = match host {
        "" | "*" if both => Ipv6Addr::UNSPECIFIED.into(),
        "" | "*" => Ipv4Addr::UNSPECIFIED.into(),
        "::" | "[::]" => Ipv6Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()?,
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last - first < MAX_PORTS).then(|| (first..=last).map(|port| SocketAddr::new(ip, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form() {
        let read =
            |text| addresses(text, false).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        for (text, expected) in [
            (":80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            ("ipv4@10.0.0.1:80", "10.0.0.1:80"),
            (":::80", "[::]:80"),
            ("[::1]:80", "[::1]:80"),
            ("127.0.0.1:80-81", "127.0.0.1:80 127.0.0.1:81"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(addresses(":80", true).map(|all| all[0].to_string()).as_deref(), Some("[::]:80"));
        for text in ["", "80", "/run/x.sock", "unix@/run/x.sock", "fd@0", "example.com:80", ":0", ":9-8"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
