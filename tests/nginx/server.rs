//! A real nginx: a balancer on one address, and its backends, which are servers of the same nginx.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, Stdio};

use longhaul::config::Backend;
use tempfile::TempDir;

/// A running nginx, ended when dropped.
pub(crate) struct Nginx {
    child: Child,
    /// Standard error, kept open: nginx ends when it cannot write there.
    _stderr: BufReader<ChildStderr>,
    /// Its configuration and logs.
    _prefix: TempDir,
    /// The balancer's address; see [`Variant::path`].
    pub(crate) address: SocketAddr,
    /// The backends it balances over; each answers with its own address.
    pub(crate) backends: Vec<Backend>,
}

/// State of the backends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Variant {
    /// All are there.
    All,
    /// This one is not in the upstream.
    Removed(usize),
    /// This one is marked `down`.
    Down(usize),
}

impl Variant {
    /// The path at which the balancer has this variant.
    pub(crate) fn path(self) -> String {
        match self {
            Self::All => "/all".to_owned(),
            Self::Removed(index) => format!("/removed{index}"),
            Self::Down(index) => format!("/down{index}"),
        }
    }
}

impl Nginx {
    /// Starts a balancer by `hash <variable> consistent` over as many backends as there are weights.
    ///
    /// Labs of different numbers (0 to 15) live on different addresses.
    pub(crate) fn start(lab: u8, variable: &str, weights: &[u16]) -> Self {
        Self::start_with(lab, variable, weights, |[a, b, c], n| (Ipv4Addr::new(a, b, c, n), PORT + 1).into())
    }

    /// The same, with IPv6 backends. There is but one IPv6 loopback address, so they have ports of their own.
    pub(crate) fn start_ipv6(lab: u8, variable: &str, weights: &[u16]) -> Self {
        Self::start_with(lab, variable, weights, |[_, _, c], n| {
            (Ipv6Addr::LOCALHOST, PORT + 2 + 8 * u16::from(c) + u16::from(n)).into()
        })
    }

    fn start_with(lab: u8, variable: &str, weights: &[u16], host: impl Fn([u8; 3], u8) -> SocketAddr) -> Self {
        let network = free_network(lab);
        let [a, b, c] = network;
        let address = SocketAddr::from((Ipv4Addr::new(a, b, c, 100), PORT));
        let backend = |(n, &weight): (usize, &u16)| Backend { address: host(network, 1 + n as u8), weight };
        let backends: Vec<Backend> = weights.iter().enumerate().map(backend).collect();

        let prefix = tempfile::tempdir().unwrap();
        std::fs::write(prefix.path().join("nginx.conf"), configuration(address, &backends, variable)).unwrap();
        let mut child = spawn(&prefix);
        let stderr = wait_until_it_listens(&mut child);
        Self { child, _stderr: stderr, _prefix: prefix, address, backends }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // nginx may have died by itself, which the test has noticed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Below the ephemeral ports, so that no connection's own end takes it.
const PORT: u16 = 18_080;

/// A network of 127.0.0.0/8 that no other run of these tests is using: the lab's own unless there is one.
fn free_network(lab: u8) -> [u8; 3] {
    let networks = (0..16).map(|run| [127, 77, lab + 16 * run]);
    let mut free = networks.filter(|&[a, b, c]| TcpListener::bind((Ipv4Addr::new(a, b, c, 100), PORT)).is_ok());
    free.next().expect("one of 16 networks is free")
}

/// Debian has nginx in /usr/sbin, which is on no ordinary user's path.
fn spawn(prefix: &TempDir) -> Child {
    let start = |program: &str| {
        let mut command = Command::new(program);
        command.arg("-p").arg(prefix.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    start("nginx")
        .or_else(|_| start("/usr/sbin/nginx"))
        .expect("nginx is needed for this test: `make test` installs it, or `apt-get install nginx`")
}

/// nginx names its event method right after it has opened its sockets.
fn wait_until_it_listens(child: &mut Child) -> BufReader<ChildStderr> {
    let mut stderr = BufReader::new(child.stderr.take().expect("asked for when spawned"));
    let mut said = String::new();
    while !said.contains("event method") {
        if stderr.read_line(&mut said).unwrap() == 0 {
            let _ = child.wait();
            panic!("nginx did not start:\n{said}");
        }
    }
    stderr
}

fn configuration(address: SocketAddr, backends: &[Backend], variable: &str) -> String {
    let variants = (0..backends.len()).flat_map(|index| [Variant::Removed(index), Variant::Down(index)]);
    let (mut upstreams, mut locations, mut servers) = (String::new(), String::new(), String::new());
    for variant in std::iter::once(Variant::All).chain(variants) {
        let path = variant.path();
        let name = &path[1..];
        let _ = writeln!(upstreams, "upstream {name} {{ hash {variable} consistent; keepalive 16;");
        for (index, Backend { address, weight }) in backends.iter().enumerate() {
            let _ = match variant {
                Variant::Removed(removed) if removed == index => Ok(()),
                Variant::Down(down) if down == index => writeln!(upstreams, "server {address} weight={weight} down;"),
                _ => writeln!(upstreams, "server {address} weight={weight};"),
            };
        }
        upstreams.push_str("}\n");
        let _ = writeln!(locations, "location {path} {{ proxy_pass http://{name}; }}");
    }
    for Backend { address, .. } in backends {
        let _ = writeln!(servers, "server {{ listen {address}; return 200 '{address}'; }}");
    }
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr notice;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; error_log error.log; keepalive_requests 1000000; default_type text/plain;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
            scgi_temp_path scgi; proxy_http_version 1.1; proxy_set_header Connection '';
            {upstreams}
            server {{ listen {address}; {locations} }}
            {servers}
        }}"
    )
}
