//! Limits of heads and bodies reached on purpose, on both listeners at once, while the company is served.

use crate::guest::Guest;
use crate::lab::{Company, LISTENERS, Lab, Setup, stranger};

/// Limits that are reached by what is sent, and by bodies that do not go on.
const NARROW: &str = "{ head: { time: 1h, size: 4KiB, lines: 20, target: 1KiB }, body: { idle: 1s, size: 10KiB } }";
/// A limit that is reached by heads that do not end. The company's come whole.
const SHORT: &str = "{ head: { time: 1s } }";

/// The beginning of a request.
fn head(target: &str, lines: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a.test\r\n{lines}")
}

/// Twenty clients on both listeners, each of which sends these bytes and leaves it at that; the status of each answer.
async fn attack(lab: &Lab, company: &mut Company, bytes: &str) -> Vec<Option<u16>> {
    let (mut attackers, mut answers) = (Vec::<Guest>::new(), Vec::new());
    for number in 0..20 {
        let mut guest = lab.connect(stranger(number), LISTENERS[number % 2]).await.unwrap();
        guest.send(bytes).await;
        attackers.push(guest);
    }
    company.is_served().await;
    for mut guest in attackers {
        answers.push(guest.answer().await.map(|answer| answer.status()));
        assert!(guest.rest().await.is_empty(), "the connection ends");
    }
    company.is_served().await;
    answers
}

#[tokio::test]
async fn who_sends_more_than_a_request_may_have_is_told_and_nobody_else_notices() {
    let mut lab = Lab::start("").await;
    let mut company = lab.company().await;
    lab.reload(&Setup { limits: NARROW, ..Setup::default() }).await;
    for (bytes, status, reason) in [
        (head(&format!("/{}", "t".repeat(2_000)), "\r\n"), 414, "target"),
        (head("/", &format!("X-Long: {}", "l".repeat(5_000))), 431, "size"),
        (head("/", &"X-Line: x\r\n".repeat(30)), 431, "lines"),
        (head("/never", "Content-Length: 100\r\n\r\nb"), 408, "body_slow"),
        (head("/", "Content-Length: 20000\r\n\r\nb"), 413, "body_size"),
    ] {
        let answers = attack(&lab, &mut company, &bytes).await;
        assert!(answers.iter().all(|answer| *answer == Some(status)), "{reason}: {answers:?}");
        lab.refused_becomes(reason, 20.0).await;
    }
    company.is_served_anew(&lab).await;
}

#[tokio::test]
async fn who_does_not_end_a_head_in_time_is_cut_off_and_nobody_else_notices() {
    let mut lab = Lab::start("").await;
    let mut company = lab.company().await;
    lab.reload(&Setup { limits: SHORT, ..Setup::default() }).await;
    let answers = attack(&lab, &mut company, "").await;
    assert!(answers.iter().all(Option::is_none), "{answers:?}");
    lab.refused_becomes("silent", 20.0).await;
    // One that a busy machine gives no time to begin is another one that was silent.
    let mut told = 0;
    while told == 0 {
        let answers = attack(&lab, &mut company, &head("/", "X-Unfinished: ")).await;
        assert!(answers.iter().all(|answer| matches!(answer, None | Some(408))), "{answers:?}");
        told += answers.iter().flatten().count();
    }
    lab.refused_becomes("slow", told as f64).await;
    lab.reload(&Setup::default()).await;
    company.is_served_anew(&lab).await;
}
