//! Rates of clients on the gateway's own clock; unit tests with a clock of their own cover the details.

use std::time::{Duration, Instant};

use crate::support::{Gateway, within};
use crate::wire::{Frame, From, Manual, Wire, all_ended, close, configuration, gateway, has, switching, text, tunnel};
use crate::wire::{field, upgrade};

fn throttled(limit: &str) -> String {
    format!("longhaul_tunnels_throttled_total{{limit=\"{limit}\",upstream=\"u\"}}")
}

/// Reads so many messages; the time that each took to come.
async fn arrivals(server: &mut Wire, count: usize, since: Instant) -> Vec<Duration> {
    let mut arrived = Vec::new();
    for number in 0..count {
        assert_eq!(String::from_utf8(server.frame().await.payload).unwrap(), format!("{number}"));
        arrived.push(since.elapsed());
    }
    arrived
}

fn numbered(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| text(From::Client, &number.to_string())).collect()
}

#[tokio::test]
async fn no_message_comes_before_its_rate_lets_it_and_none_is_lost() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { messages: 20/s }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let since = Instant::now();
    client.send(numbered(60)).await;
    let arrived = arrivals(&mut server, 60, since).await;
    for (number, at) in arrived.iter().enumerate().skip(20) {
        let earliest = Duration::from_millis((number as u64 + 1 - 20) * 50);
        assert!(*at >= earliest, "message {number} after {at:?}, not {earliest:?}");
    }
    // Back again nothing is limited.
    server.send(text(From::Backend, "back").repeat(200)).await;
    for _ in 0..200 {
        client.frame().await;
    }
    gateway.metric_becomes(&throttled("messages"), 1.0).await;
    client.send(close(From::Client, 1000)).await;
    server.frame().await;
    server.send(close(From::Backend, 1000)).await;
    drop((client, server));
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=client_close", "messages_from_client=60"]);
}

#[tokio::test]
async fn a_client_over_its_rate_is_closed_with_1008_where_that_is_asked_for() {
    let mut backend = Manual::start().await;
    let limits = "    tunnel: { messages: 3/s, over_rate: close }\n";
    let gateway = gateway(&[backend.address()], limits).await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    client.send(numbered(10)).await;
    arrivals(&mut server, 3, Instant::now()).await;
    assert_eq!(server.frame().await, Frame::close_to_backend(1008, "over_rate"));
    assert_eq!(client.frame().await, Frame::close_to_client(1008, "over_rate"));
    client.send(close(From::Client, 1008)).await;
    server.send(close(From::Backend, 1008)).await;
    drop((client, server));
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=over_rate", "close_code=1008", "by=gateway"]);
    gateway.metric_becomes("longhaul_tunnels_ended_total{reason=\"over_rate\",upstream=\"u\"}", 1.0).await;
}

async fn with_key(gateway: &Gateway, backend: &mut Manual, key: &str) -> (Wire, Wire) {
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade(&format!("X-Room: {key}\r\n"))).await;
    let mut server = backend.next().await;
    assert_eq!(field(&server.head().await, "x-room"), Some(key));
    server.send(switching("")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, server)
}

/// On both workers: the freest one gets the next tunnel.
#[tokio::test]
async fn tunnels_of_one_key_share_a_rate_and_others_have_their_own() {
    let mut backend = Manual::start().await;
    let limits = "    affinity: [ header: x-room ]\n    tunnel: { per_key: { messages: 20/s } }\n";
    let gateway = gateway(&[backend.address()], limits).await;
    let mut shared = Vec::new();
    for _ in 0..4 {
        shared.push(with_key(&gateway, &mut backend, "same").await);
    }
    let since = Instant::now();
    for (client, _) in &mut shared {
        client.send(numbered(20)).await;
    }
    let (mut other, mut its_server) = with_key(&gateway, &mut backend, "other").await;
    other.send(numbered(20)).await;
    arrivals(&mut its_server, 20, since).await;
    let mut all = Vec::new();
    for (_, server) in &mut shared {
        all.extend(arrivals(server, 20, since).await);
    }
    all.sort_unstable();
    // 80 messages: 20 at once, and the last one 3 seconds later. Each came no later than it was read.
    assert!(*all.last().unwrap() >= Duration::from_secs(3), "{all:?}");
    // None but the first gets by without a wait, unless whole seconds pass between what the clients say.
    assert!(gateway.metric(&throttled("key_messages")).await >= 1.0);
    assert_eq!(gateway.metric(&throttled("messages")).await, 0.0);
}

#[tokio::test]
async fn a_reload_changes_the_rates_of_open_tunnels() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    client.send(numbered(100)).await;
    arrivals(&mut server, 100, Instant::now()).await;
    let address = backend.address();
    let reload = async |limits: &str, generation: usize| {
        gateway.reload(&configuration(&[address], limits));
        gateway.metric_becomes("longhaul_config_generation", generation as f64).await;
    };
    reload("    tunnel: { messages: 2/s, bytes: 100KiB/s }\n", 2).await;
    // The workers have heard of it by the time that they open another tunnel.
    let _another = tunnel(&gateway, &mut backend).await;
    let _one_more = tunnel(&gateway, &mut backend).await;
    client.send(numbered(200)).await;
    gateway.metric_becomes(&throttled("messages"), 1.0).await;
    reload("", 3).await;
    within("the rest at once", arrivals(&mut server, 200, Instant::now())).await;
}
