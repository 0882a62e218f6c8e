//! Tunnels by wss move to new processes: every message comes back as it was sent, wherever its records are cut.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, blocking, ready, upgrade};
use crate::raw::Raw;
use crate::support::certificates::Authority;
use crate::support::{Gateway, folder};
use crate::ws::{BINARY, CLOSE, all_echo, frame, open_several};

/// A gateway with a TLS listener and a plain one, and the authority of its certificate.
async fn gateway(lab: &Lab, more: &str) -> (Gateway, Authority) {
    let tls = "listeners:\n  - address: 127.0.0.1:0\n    tls:\n      \
               certificates: [{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]\n";
    let dir = folder(&(lab.config("").replacen("listeners:\n", tls, 1) + more));
    let authority = Authority::new("Test Authority");
    authority.issue(&["a.test"]).write(dir.path(), "a");
    (ready(Gateway::begin(dir, &[], &[]).listening().await).await, authority)
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
    fn several(to: SocketAddr, count: usize, authority: &str, version: &'static SupportedProtocolVersion) -> Vec<Self> {
        let config = config(authority, &[version], None);
        (0..count).map(|_| Self::open(to, "/echo", &config)).collect()
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
        VERSIONS.map(|version| Wss::several(secure, 90, &pem, version)).into_iter().flatten().collect()
    })
    .await;
    assert_eq!(gateway.metric("longhaul_tunnels_open{tls=\"record\"}").await, 180.0);
    for _ in 0..3 {
        let traffic = Traffic::start(tunnels);
        let old = upgrade(&mut gateway).await;
        let moved = ["handed over: 200 tunnels moved, 0 stayed", "180 with TLS (180 to the client, 0 to the backend"];
        old.log.find(&moved).await;
        tunnels = blocking(move || traffic.finish()).await;
        all_echo(&mut plain).await;
    }
    for (tls, open) in [("none", 20.0), ("record", 180.0), ("rustls", 0.0)] {
        assert_eq!(gateway.metric(&format!("longhaul_tunnels_open{{tls=\"{tls}\"}}")).await, open, "{tls}");
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
            old.log.find(&["handed over: 1 tunnels moved, 0 stayed"]).await;
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
    let mut secure = blocking(move || Wss::several(to, 2, &pem, &rustls::version::TLS13)).await;
    let door = gateway.dir.path().join("upgrade.sock");
    let passports = blocking(move || crate::fixture::take_over(Raw::connect(&door), 2, 3, 1)).await;
    assert!(passports[0].get("tls").is_none());
    gateway.log.find(&["2 tunnels cannot move, and end within 1s"]).await;
    blocking(move || secure.iter_mut().for_each(Wss::is_closed)).await;
    assert_eq!(gateway.ended().await, Some(0));
}
