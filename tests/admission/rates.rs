//! Rates of tunnels, and of all tunnels of a key, gone over on purpose while the company is served.

use crate::guest::Guest;
use crate::lab::{LISTENERS, Lab, Setup, stranger};
use crate::wire::{From, text};

/// A rate, and what four clients of one key send at once.
pub(crate) struct Case {
    /// The `limit` of `longhaul_tunnels_throttled_total`.
    pub(crate) limit: &'static str,
    /// Keys of the upstream's `tunnel`.
    tunnel: &'static str,
    /// Messages of each client, and bytes of each message.
    messages: usize,
    length: usize,
}

const fn case(limit: &'static str, tunnel: &'static str, messages: usize, length: usize) -> Case {
    Case { limit, tunnel, messages, length }
}

/// Rates at which everything has passed after a few seconds.
pub(crate) const THROTTLED: [Case; 4] = [
    case("messages", "messages: 40/s", 80, 10),
    case("bytes", "bytes: 16KiB/s", 48, 1_000),
    case("key_messages", "per_key: { messages: 60/s }", 60, 10),
    case("key_bytes", "per_key: { bytes: 32KiB/s }", 30, 1_000),
];

/// Rates of which each client alone sends as much at once as a minute allows.
pub(crate) const CLOSED: [Case; 4] = [
    case("messages", "messages: 2/s, over_rate: close", 120, 10),
    case("bytes", "bytes: 1KiB/s, over_rate: close", 60, 1_000),
    case("key_messages", "per_key: { messages: 2/s }, over_rate: close", 120, 10),
    case("key_bytes", "per_key: { bytes: 1KiB/s }, over_rate: close", 60, 1_000),
];

/// Number of clients, on both listeners.
const CLIENTS: usize = 4;

impl Case {
    async fn lab(&self) -> Lab {
        let narrow = format!("    affinity: [ query: key ]\n    tunnel: {{ {} }}\n", self.tunnel);
        Lab::set_up(&Setup { narrow: &narrow, ..Setup::default() }).await
    }

    /// Clients that have sent all of their messages.
    async fn greedy(&self, lab: &Lab) -> Vec<Guest> {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            clients.push(lab.open(stranger(number), LISTENERS[number % 2], "/narrow?key=a").await);
        }
        let all: Vec<u8> = (0..self.messages).flat_map(|number| text(From::Client, &self.message(number))).collect();
        for client in &mut clients {
            client.send(&all).await;
        }
        clients
    }

    fn message(&self, number: usize) -> String {
        format!("{number:0length$}", length = self.length)
    }
}

#[tokio::test]
async fn who_sends_too_fast_is_held_back_loses_nothing_and_nobody_else_notices() {
    for case in THROTTLED {
        let lab = case.lab().await;
        let mut company = lab.company().await;
        let attack = async {
            for mut client in case.greedy(&lab).await {
                for number in 0..case.messages {
                    let echo = client.message().await.expect("the tunnel is open");
                    assert_eq!(String::from_utf8(echo).unwrap(), case.message(number), "{}", case.limit);
                }
            }
        };
        lab.beside(&mut company, attack).await;
        for limit in THROTTLED.map(|case| case.limit) {
            let name = format!("longhaul_tunnels_throttled_total{{limit=\"{limit}\",upstream=\"narrow\"}}");
            assert_eq!(lab.gateway.metric(&name).await > 0.0, limit == case.limit, "{limit} of {}", case.limit);
        }
        company.is_served_anew(&lab).await;
    }
}

#[tokio::test]
async fn who_sends_too_much_is_closed_with_1008_and_nobody_else_notices() {
    for case in CLOSED {
        let lab = case.lab().await;
        let mut company = lab.company().await;
        let attack = async {
            for mut client in case.greedy(&lab).await {
                let mut passed = 0;
                let close = loop {
                    match client.frame().await.expect("a Close frame") {
                        (0x88, close) => break close,
                        (_, echo) => assert_eq!(String::from_utf8(echo).unwrap(), case.message(passed)),
                    }
                    passed += 1;
                };
                assert_eq!(close, [&1008_u16.to_be_bytes()[..], b"over_rate"].concat());
                assert!(passed < case.messages, "{} of {}", passed, case.limit);
            }
        };
        lab.beside(&mut company, attack).await;
        let ended = "longhaul_tunnels_ended_total{reason=\"over_rate\",upstream=\"narrow\"}";
        lab.gateway.metric_becomes(ended, CLIENTS as f64).await;
        let parts = [" tunnel_end ", " client=127.66.", " reason=over_rate", " close_code=1008"];
        lab.gateway.access.find_nth(&parts, CLIENTS - 1).await;
        assert_eq!(lab.gateway.access.count(&[" reason=over_rate"]), CLIENTS);
        company.is_served_anew(&lab).await;
    }
}
