//! Re-homing: after a change of the ring, tunnels follow their keys where that was asked for.

use crate::client::Client;
use crate::subject::{Subject, upstreams};
use crate::support::Echo;

const KEYS: usize = 60;

async fn open_all(subject: &Subject) -> Vec<Client> {
    let mut clients = Vec::new();
    for key in 0..KEYS {
        clients.push(Client::open(subject.gateway.address(), "/a", &format!("room{key}")).await);
    }
    clients
}

/// Homes of new tunnels with the same keys, before with two backends and after with three.
async fn grow(rehome: &str) -> (Subject, String, Vec<Client>, Vec<Client>) {
    let echoes: &'static [Echo; 3] =
        Box::leak(Box::new([Echo::start().await, Echo::start().await, Echo::start().await]));
    let with = |number: usize| {
        let backends: Vec<_> = echoes[..number].iter().map(|echo| echo.address().to_string()).collect();
        let keys = format!("affinity: [header: x-room], backends: [{}], rehome: {rehome}", backends.join(", "));
        upstreams(&[("a", &keys)])
    };
    let mut subject = Subject::start(&with(2)).await;
    let before = open_all(&subject).await;
    let line = subject.reload(&with(3)).await;
    let after = open_all(&subject).await;
    (subject, line, before, after)
}

#[tokio::test]
async fn tunnels_whose_key_belongs_elsewhere_are_closed_and_the_others_stay() {
    let (_subject, line, before, after) = grow("{ over: 0s }").await;
    let mut moved = 0;
    for (mut before, after) in before.into_iter().zip(after) {
        if before.backend == after.backend {
            before.echo("at home").await;
        } else {
            moved += 1;
            before.must_be_closed_for("rehomed").await;
        }
    }
    assert!(0 < moved && moved < KEYS, "{moved}");
    assert!(line.contains(&format!("; {moved} tunnels to be re-homed")), "{line}");
}

#[tokio::test]
async fn without_it_everyone_stays() {
    let (_subject, line, before, after) = grow("off").await;
    assert!(before.iter().zip(&after).any(|(before, after)| before.backend != after.backend));
    assert!(!line.contains("re-homed"), "{line}");
    for mut client in before {
        client.echo("where I was").await;
    }
}

#[tokio::test]
async fn who_is_away_for_another_reason_is_left_alone_until_the_ring_changes() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let with = |first: u16, more: &str| {
        let backends = format!("{{ address: {}, weight: {first} }}, {}", one.address(), two.address());
        let keys =
            format!("affinity: [header: x-room], rehome: {{ over: 0s }}, on_change: keep, backends: [{backends}]");
        upstreams(&[("a", &format!("{keys}{more}"))])
    };
    // With the first backend at weight 0 every key is at the second.
    let mut subject = Subject::start(&with(0, "")).await;
    let mut clients = open_all(&subject).await;
    assert!(clients.iter().all(|client| client.backend == two.address()));
    let line = subject.reload(&with(0, ", fail_open: true")).await;
    assert!(!line.contains("re-homed"), "{line}");
    for client in &mut clients {
        client.echo("here").await;
    }
    let line = subject.reload(&with(1, "")).await;
    assert!(line.contains("tunnels to be re-homed"), "{line}");
}
