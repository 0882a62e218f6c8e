//! `limits.connections`: the connections of the process.

use crate::lab::{LISTENERS, Lab, Listener, assert_refused, stranger};

/// The company has ten, so that ten are left.
const LIMITS: &str = "{ connections: 20 }";

#[tokio::test]
async fn one_more_than_the_process_may_have_is_told_to_come_back_and_nobody_else_notices() {
    let lab = Lab::start(LIMITS).await;
    let mut company = lab.company().await;
    let mut crowd = Vec::new();
    for number in 0..10 {
        crowd.push(lab.stays(stranger(number), LISTENERS[number % 2]).await);
    }
    for (number, listener) in LISTENERS.into_iter().cycle().take(6).enumerate() {
        let answer = lab.get(stranger(100 + number), listener).await;
        assert_refused(&answer, 503);
        assert_eq!(answer.field("connection"), Some("close"));
        assert_refused(&lab.shake(stranger(200 + number), listener, "/").await, 503);
        company.is_served().await;
    }
    lab.refused_becomes("connections", 12.0).await;
    let client = format!(" client={} ", stranger(205));
    let line = lab.gateway.access.find(&[" request ", &client, " status=503 "]).await;
    assert!(line.contains(" error=connections"), "{line}");
    // Once somebody has left, somebody may come.
    drop(crowd);
    for listener in LISTENERS {
        lab.served(stranger(300), listener).await;
        lab.open(stranger(301), listener, "/").await.echoes().await;
    }
    company.is_served_anew(&lab).await;
}

#[tokio::test]
async fn tunnels_count_as_connections_of_the_process_until_they_end() {
    let lab = Lab::start("{ connections: 12 }").await;
    let mut company = lab.company().await;
    let mut first = lab.open(stranger(1), Listener::Plain, "/").await;
    let mut second = lab.open(stranger(1), Listener::Tls, "/hooked").await;
    for listener in LISTENERS {
        assert_refused(&lab.get(stranger(2), listener).await, 503);
    }
    first.echoes().await;
    second.echoes().await;
    company.is_served().await;
    drop(first);
    lab.served(stranger(2), Listener::Plain).await;
}

/// So many that not all of them are answered: the others are closed at once, and counted.
#[tokio::test]
async fn a_flood_over_the_limit_is_counted_and_ends_and_the_company_is_served() {
    let lab = Lab::start("{ connections: 10 }").await;
    let mut company = lab.company().await;
    let (mut answered, mut closed) = (0, 0);
    for round in 0..10 {
        let mut crowd = Vec::new();
        for number in 0..50 {
            crowd.push(lab.silent(stranger(round * 50 + number), LISTENERS[number % 2]).await);
        }
        company.is_served().await;
        for stream in crowd {
            let mut guest = crate::guest::Guest::over(stream, None).await.unwrap();
            // On the TLS listener this is answered in plain words, too: it is a request of a client that is mistaken.
            match guest.get("").await {
                Some(answer) => {
                    assert!([503, 400].contains(&answer.status()), "{answer:?}");
                    answered += 1;
                }
                None => closed += 1,
            }
        }
    }
    assert_eq!(answered + closed, 500);
    lab.refused_becomes("connections", 500.0).await;
    assert!(answered > 0, "some are answered");
    company.is_served().await;
}
