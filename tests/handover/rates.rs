//! Rates of tunnels hold over upgrades, by TLS too: what a client has sent already counts in the next process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, blocking, upgrade};
use crate::tls::with_tls;
use crate::ws::{BINARY, frame};

/// Messages of a client, all sent at once.
#[derive(Clone, Copy)]
struct Messages {
    count: usize,
    size: usize,
}

impl Messages {
    fn payload(self, number: usize) -> Vec<u8> {
        (0..self.size).map(|at| (at * 7 + number) as u8).collect()
    }

    /// Sends all, and waits until each has come back; the time that took, and the tunnel, which is still open.
    fn echo(self, to: SocketAddr, config: Arc<ClientConfig>) -> JoinHandle<(Duration, Client)> {
        std::thread::spawn(move || {
            let mut client = Client::connect(to, "a.test", &config).unwrap();
            assert!(client.upgrade("/echo").starts_with("HTTP/1.1 101 "));
            let begun = Instant::now();
            let frames = (0..self.count).flat_map(|number| frame(BINARY, &self.payload(number), true));
            client.send(frames.collect::<Vec<_>>());
            for number in 0..self.count {
                let expected = frame(BINARY, &self.payload(number), false);
                assert!(client.exactly(expected.len()) == expected, "message {number} is another one");
            }
            (begun.elapsed(), client)
        })
    }
}

/// Sends messages through tunnels under a rate while two upgrades happen: all of them come back, and no faster than the
/// rate allows from their first to their last.
async fn held_to(rate: &str, limit: &str, messages: Messages, least: Duration) {
    let lab = Lab::start().await;
    let limits = format!("    tunnel: {{ {rate} }}\n");
    let (mut gateway, ends) = with_tls(&lab, &lab.config(&limits)).await;
    let to = gateway.addresses[1];
    let threads = VERSIONS.map(|version| messages.echo(to, config(&ends.authority.pem, &[version], None)));
    let throttled = format!("longhaul_tunnels_throttled_total{{limit=\"{limit}\",upstream=\"u\"}}");
    gateway.metric_becomes("longhaul_tunnels_opened_total{upstream=\"u\"}", 2.0).await;
    gateway.metric_counts(&throttled).await;
    for _ in 0..2 {
        let old = upgrade(&mut gateway).await;
        old.log.find(&["handed over: 2 tunnels moved, 0 stayed", "2 with TLS"]).await;
    }
    for thread in threads {
        let (taken, _client) = blocking(move || thread.join().unwrap()).await;
        assert!(taken >= least, "{taken:?} is less than {least:?}");
    }
}

/// Thirteen at two a second, of which two may come at once.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_tunnel_by_wss_stay_under_their_rate_over_upgrades() {
    held_to("messages: 2/s", "messages", Messages { count: 13, size: 20 }, Duration::from_millis(5_400)).await;
}

/// Five of 16 KiB at 16 KiB a second, of which one may come at once: it is cut where the rate ends.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_tunnel_by_wss_stay_under_their_rate_over_upgrades() {
    held_to("bytes: 16KiB/s", "bytes", Messages { count: 5, size: 16 << 10 }, Duration::from_millis(3_900)).await;
}
