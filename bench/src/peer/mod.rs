//! Gateways under test: the program of each, its configuration, its start, reload and replacement.

mod isolation;
mod ports;
mod restart;
mod site;
mod template;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

pub use isolation::Isolated;
pub use restart::Way as RestartWay;
pub use site::{Clients, Ground, Setting, Site, Storm};
pub use template::Places;

/// A gateway, or a setting of one that is measured on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Peer {
    /// No gateway: the backends themselves, as the floor.
    Direct,
    /// The gateway of this repository.
    Longhaul,
    /// The same program a second time: the self-check of the harness. Not on the command line.
    #[value(skip)]
    Again,
    /// The same program with `reattach` on its route: the cost of it while no backend goes.
    #[value(name = "longhaul-reattach")]
    Reattach,
    /// nginx with its default buffers.
    Nginx,
    /// nginx with `proxy_buffer_size 16k`, the fair reference for streams.
    #[value(name = "nginx-16k")]
    Nginx16k,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// Caddy.
    Caddy,
    /// Pingora, the library that Longhaul is built on, with nothing added (`bench/pingora`).
    Pingora,
}

/// Request to a running gateway.
pub enum Way {
    /// A signal to its first process.
    Signal(Signal),
    /// A command beside it, which ends by itself.
    Command(Vec<String>),
    /// Another process of it, started beside the first, that stays.
    Successor(Vec<String>),
    /// Two signals: the first to start the new processes, the second to retire the first process when they are there.
    Replace(Signal, Signal),
}

impl Peer {
    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Longhaul => "longhaul",
            Self::Again => "longhaul-again",
            Self::Reattach => "longhaul-reattach",
            Self::Nginx => "nginx",
            Self::Nginx16k => "nginx-16k",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Pingora => "pingora",
        }
    }

    /// Its name in tables and charts.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Longhaul => "Longhaul",
            Self::Again => "Longhaul again",
            Self::Reattach => "Longhaul, reattach",
            Self::Nginx => "nginx",
            Self::Nginx16k => "nginx 16k",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Caddy => "Caddy",
            Self::Pingora => "Pingora",
        }
    }

    /// Its program, from the folders of packages and of the installer; `None` if it is missing.
    pub fn program(self, longhaul: &Path) -> Option<PathBuf> {
        let name = match self {
            Self::Direct => return None,
            Self::Longhaul | Self::Again | Self::Reattach => return longhaul.is_file().then(|| longhaul.to_owned()),
            Self::Nginx | Self::Nginx16k => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Pingora => "stock-pingora",
        };
        find(name)
    }

    /// Its version, as the program prints it.
    pub fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Nginx | Self::Nginx16k | Self::Haproxy => "-v",
            Self::Caddy => "version",
            _ => "--version",
        };
        let Ok(output) = Command::new(program).arg(argument).output() else { return "unknown".into() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim();
        // Envoy names its program, commit, version and build in one word: the version is the part with dots.
        let envoy = line.rsplit_once("version: ").and_then(|(_, rest)| rest.split('/').nth(1));
        let version = envoy.unwrap_or(line);
        // HAProxy adds a date and an address, Caddy a checksum.
        let version = version.trim_start_matches("HAProxy version ");
        if matches!(self, Self::Haproxy | Self::Caddy) {
            return version.split_whitespace().next().unwrap_or(version).to_owned();
        }
        version.to_owned()
    }

    fn template(self, setting: Setting) -> &'static str {
        if setting.storm.is_some() {
            return self.storm_template();
        }
        if setting.is_restarted {
            return self.restart_template();
        }
        match self {
            Self::Direct => "",
            Self::Longhaul | Self::Again | Self::Reattach => include_str!("../../peers/longhaul.yaml"),
            Self::Nginx | Self::Nginx16k => include_str!("../../peers/nginx.conf"),
            Self::Haproxy => include_str!("../../peers/haproxy.cfg"),
            Self::Envoy => include_str!("../../peers/envoy.yaml"),
            Self::Caddy => include_str!("../../peers/Caddyfile"),
            Self::Pingora => include_str!("../../peers/pingora.yaml"),
        }
    }

    /// Its configuration against a storm of handshakes; empty where it has no means of its own.
    fn storm_template(self) -> &'static str {
        match self {
            Self::Longhaul | Self::Again => include_str!("../../peers/storm/longhaul.yaml"),
            Self::Nginx => include_str!("../../peers/storm/nginx.conf"),
            Self::Haproxy => include_str!("../../peers/storm/haproxy.cfg"),
            _ => "",
        }
    }

    /// Its configuration for backends that are restarted; empty where it is not measured with them.
    fn restart_template(self) -> &'static str {
        match self {
            Self::Longhaul | Self::Again => include_str!("../../peers/reattach/longhaul.yaml"),
            Self::Nginx => include_str!("../../peers/reattach/nginx.conf"),
            Self::Haproxy => include_str!("../../peers/reattach/haproxy.cfg"),
            Self::Envoy => include_str!("../../peers/reattach/envoy.yaml"),
            _ => "",
        }
    }

    /// True when its backends can be restarted under it.
    pub fn bears_restarts(self) -> bool {
        !self.restart_template().is_empty()
    }

    /// True when it can be put under a storm of handshakes.
    pub fn bears_storms(self) -> bool {
        !self.storm_template().is_empty()
    }

    /// Name of its configuration file. Envoy takes the format from the ending.
    fn file_name(self) -> &'static str {
        match self {
            Self::Direct => "",
            Self::Longhaul | Self::Again | Self::Reattach => "longhaul.yaml",
            Self::Nginx | Self::Nginx16k => "nginx.conf",
            Self::Haproxy => "haproxy.cfg",
            Self::Envoy => "envoy.yaml",
            Self::Caddy => "Caddyfile",
            Self::Pingora => "pingora.yaml",
        }
    }

    fn extra(self) -> &'static str {
        match self {
            Self::Nginx16k => "proxy_buffer_size 16k; proxy_buffers 8 16k;",
            Self::Reattach => "reattach: {}",
            _ => "",
        }
    }

    /// The line of its configuration about the access log.
    fn log(self, setting: Setting) -> &'static str {
        match (self, setting.is_logged) {
            (Self::Longhaul | Self::Again | Self::Reattach, false) => "access_log: off",
            // To standard output, which the harness leads into a file.
            (Self::Longhaul | Self::Again | Self::Reattach, true) => "",
            (_, false) => "access_log off;",
            (_, true) => "access_log {{dir}}/access.log;",
        }
    }

    /// Arguments that start it in the foreground.
    fn arguments(self, file: &str, dir: &str, setting: Setting) -> Vec<String> {
        let workers = setting.workers.to_string();
        let base_id = format!("{dir}/base-id");
        let arguments: &[&str] = match self {
            Self::Direct => &[],
            Self::Longhaul | Self::Again | Self::Reattach | Self::Pingora => &["-c", file],
            Self::Nginx | Self::Nginx16k => &["-c", file, "-p", dir],
            Self::Haproxy => &["-W", "-db", "-f", file],
            Self::Envoy => {
                let id = ["--use-dynamic-base-id", "--base-id-path", &base_id];
                return words(&[&["-c", file, "--concurrency", &workers, "--log-level", "error"][..], &id].concat());
            }
            Self::Caddy => &["run", "--adapter", "caddyfile", "--config", file],
        };
        words(arguments)
    }

    /// The signal that ends it at once.
    fn end(self) -> Signal {
        if matches!(self, Self::Longhaul | Self::Again | Self::Reattach | Self::Pingora) {
            Signal::INT
        } else {
            Signal::TERM
        }
    }

    /// The file that names its first process, where that is not the process that was started: nginx takes another
    /// program only as a daemon.
    fn pid_file(self, setting: Setting) -> Option<&'static str> {
        (setting.is_replaced && matches!(self, Self::Nginx | Self::Nginx16k)).then_some("nginx.pid")
    }

    /// Another configuration in force; `None` if it has no way that keeps serving.
    pub fn reload(self, file: &str, dir: &str) -> Option<Way> {
        match self {
            // Stock Pingora reads its configuration once.
            Self::Direct | Self::Envoy | Self::Pingora => None,
            Self::Longhaul | Self::Again | Self::Reattach | Self::Nginx | Self::Nginx16k => {
                Some(Way::Signal(Signal::HUP))
            }
            Self::Haproxy => Some(Way::Signal(Signal::USR2)),
            Self::Caddy => {
                let address = format!("unix/{dir}/admin.sock");
                let reload = ["reload", "--force", "--adapter", "caddyfile", "--config", file, "--address", &address];
                Some(Way::Command(words(&reload)))
            }
        }
    }

    /// Another program in its place; `None` if it has no way that keeps serving.
    pub fn upgrade(self, file: &str, dir: &str) -> Option<Way> {
        match self {
            // Stock Pingora hands its sockets over, but its tunnels end with its runtime, and the harness has no way
            // for it.
            Self::Direct | Self::Caddy | Self::Pingora => None,
            Self::Longhaul | Self::Again | Self::Reattach => Some(Way::Command(words(&["upgrade", "-c", file]))),
            Self::Nginx | Self::Nginx16k => Some(Way::Replace(Signal::USR2, Signal::QUIT)),
            // The master process executes its program anew: a reload and an upgrade are one thing.
            Self::Haproxy => Some(Way::Signal(Signal::USR2)),
            Self::Envoy => {
                let id = std::fs::read_to_string(format!("{dir}/base-id")).unwrap_or_default();
                let again = ["-c", file, "--concurrency", "2", "--log-level", "error", "--restart-epoch", "1"];
                Some(Way::Successor(words(&[&again[..], &["--base-id", id.trim()]].concat())))
            }
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Finds a program in the folders of `bench/install.sh` and `make bench`, then in those of the packages.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let envoy = concat!(env!("CARGO_MANIFEST_DIR"), "/target/envoy/envoy/_bin");
    let caddy = concat!(env!("CARGO_MANIFEST_DIR"), "/target/caddy/bin");
    let built = match std::env::var("CARGO_TARGET_DIR") {
        Ok(folder) if !folder.is_empty() => format!("{folder}/release"),
        _ => concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release").to_owned(),
    };
    let folders = [envoy, caddy, built.as_str()].into_iter().chain(path.split(':'));
    let folders = folders.chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]);
    folders.map(|folder| Path::new(folder).join(name)).find(|program| program.is_file())
}
