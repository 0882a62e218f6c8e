//! A failure that a client brings about by its request is that client's: backends stay up, and others stay connected.

use std::net::Ipv4Addr;

use futures_util::future::join_all;

use crate::cast::{Cast, User, addresses, ask, config, unharmed, upgrade_to, users};
use crate::support::Gateway;

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// Tunnels of a backend that is taken as down are closed at once, so that a wrong judgement shows.
const STRICT: &str = "    drain_window: 0s\n    \
                      health: { check: tcp, interval: 1s, timeout: 500ms, fall: 3, on_down: close }\n";
/// For backends that do not answer; long enough for those that do.
const IMPATIENT: &str = "    timeouts: { handshake: 4s, try: 4s }\n";

/// A stranger asks for `path` again and again, by an upgrade and by a plain request, with keys of every backend, and
/// gets `status` each time. Nobody else notices.
async fn costs_nobody_else(path: &str, backends: usize, status: u16) {
    let cast = Cast::several(backends).await;
    let more = if status == 504 { format!("{STRICT}{IMPATIENT}") } else { STRICT.to_owned() };
    let gateway = Gateway::start(&config(&addresses(&cast), &more)).await;
    let mut users = users(&gateway, &cast).await;
    let asking = |key: usize| {
        let (gateway, request) = (&gateway, upgrade_to(&format!("{path}?u={}", key % 4)));
        async move { assert_eq!(ask(STRANGER, gateway, &request).await.status(), status, "{path}") }
    };
    if status == 504 {
        // Side by side, for each takes all of its time.
        join_all((0..12).map(asking)).await;
    } else {
        for key in 0..12 {
            asking(key).await;
        }
    }
    unharmed(&gateway, &mut users).await;
    let tried: usize = cast.iter().map(|backend| backend.asked(path)).sum();
    assert!(tried >= 12, "of 12 requests {tried} reached a backend");
}

/// The next backend would do the same, and the application's effects happen each time.
#[tokio::test]
async fn a_request_that_was_sent_is_tried_on_two_backends_at_most() {
    for path in ["/destroy", "/reset", "/half", "/garbage", "/endless", "/subprotocol", "/accept"] {
        let cast = Cast::several(3).await;
        let gateway = Gateway::start(&config(&addresses(&cast), STRICT)).await;
        for key in 0..12 {
            assert_eq!(ask(STRANGER, &gateway, &upgrade_to(&format!("{path}?u={key}"))).await.status(), 502, "{path}");
        }
        let tried: usize = cast.iter().map(|backend| backend.asked(path)).sum();
        assert!((12..=24).contains(&tried), "{path}: 12 requests were tried {tried} times");
    }
}

#[tokio::test]
async fn an_upgrade_that_backends_answer_by_closing_costs_nobody_else() {
    costs_nobody_else("/destroy", 3, 502).await;
    costs_nobody_else("/destroy", 2, 502).await;
}

#[tokio::test]
async fn an_upgrade_that_backends_answer_by_a_reset_costs_nobody_else() {
    costs_nobody_else("/reset", 3, 502).await;
}

#[tokio::test]
async fn an_upgrade_that_backends_answer_by_half_a_head_costs_nobody_else() {
    costs_nobody_else("/half", 3, 502).await;
}

#[tokio::test]
async fn an_upgrade_that_backends_answer_by_what_is_no_http_costs_nobody_else() {
    costs_nobody_else("/garbage", 3, 502).await;
}

#[tokio::test]
async fn an_upgrade_that_backends_answer_by_a_head_without_end_costs_nobody_else() {
    costs_nobody_else("/endless", 3, 502).await;
}

#[tokio::test]
async fn a_subprotocol_that_nobody_offered_costs_nobody_else() {
    costs_nobody_else("/subprotocol", 2, 502).await;
}

#[tokio::test]
async fn an_extension_that_nobody_offered_costs_nobody_else() {
    costs_nobody_else("/extension", 2, 502).await;
}

#[tokio::test]
async fn a_wrong_accept_key_costs_nobody_else() {
    costs_nobody_else("/accept", 3, 502).await;
}

#[tokio::test]
async fn a_101_without_its_headers_costs_nobody_else() {
    costs_nobody_else("/naked", 3, 502).await;
}

#[tokio::test]
async fn a_path_that_is_never_answered_costs_nobody_else() {
    costs_nobody_else("/never", 3, 504).await;
    costs_nobody_else("/never", 1, 504).await;
}

/// A backend alone is never taken out for what clients ask of it.
#[tokio::test]
async fn a_lone_backend_stays_up_whatever_strangers_ask_of_it() {
    let cast = Cast::several(1).await;
    let gateway = Gateway::start(&config(&addresses(&cast), STRICT)).await;
    let mut users = users(&gateway, &cast).await;
    for number in 0..24 {
        let reply = ask(network(number), &gateway, &upgrade_to("/destroy?u=1")).await;
        assert_eq!(reply.status(), 502);
    }
    unharmed(&gateway, &mut users).await;
}

/// Plain requests are retried by other rules, and are charged by the same.
#[tokio::test]
async fn a_plain_request_that_backends_answer_by_closing_costs_nobody_else() {
    for path in ["/destroy", "/reset", "/half", "/garbage"] {
        let cast = Cast::several(3).await;
        let gateway = Gateway::start(&config(&addresses(&cast), STRICT)).await;
        let mut users = users(&gateway, &cast).await;
        for key in 0..12 {
            let request = format!("GET {path}?u={} HTTP/1.1\r\nHost: lab\r\n\r\n", key % 4);
            assert_eq!(ask(STRANGER, &gateway, &request).await.status(), 502, "{path}");
        }
        unharmed(&gateway, &mut users).await;
    }
}

/// A crowd may cast doubt on a backend, on no more than a third of them, and doubt closes nothing that is open.
#[tokio::test]
async fn a_crowd_of_strangers_closes_no_tunnel_and_takes_the_service_from_nobody() {
    let cast = Cast::several(3).await;
    let gateway = Gateway::start(&config(&addresses(&cast), STRICT)).await;
    let mut users = users(&gateway, &cast).await;
    for number in 0..60 {
        let target = format!("/destroy?u={}", number % 4);
        assert_eq!(ask(network(number), &gateway, &upgrade_to(&target)).await.status(), 502, "request {number}");
    }
    let mut displaced = Vec::new();
    for (key, user) in users.iter_mut().enumerate() {
        user.echoes("still here").await;
        let newcomer = User::open(Ipv4Addr::new(127, 10, 0, 1 + key as u8), &gateway, key).await;
        displaced.extend((newcomer.home != user.home).then_some(user.home));
    }
    displaced.sort();
    displaced.dedup();
    assert!(displaced.len() <= 1, "at most a third of three backends is taken out: {displaced:?}");
}

/// An address of a network of its own.
fn network(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 100 + number, 1, 1)
}
