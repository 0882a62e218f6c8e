//! Tunnels by wss move to new processes: every message comes back as it was sent, wherever its records are cut.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustls::{ClientConfig, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::backends::{Front, server_config};
use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, blocking, ready, upgrade};
use crate::raw::Raw;
use crate::support::certificates::Authority;
use crate::support::{Gateway, folder, hooked};
use crate::ws::{BINARY, CLOSE, Tunnel, all_echo, frame, open_several};

/// A gateway with a TLS listener and a plain one, and the authority of its certificate.
async fn gateway(lab: &Lab, more: &str) -> (Gateway, Authority) {
    let authority = Authority::new("Test Authority");
    let dir = folder_of(&(lab.config("") + more), &authority);
    (ready(Gateway::begin(dir, &[], &[]).listening().await).await, authority)
}

/// The folder of a gateway with this configuration and a TLS listener before its own.
fn folder_of(yaml: &str, authority: &Authority) -> Arc<TempDir> {
    let tls = "listeners:\n  - address: 127.0.0.1:0\n    tls:\n      \
               certificates: [{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]\n";
    let dir = folder(&yaml.replacen("listeners:\n", tls, 1));
    authority.issue(&["a.test"]).write(dir.path(), "a");
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    dir
}

/// A tunnel by wss.
struct Wss {
    client: Client,
    is_tls13: bool,
    sent: usize,
}

impl Wss {
    fn open(to: SocketAddr, path: &str, config: &Arc<ClientConfig>) -> Self {
        let mut client = Client::connect(to, "a.test", config).unwrap();
        assert!(client.upgrade(path).starts_with("HTTP/1.1 101 "));
        let is_tls13 = client.stream.conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        Self { client, is_tls13, sent: 0 }
    }

    /// Opens several that speak this version.
    fn several(
        (to, path): (SocketAddr, &str),
        count: usize,
        authority: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Vec<Self> {
        let config = config(authority, &[version], None);
        (0..count).map(|_| Self::open(to, path, &config)).collect()
    }

    /// A message that no other one of this tunnel is like: most are small, some take several records.
    fn next(&mut self) -> Vec<u8> {
        self.sent += 1;
        let size = if self.sent.is_multiple_of(13) { 40_000 } else { self.sent * 37 % 300 };
        (0..size).map(|at| (at * 7 + self.sent) as u8).collect()
    }

    fn echoes(&mut self) {
        if self.is_tls13 && self.sent.is_multiple_of(7) {
            self.client.stream.conn.refresh_traffic_keys().unwrap();
        }
        let message = self.next();
        self.client.send(frame(BINARY, &message, true));
        assert!(self.hear() == (BINARY, message), "another message came back");
    }

    /// Asks the hook `keeping` how many messages it has seen.
    fn counts(&mut self) -> String {
        self.client.send(frame(0x81, b"count", true));
        String::from_utf8(self.hear().1).unwrap()
    }

    /// The Close frame of the gateway comes, and then the end of the stream.
    fn is_closed(&mut self) {
        assert_eq!(self.hear().0, CLOSE);
        self.client.send(frame(CLOSE, &1001u16.to_be_bytes(), true));
        let mut rest = Vec::new();
        self.client.stream.read_to_end(&mut rest).expect("a close_notify before the FIN");
    }

    /// The next frame: its first byte and its payload.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let head = self.client.exactly(2);
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.client.exactly(2).try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(self.client.exactly(8).try_into().unwrap())).unwrap(),
            short => usize::from(short),
        };
        (head[0], self.client.exactly(length))
    }
}

/// The other ends of TLS: the authority of all certificates, and the end of TLS before the backend of `/sealed`.
pub(crate) struct Ends {
    pub(crate) authority: Authority,
    front: Front,
}

/// A gateway with this configuration of the lab's, a TLS listener behind its own, and a route `/sealed` to the lab's
/// backend by TLS.
pub(crate) async fn with_tls(lab: &Lab, yaml: &str) -> (Gateway, Ends) {
    let authority = Authority::new("Test Authority");
    let config = server_config(&authority.issue(&["chat.internal"]), None, &VERSIONS);
    let front = Front::start(lab.address(), config).await;
    let tls = "  - address: 127.0.0.1:0\n    tls:\n      certificates: [{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]\n";
    let yaml = yaml.replacen("metrics:\n", &format!("{tls}metrics:\n"), 1);
    let yaml = yaml.replacen("routes:\n", "routes:\n  - { path: /sealed, upstream: sealed }\n", 1);
    let sealed = format!("  sealed:\n    health: off\n    backends: [{}]\n{BACKEND_TLS}", front.address());
    let dir = folder(&(yaml + &sealed));
    authority.issue(&["a.test"]).write(dir.path(), "a");
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    (ready(Gateway::begin(dir, &[], &[]).listening().await).await, Ends { authority, front })
}

/// Tunnels by wss of tests that are about something else: some of each version, with a plain backend and with one by
/// TLS.
pub(crate) struct Secure {
    tunnels: Vec<Wss>,
    _front: Front,
}

impl Secure {
    pub(crate) async fn open(to: SocketAddr, Ends { authority, front }: Ends) -> Self {
        let open = move |(path, version)| Wss::several((to, path), 2, &authority.pem, version);
        let kinds = ["/echo", "/sealed"].into_iter().flat_map(|path| VERSIONS.map(|version| (path, version)));
        Self { tunnels: blocking(move || kinds.flat_map(open).collect()).await, _front: front }
    }

    pub(crate) fn count(&self) -> usize {
        self.tunnels.len()
    }

    /// Every message comes back on each, with new keys now and then.
    pub(crate) async fn echo(&mut self) {
        let mut tunnels = std::mem::take(&mut self.tunnels);
        self.tunnels = blocking(move || {
            tunnels.iter_mut().for_each(Wss::echoes);
            tunnels
        })
        .await;
    }
}

/// Tunnels whose messages go on while processes change.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Wss>>>,
}

impl Traffic {
    fn start(mut tunnels: Vec<Wss>) -> Self {
        let (stop, mut threads) = (Arc::new(AtomicBool::new(false)), Vec::new());
        while !tunnels.is_empty() {
            let (stop, mut share) = (Arc::clone(&stop), tunnels.split_off(tunnels.len().saturating_sub(60)));
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    share.iter_mut().for_each(Wss::echoes);
                }
                // Once more, after the last change.
                share.iter_mut().for_each(Wss::echoes);
                share
            }));
        }
        Self { stop, threads }
    }

    fn finish(self) -> Vec<Wss> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("every message comes back")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_of_both_versions_and_plain_ones_move_under_traffic_again_and_again() {
    let lab = Lab::start().await;
    let (mut gateway, authority) = gateway(&lab, "").await;
    let (secure, plain) = (gateway.addresses[0], gateway.addresses[1]);
    let mut plain = open_several(plain, 20).await;
    let pem = authority.pem.clone();
    let mut tunnels = blocking(move || {
        VERSIONS.map(|version| Wss::several((secure, "/echo"), 90, &pem, version)).into_iter().flatten().collect()
    })
    .await;
    gateway.metric_becomes("longhaul_tunnels_open{tls=\"record\"}", 180.0).await;
    for _ in 0..3 {
        let traffic = Traffic::start(tunnels);
        let old = upgrade(&mut gateway).await;
        let moved = ["handed over: 200 tunnels moved, 0 stayed", "180 with TLS (180 to the client, 0 to the backend"];
        old.log.find(&moved).await;
        tunnels = blocking(move || traffic.finish()).await;
        all_echo(&mut plain).await;
    }
    for (tls, open) in [("none", 20.0), ("record", 180.0), ("rustls", 0.0)] {
        gateway.metric_becomes(&format!("longhaul_tunnels_open{{tls=\"{tls}\"}}"), open).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_came_or_went_in_part_are_finished_by_the_next_process() {
    let lab = Lab::start().await;
    let (mut gateway, authority) = gateway(&lab, "").await;
    for version in VERSIONS {
        let (to, config) = (gateway.address(), config(&authority.pem, &[version], None));
        let mut tunnel = blocking(move || Wss::open(to, "/puppet", &config)).await;
        let mut backend = lab.puppet().await;
        // Half a record from the client, and more to the client than it takes.
        let message = frame(BINARY, &[7; 9_000], true);
        tunnel.client.stream.conn.writer().write_all(&message).unwrap();
        let mut sealed = Vec::new();
        tunnel.client.stream.conn.write_tls(&mut sealed).unwrap();
        tunnel.client.stream.sock.write_all(&sealed[..5_000]).unwrap();
        let many = vec![9; 8 << 20];
        let sending = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut backend, &frame(BINARY, &many, false)).await.unwrap();
            let mut heard = vec![0; message.len()];
            tokio::io::AsyncReadExt::read_exact(&mut backend, &mut heard).await.unwrap();
            assert!(heard == message, "other bytes came");
        });
        for _ in 0..2 {
            let old = upgrade(&mut gateway).await;
            old.log.find(&["handed over: 1 tunnel moved, 0 stayed"]).await;
        }
        tunnel.client.stream.sock.write_all(&sealed[5_000..]).unwrap();
        let mut tunnel = blocking(move || {
            assert!(tunnel.hear() == (BINARY, vec![9; 8 << 20]), "another message came");
            tunnel
        })
        .await;
        sending.await.unwrap();
        tunnel.client.stream.conn.send_close_notify();
        tunnel.client.stream.conn.complete_io(&mut tunnel.client.stream.sock).unwrap();
        // The backend is gone by now; the client is told by a Close frame, and by a `close_notify` at the end.
        blocking(move || {
            let mut rest = Vec::new();
            tunnel.client.stream.read_to_end(&mut rest).expect("a close_notify before the FIN");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_successor_is_given_plain_tunnels_and_the_others_end_by_the_drain_policy() {
    let lab = Lab::start().await;
    let (mut gateway, authority) = gateway(&lab, "drain: { window: 1s }\n").await;
    let mut plain = open_several(gateway.addresses[1], 1).await;
    all_echo(&mut plain).await;
    let (to, pem) = (gateway.address(), authority.pem.clone());
    let mut secure = blocking(move || {
        let mut secure = Wss::several((to, "/echo"), 2, &pem, &rustls::version::TLS13);
        // Only a message shows that a tunnel is open.
        secure.iter_mut().for_each(Wss::echoes);
        secure
    })
    .await;
    let door = gateway.dir.path().join("upgrade.sock");
    let passports = blocking(move || crate::fixture::take_over(Raw::connect(&door), 2, 3, 1)).await;
    assert!(passports[0].get("tls").is_none());
    gateway.log.find(&["2 tunnels cannot move: the end comes within 1s"]).await;
    blocking(move || secure.iter_mut().for_each(Wss::is_closed)).await;
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_with_tls_on_either_side_or_both_move_under_traffic() {
    let lab = Lab::start().await;
    let authority = Authority::new("Test Authority");
    let mut fronts = Vec::new();
    for version in VERSIONS {
        let config = server_config(&authority.issue(&["chat.internal"]), None, &[version]);
        fronts.push(Front::start(lab.address(), config).await);
    }
    let upstream = |name: &str, front: &Front| {
        let address = front.address();
        format!("  {name}:\n    health: off\n    backends: [{address}]\n{BACKEND_TLS}")
    };
    let yaml = lab.config(&(upstream("old", &fronts[0]) + &upstream("new", &fronts[1])));
    let routes = "routes:\n  - { path: /old, upstream: old }\n  - { path: /new, upstream: new }\n";
    let dir = folder_of(&yaml.replacen("routes:\n", routes, 1), &authority);
    let mut gateway = ready(Gateway::begin(dir, &[], &[]).listening().await).await;
    let (secure, open) = (gateway.addresses[0], gateway.addresses[1]);
    let pem = authority.pem.clone();
    let mut tunnels: Vec<Wss> = blocking(move || {
        let of = |(path, version)| Wss::several((secure, path), 15, &pem, version);
        ["/echo", "/old", "/new"]
            .into_iter()
            .flat_map(|path| VERSIONS.map(|version| (path, version)))
            .flat_map(of)
            .collect()
    })
    .await;
    let mut plain = Vec::new();
    for path in ["/echo", "/old", "/new"] {
        for _ in 0..5 {
            plain.push(Tunnel::open(open, path).await);
        }
    }
    for _ in 0..3 {
        let traffic = Traffic::start(tunnels);
        let old = upgrade(&mut gateway).await;
        let with_tls = "100 with TLS (30 to the client, 10 to the backend, 60 to both)";
        old.log.find(&["handed over: 105 tunnels moved, 0 stayed", with_tls]).await;
        tunnels = blocking(move || traffic.finish()).await;
        all_echo(&mut plain).await;
    }
    gateway.metric_becomes("longhaul_tunnels_open{tls=\"record\"}", 100.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_with_hooks_move_in_the_middle_of_a_message_and_keep_what_hooks_keep() {
    let lab = Lab::start().await;
    let authority = Authority::new("Test Authority");
    let yaml = lab.config("").replace("- upstream", "- hooks: [keeping]\n    upstream");
    let dir = folder_of(&yaml, &authority);
    let mut gateway = ready(Gateway::begin_with(&hooked(), dir, &[], &[]).listening().await).await;
    for version in VERSIONS {
        let (to, pem) = (gateway.address(), authority.pem.clone());
        let mut tunnel = blocking(move || {
            let mut tunnel = Wss::several((to, "/echo"), 1, &pem, version).remove(0);
            tunnel.echoes();
            assert!(tunnel.counts().starts_with("2 of "));
            tunnel.client.send(&frame(BINARY, &[5; 60_000], true)[..50_000]);
            tunnel
        })
        .await;
        let old = upgrade(&mut gateway).await;
        old.log.find(&["1 tunnel moved, 0 stayed", " with TLS ("]).await;
        let tunnel = blocking(move || {
            tunnel.client.send(&frame(BINARY, &[5; 60_000], true)[50_000..]);
            assert!(tunnel.hear() == (BINARY, vec![5; 60_000]), "another message came back");
            assert!(tunnel.counts().starts_with("4 of "));
            tunnel
        })
        .await;
        drop(tunnel);
        gateway.access.find(&[" tunnel_end ", " kept="]).await;
    }
}

/// `tls` of an upstream whose backends have certificates of the test's authority.
const BACKEND_TLS: &str = "    tls: { server_name: chat.internal, ca: '{dir}/ca.pem' }\n";
