//! Limits of heads, bodies and answers reached on purpose, on both listeners at once, while the company is served.

use crate::cast::WORDY;
use crate::guest::{Guest, narrow_tcp};
use crate::lab::{LISTENERS, Lab, Listener, Setup, stranger};

/// Limits that are reached by what is sent, and by bodies that do not go on.
const NARROW: &str = "{ head: { time: 1h, size: 4KiB, lines: 20, target: 1KiB }, body: { idle: 1s, size: 10KiB } }";
/// A limit that is reached by heads that do not end. The company's come whole.
const SHORT: &str = "{ head: { time: 1s } }";
/// A limit that is reached by whoever takes none of a long answer.
const PATIENT: &str = "{ answer: { idle: 2s, min_rate: 100B } }";

/// Clients of one attack, on both listeners.
const ATTACKERS: usize = 20;

/// A request that is refused.
pub(crate) struct Broken {
    pub(crate) reason: &'static str,
    bytes: Vec<u8>,
    status: u16,
    /// The client ends its side behind it.
    ends: bool,
    listeners: &'static [Listener],
}

/// Requests that are refused by what is sent, one for each reason.
pub(crate) fn broken() -> Vec<Broken> {
    let refused = |(reason, bytes, status)| {
        let listeners: &[Listener] = if reason == "tls" { &[Listener::Plain] } else { &LISTENERS };
        Broken { reason, bytes, status, ends: reason == "incomplete", listeners }
    };
    let lines = |lines: &str| post("/", lines);
    [
        ("incomplete", b"GET / HTTP/1.1\r\nHost: a.t".to_vec(), 400),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        ("malformed", lines("no colon\r\n\r\n"), 400),
        ("version", b"GET / HTTP/3.0\r\nHost: a.test\r\n\r\n".to_vec(), 505),
        ("method", format!("{} / HTTP/1.1\r\n", "M".repeat(100)).into(), 501),
        ("target", post(&format!("/{}", "t".repeat(2_000)), "\r\n"), 414),
        ("size", lines(&format!("X-Long: {}", "l".repeat(5_000))), 431),
        ("lines", lines(&"X-Line: x\r\n".repeat(30)), 431),
        ("connect", b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n".to_vec(), 405),
        ("target_malformed", b"GET lab HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(), 400),
        ("target_nul", b"GET /%00 HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(), 400),
        ("host", lines("Host: b.test\r\n\r\n"), 400),
        ("length", lines("Content-Length: 1, 2\r\n\r\n"), 400),
        ("two_lengths", lines("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        ("coding", lines("Transfer-Encoding: chunked, chunked\r\n\r\n"), 400),
        ("coding_unknown", lines("Transfer-Encoding: gzip, chunked\r\n\r\n"), 501),
        ("connection", lines("Connection: a b\r\n\r\n"), 400),
        ("chunk", post("/never", "Transfer-Encoding: chunked\r\n\r\nno size\r\n"), 400),
        ("body_slow", post("/never", "Content-Length: 100\r\n\r\nb"), 408),
        ("body_size", lines("Content-Length: 20000\r\n\r\nb"), 413),
    ]
    .map(refused)
    .into()
}

/// The beginning of a request.
fn post(target: &str, lines: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: a.test\r\n{lines}").into_bytes()
}

/// Clients on the listeners, each of which sends these bytes and leaves it at that; the status of each answer.
async fn attack(lab: &Lab, bytes: &[u8], ends: bool, listeners: &[Listener]) -> Vec<Option<u16>> {
    let (mut attackers, mut answers) = (Vec::<Guest>::new(), Vec::new());
    for number in 0..ATTACKERS {
        let mut guest = lab.connect(stranger(number), listeners[number % listeners.len()]).await.unwrap();
        guest.send(bytes).await;
        if ends {
            guest.finish().await;
        }
        attackers.push(guest);
    }
    for mut guest in attackers {
        answers.push(guest.answer().await.map(|answer| answer.status()));
        assert!(guest.rest().await.is_empty(), "the connection ends");
    }
    answers
}

/// Waits until the log has a line of each attacker, and counts no more.
async fn logged(lab: &Lab, status: u16, reason: &str, count: usize) {
    let (status, error) = (format!(" status={status} "), format!(" error={reason}"));
    let parts = [" request ", " client=127.66.", &status, &error];
    lab.gateway.access.find_nth(&parts, count - 1).await;
    assert_eq!(lab.gateway.access.count(&parts[1..]), count, "{reason}");
}

#[tokio::test]
async fn who_sends_what_a_request_may_not_have_is_told_and_nobody_else_notices() {
    let mut lab = Lab::start("").await;
    let mut company = lab.company().await;
    lab.reload(&Setup { limits: NARROW, ..Setup::default() }).await;
    for Broken { reason, bytes, status, ends, listeners } in broken() {
        let answers = lab.beside(&mut company, attack(&lab, &bytes, ends, listeners)).await;
        assert!(answers.iter().all(|answer| *answer == Some(status)), "{reason}: {answers:?}");
        lab.refused_becomes(reason, ATTACKERS as f64).await;
        logged(&lab, status, reason, ATTACKERS).await;
    }
    company.is_served_anew(&lab).await;
}

#[tokio::test]
async fn who_does_not_end_a_head_in_time_is_cut_off_and_nobody_else_notices() {
    let mut lab = Lab::start("").await;
    let mut company = lab.company().await;
    lab.reload(&Setup { limits: SHORT, ..Setup::default() }).await;
    let answers = lab.beside(&mut company, attack(&lab, b"", false, &LISTENERS)).await;
    assert!(answers.iter().all(Option::is_none), "{answers:?}");
    lab.refused_becomes("silent", ATTACKERS as f64).await;
    // One that a busy machine gives no time to begin is another one that was silent.
    let mut told = 0;
    while told == 0 {
        let answers = lab.beside(&mut company, attack(&lab, &post("/", "X-Unfinished: "), false, &LISTENERS)).await;
        assert!(answers.iter().all(|answer| matches!(answer, None | Some(408))), "{answers:?}");
        told += answers.iter().flatten().count();
    }
    lab.refused_becomes("slow", told as f64).await;
    logged(&lab, 408, "slow", told).await;
    lab.reload(&Setup::default()).await;
    company.is_served_anew(&lab).await;
}

/// Asks for a long answer, and reads none of it.
async fn deaf(lab: &Lab, number: usize) -> Guest {
    let listener = LISTENERS[number % 2];
    let stream = narrow_tcp(stranger(number), lab.gateway.addresses[listener as usize]).await;
    let mut guest = Guest::over(stream, lab.tls(listener)).await.unwrap();
    guest.send("GET /wordy HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    guest
}

#[tokio::test]
async fn who_does_not_take_an_answer_is_reset_and_nobody_else_notices() {
    let lab = Lab::start(PATIENT).await;
    let mut company = lab.company().await;
    let attack = async {
        let mut attackers = Vec::new();
        for number in 0..4 {
            attackers.push(deaf(&lab, number).await);
        }
        logged(&lab, 200, "answer_slow", 4).await;
        for mut guest in attackers {
            let had = guest.rest().await.len();
            assert!(had < WORDY, "{had} bytes of it came");
        }
    };
    lab.beside(&mut company, attack).await;
    lab.refused_becomes("answer_slow", 4.0).await;
    company.is_served_anew(&lab).await;
}
