//! `limits.memory`: what is kept for clients.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::guest::Guest;
use crate::lab::{Company, HEAVY, LISTENERS, Lab, Listener, Setup, assert_refused, moment, stranger};
use crate::support::within;
use crate::wire::{From, frame};

const KEPT: &str = "longhaul_kept_bytes";

/// The beginning of a message that hooks wait for, and the rest of it.
fn long_message(length: usize, first: usize) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = frame(From::Client, 0x82, &vec![b'x'; length]);
    let rest = bytes.split_off(bytes.len() - (length - first));
    (bytes, rest)
}

/// Waits until as much is kept as a test wants, or more.
async fn kept(lab: &Lab, least: usize) {
    let reached = async {
        while lab.gateway.metric(KEPT).await < least as f64 {
            moment().await;
        }
    };
    within("bytes to be kept", reached).await;
}

async fn inspected(lab: &Lab, number: usize, listener: Listener) -> Guest {
    lab.open(stranger(number), listener, "/inspected").await
}

#[tokio::test]
async fn above_the_limit_new_work_is_refused_and_open_tunnels_go_on() {
    let lab = Lab::start("{ memory: 400KiB, head: { size: 64KiB, time: 1h } }").await;
    let mut company = lab.company().await;
    // Unfinished heads, 60,000 bytes each.
    let mut slow = Vec::new();
    for number in 0..8 {
        let mut guest = lab.connect(stranger(number), LISTENERS[number % 2]).await.unwrap();
        guest.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {}", "c".repeat(59_900))).await;
        slow.push(guest);
    }
    kept(&lab, 420_000).await;
    for listener in LISTENERS {
        assert_refused(&lab.get(stranger(20), listener).await, 503);
        assert_refused(&lab.shake(stranger(21), listener, "/").await, 503);
    }
    company.talks().await;
    for answer in company.asks().await {
        assert_refused(&answer, 503);
    }
    within("refusals to be counted", async { while lab.refused("memory").await < 8.0 {} }).await;
    // Long heads of clients that are refused are not waited for, and what came of them is not kept.
    for listener in LISTENERS {
        let mut guest = lab.connect(stranger(22), listener).await.unwrap();
        guest.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {}", "c".repeat(30_000))).await;
        let answer = guest.answer().await.expect("an answer");
        assert_eq!((answer.status(), answer.field("retry-after").is_some()), (503, true), "{answer:?}");
    }
    lab.gateway.access.find(&[" status=503 ", " error=memory"]).await;
    drop(slow);
    lab.gateway.metric_becomes(KEPT, 0.0).await;
    company.is_served_anew(&lab).await;
}

#[tokio::test]
async fn the_largest_keeper_is_not_read_until_others_have_made_room() {
    let _alone = HEAVY.lock().await;
    // Each worker holds its largest back. With two of them both tunnels could be that.
    let setup = Setup { limits: "{ memory: 1MiB }", top: "threads: 1\n", ..Setup::default() };
    let lab = Lab::set_up(&setup).await;
    let mut company = lab.company().await;
    // A keeper that waits for ten seconds is ended. On a machine that stands still for so long, another one shows it.
    while !the_largest_waits(&lab, &mut company).await {
        lab.gateway.metric_becomes(KEPT, 0.0).await;
    }
    lab.gateway.metric_becomes(KEPT, 0.0).await;
    company.is_served_anew(&lab).await;
}

/// Checks one largest keeper; false where it waited so long that it may have been ended.
async fn the_largest_waits(lab: &Lab, company: &mut Company) -> bool {
    let mut largest = inspected(lab, 1, Listener::Plain).await;
    let mut second = inspected(lab, 2, Listener::Tls).await;
    let (begin, rest) = long_message(1_000_000, 900_000);
    largest.send(begin).await;
    let (begin_second, rest_second) = long_message(600_000, 400_000);
    kept(lab, 900_000).await;
    let begun = Instant::now();
    second.send(begin_second).await;
    kept(lab, 1_300_000).await;
    // The whole message is there, and nobody looks at it.
    largest.send(rest).await;
    let [plain, tls] = LISTENERS.map(|listener| lab.get(stranger(20), listener));
    let (plain, tls, ()) = tokio::join!(plain, tls, company.talks());
    let still_kept = lab.gateway.metric(KEPT).await;
    second.send(rest_second).await;
    let messages = [second.message().await, largest.message().await];
    if begun.elapsed() > Duration::from_secs(9) {
        return false;
    }
    assert_refused(&plain, 503);
    assert_refused(&tls, 503);
    assert!(still_kept < 1_400_000.0, "the rest was not read");
    assert_eq!(messages.map(|message| message.map(|message| message.len())), [Some(600_000), Some(1_000_000)]);
    true
}

#[tokio::test]
async fn keepers_that_nobody_makes_room_for_are_ended_in_the_end() {
    let _alone = HEAVY.lock().await;
    let mut lab = Lab::start("{}").await;
    let mut greedy = Vec::new();
    for number in 0..4 {
        let mut guest = inspected(&lab, number, LISTENERS[number % 2]).await;
        guest.send(long_message(1_000_000, 500_000 + number).0).await;
        greedy.push(guest);
    }
    kept(&lab, 2_000_000).await;
    let mut company = lab.company().await;
    lab.reload(&Setup { limits: "{ memory: 1MiB }", ..Setup::default() }).await;
    assert_refused(&lab.get(stranger(20), Listener::Tls).await, 503);
    // One byte more is noticed by the worker that has it.
    for guest in &mut greedy {
        guest.send("x").await;
    }
    lab.gateway.access.find(&[" tunnel_end ", " reason=hook_memory"]).await;
    company.talks().await;
    lab.served(Ipv4Addr::new(127, 21, 0, 1), Listener::Plain).await;
    company.is_served_anew(&lab).await;
}
