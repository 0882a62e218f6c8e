//! A real nginx: a balancer on one address, and its backends, which are servers of the same nginx.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use longhaul::config::Backend;

use crate::support::peer::{Peer, free};

/// A running nginx, ended when dropped.
pub(crate) struct Nginx {
    _process: Peer,
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

    /// The same, with backends that nginx's file has by host names of so many addresses each. All addresses of a name
    /// answer with its first.
    pub(crate) fn start_named(lab: u8, variable: &str, weights: &[u16], addresses: u8) -> Self {
        let of_name = |[a, b, c]: [u8; 3], n: u8, more: u8| Ipv4Addr::new(a, b, c, n + 10 * more);
        let start = |network| {
            let backend = |(n, &weight): (u8, &u16)| Backend {
                name: Some(format!("chat-{n}.internal:{}", PORT + 1).into()),
                address: (of_name(network, n, 0), PORT + 1).into(),
                weight,
            };
            (1..).zip(weights).map(backend).collect()
        };
        let hosts = |network| {
            let line = |n: u8, more: u8| format!("{} chat-{n}.internal\n", of_name(network, n, more));
            (1..).zip(weights).flat_map(|(n, _)| (0..addresses).map(move |more| line(n, more))).collect()
        };
        Self::start_at(lab, variable, start, Some(Hosts { addresses, file: &hosts }))
    }

    fn start_with(lab: u8, variable: &str, weights: &[u16], host: impl Fn([u8; 3], u8) -> SocketAddr) -> Self {
        let backends = |network| {
            let backend =
                |(n, &weight): (usize, &u16)| Backend { name: None, address: host(network, 1 + n as u8), weight };
            weights.iter().enumerate().map(backend).collect()
        };
        Self::start_at(lab, variable, backends, None)
    }

    fn start_at(lab: u8, variable: &str, backends: impl Fn([u8; 3]) -> Vec<Backend>, hosts: Option<Hosts<'_>>) -> Self {
        let network = free_network(lab);
        let [a, b, c] = network;
        let address = SocketAddr::from((Ipv4Addr::new(a, b, c, 100), PORT));
        let backends = backends(network);
        let prefix = tempfile::tempdir().unwrap();
        let each = hosts.as_ref().map_or(1, |hosts| hosts.addresses);
        std::fs::write(prefix.path().join("nginx.conf"), configuration(address, &backends, variable, each)).unwrap();
        let hosts = hosts.map(|hosts| {
            let path = prefix.path().join("hosts");
            std::fs::write(&path, (hosts.file)(network)).unwrap();
            path
        });
        let process = Peer::nginx_with(address, prefix, |command| match hosts {
            // The resolver of the C library reads this file in place of /etc/hosts.
            Some(hosts) => command.env("LD_PRELOAD", "libnss_wrapper.so").env("NSS_WRAPPER_HOSTS", hosts),
            None => command,
        });
        Self { _process: process, address, backends }
    }
}

/// Below the ephemeral ports, so that no connection's own end takes it.
const PORT: u16 = 18_080;

/// A network of 127.0.0.0/8 that no other run of these tests is using: the lab's own unless there is one.
fn free_network(lab: u8) -> [u8; 3] {
    let balancer = free((0..16).map(|run| (Ipv4Addr::new(127, 77, lab + 16 * run, 100), PORT).into()));
    let IpAddr::V4(ip) = balancer.ip() else { unreachable!("an IPv4 address was asked for") };
    let [a, b, c, _] = ip.octets();
    [a, b, c]
}

/// Host names for nginx.
struct Hosts<'h> {
    /// Number of addresses that each name has.
    addresses: u8,
    /// Text of the hosts file, for a network.
    file: &'h dyn Fn([u8; 3]) -> String,
}

fn configuration(address: SocketAddr, backends: &[Backend], variable: &str, each: u8) -> String {
    let variants = (0..backends.len()).flat_map(|index| [Variant::Removed(index), Variant::Down(index)]);
    let (mut upstreams, mut locations, mut servers) = (String::new(), String::new(), String::new());
    for variant in std::iter::once(Variant::All).chain(variants) {
        let path = variant.path();
        let name = &path[1..];
        let _ = writeln!(upstreams, "upstream {name} {{ hash {variable} consistent; keepalive 16;");
        for (index, backend) in backends.iter().enumerate() {
            let (server, weight) = (backend.identity(), backend.weight);
            let _ = match variant {
                Variant::Removed(removed) if removed == index => Ok(()),
                Variant::Down(down) if down == index => writeln!(upstreams, "server {server} weight={weight} down;"),
                _ => writeln!(upstreams, "server {server} weight={weight};"),
            };
        }
        upstreams.push_str("}\n");
        let _ = writeln!(locations, "location {path} {{ proxy_pass http://{name}; }}");
    }
    for Backend { address, .. } in backends {
        let more = (1..each).map(|more| match address.ip() {
            IpAddr::V4(ip) => {
                SocketAddr::from((Ipv4Addr::from_bits(ip.to_bits() + 10 * u32::from(more)), address.port()))
            }
            IpAddr::V6(_) => unreachable!("host names have IPv4 addresses here"),
        });
        let listen: String = std::iter::once(*address).chain(more).map(|at| format!("listen {at}; ")).collect();
        let _ = writeln!(servers, "server {{ {listen} return 200 '{address}'; }}");
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
