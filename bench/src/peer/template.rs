//! Fills the configuration templates of `bench/peers/`.

use std::net::SocketAddr;

use super::Storm;

/// Values of a configuration template.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// The gateway's listening address.
    pub listen: SocketAddr,
    /// True when it listens for TLS, with `tls.pem` in its folder.
    pub is_tls: bool,
    /// Its backends: three, or fewer when some have left.
    pub backends: &'a [SocketAddr],
    /// A folder of its own for sockets and pid files.
    pub dir: &'a str,
    /// A line for one variant of a peer.
    pub extra: &'a str,
    /// Worker processes or threads.
    pub workers: usize,
    /// `on` or `off`, for nginx.
    pub daemon: &'a str,
    /// The line that turns the access log on or off.
    pub log: &'a str,
    /// Backends that bear so many handshakes, in templates of `bench/peers/storm`.
    pub storm: Option<Storm>,
}

/// Replaces every `{{name}}`. Leaves out lines about backends that are not there, those that begin with `{{tls}}` where
/// clients come without TLS, and those that begin with `{{plain}}` where they come with it.
pub(super) fn fill(template: &str, places: &Places) -> String {
    let mut filled = String::with_capacity(template.len());
    let (here, elsewhere) = if places.is_tls { ("{{tls}}", "{{plain}}") } else { ("{{plain}}", "{{tls}}") };
    for line in template.lines().filter(|line| !line.starts_with(elsewhere)) {
        let line = line.strip_prefix(here).unwrap_or(line);
        let line = line.replace("{{log}}", places.log).replace("{{extra}}", places.extra);
        let mut line = line.replace("{{dir}}", places.dir);
        line = line.replace("{{workers}}", &places.workers.to_string()).replace("{{daemon}}", places.daemon);
        if let Some(storm) = places.storm {
            line = line.replace("{{rate}}", &storm.rate.to_string());
            line = line.replace("{{total}}", &(storm.rate * 3).to_string());
            line = line.replace("{{descriptors}}", &storm.descriptors.to_string());
        }
        line = address(&line, "listen", places.listen);
        for (at, backend) in places.backends.iter().enumerate() {
            line = address(&line, &format!("backend{}", at + 1), *backend);
        }
        if !line.contains("{{backend") {
            filled.push_str(&line);
            filled.push('\n');
        }
    }
    filled
}

fn address(line: &str, name: &str, address: SocketAddr) -> String {
    line.replace(&format!("{{{{{name}}}}}"), &address.to_string())
        .replace(&format!("{{{{{name}_ip}}}}"), &address.ip().to_string())
        .replace(&format!("{{{{{name}_port}}}}"), &address.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Setting;
    use super::*;
    use crate::work::Work;

    fn places(backends: &[SocketAddr]) -> Places<'_> {
        let listen = "127.0.0.1:80".parse().unwrap();
        Places {
            listen,
            is_tls: false,
            backends,
            dir: "/d",
            extra: "",
            workers: 2,
            daemon: "off",
            log: "",
            storm: None,
        }
    }

    #[test]
    fn a_backend_that_left_takes_its_line_along() {
        let backends = ["127.0.0.1:1", "127.0.0.1:2"].map(|a| a.parse().unwrap());
        let places = places(&backends);
        let filled = fill("on {{listen_port}} in {{dir}}\n{{backend1}}\n{{backend2_ip}}\n{{backend3}}", &places);
        assert_eq!(filled, "on 80 in /d\n127.0.0.1:1\n127.0.0.1\n");
    }

    #[test]
    fn lines_of_tls_and_of_plain_are_left_out_where_they_do_not_belong() {
        let backends = ["127.0.0.1:1"].map(|a| a.parse().unwrap());
        let (template, places) = ("a\n{{plain}} b {{listen_port}}\n{{tls}} c\n", places(&backends));
        assert_eq!(fill(template, &places), "a\n b 80\n");
        assert_eq!(fill(template, &Places { is_tls: true, ..places }), "a\n c\n");
    }

    #[test]
    fn every_template_is_filled_completely() {
        let ten: Vec<SocketAddr> = (1..=10).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        for peer in <super::super::Peer as clap::ValueEnum>::value_variants() {
            let storm = Some(Storm { rate: 500, queue: 128, descriptors: 20_000 });
            let settings = [(false, None, false), (true, None, false), (false, storm, false), (true, storm, false)];
            for (is_tls, storm, is_restarted) in settings.into_iter().chain([(false, None, true)]) {
                let places = places(&ten[..if is_restarted { 10 } else { 3 }]);
                let template = peer.template(Setting { storm, is_restarted, ..Work::Idle.setting() });
                let filled = fill(template, &Places { is_tls, storm, ..places });
                let elsewhere = if is_tls { "{{plain}}" } else { "{{tls}}" };
                let of_elsewhere = template.lines().filter(|line| line.starts_with(elsewhere)).count();
                assert!(!filled.contains("{{"), "{peer:?}: {filled}");
                assert_eq!(filled.lines().count() + of_elsewhere, template.lines().count(), "{peer:?}");
            }
        }
    }
}
