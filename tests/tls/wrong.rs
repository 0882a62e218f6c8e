//! Clients that do not speak TLS as they should: each is answered or closed, and counted by its reason.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crate::client::{Client, VERSIONS, config};
use crate::lab::Lab;
use crate::support::{Named, PATIENCE, within};

/// Sends bytes, and returns everything that comes back.
fn ask(lab: &Lab, listener: usize, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(lab.gateway.addresses[listener]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset ends it as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

async fn failures(lab: &Lab, reason: &str) -> f64 {
    lab.gateway.metric(&format!("longhaul_tls_handshake_failures_total{{failure=\"{reason}\"}}")).await
}

/// Waits until so many handshakes have failed for this reason.
async fn failed(lab: &Lab, reason: &str, times: usize) {
    let name = format!("longhaul_tls_handshake_failures_total{{failure=\"{reason}\"}}");
    lab.gateway.metric_becomes(&name, times as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_on_a_tls_port_is_told_so() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    for request in ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "P"] {
        let answer = String::from_utf8(ask(&lab, 0, request.as_bytes())).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("use https:// or wss:// instead\n"),
            "{answer}"
        );
    }
    failed(&lab, "plain_http", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_on_a_plain_port_is_told_so_in_http_closed_and_counted() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    let config = config(&lab.authority.pem, &VERSIONS, None);
    assert!(Client::connect(lab.gateway.addresses[1], "a.test", &config).is_err());
    assert!(ask(&lab, 1, &[22]).starts_with(b"HTTP/1.1 400 "));
    failed(&lab, "plain_port", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_by_their_reason_and_said_in_a_few_lines() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    // SSL 2, and no TLS at all.
    for bytes in [&[0x80, 0x2e, 1, 0, 2][..], &[0; 32], &[22, 3, 1, 0xff, 0xff, 1]] {
        ask(&lab, 0, bytes);
    }
    failed(&lab, "not_tls", 3).await;
    // A client that knows other protocols only.
    let mut other = (*config(&lab.authority.pem, &VERSIONS, None)).clone();
    other.alpn_protocols = vec![b"h2".to_vec()];
    assert!(Client::connect(lab.address(), "a.test", &Arc::new(other)).is_err());
    failed(&lab, "alpn", 1).await;
    // A client that does not trust the certificate.
    let stranger = crate::support::certificates::Authority::new("Somebody Else");
    assert!(Client::connect(lab.address(), "a.test", &config(&stranger.pem, &VERSIONS, None)).is_err());
    lab.gateway.metric_becomes("longhaul_tls_handshake_failures_total{failure=\"alert\"}", 1.0).await;
    // A client that leaves.
    for _ in 0..100 {
        let stream = TcpStream::connect(lab.address()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    lab.gateway.metric_becomes("longhaul_tls_handshake_failures_total{failure=\"closed\"}", 100.0).await;
    assert_eq!(lab.gateway.log.count(&["a TLS handshake failed (closed)"]), 0, "it is how load balancers check a port");
    // A client that leaves within its handshake.
    TcpStream::connect(lab.address()).unwrap().write_all(&[22, 3, 1]).unwrap();
    failed(&lab, "closed", 101).await;
    lab.gateway.log.find(&["WARN", "a TLS handshake failed (closed): the other side left"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_that_nobody_expects_is_told_with_the_key() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    let (tls, plain) = (lab.address(), lab.gateway.addresses[1]);
    let headers = [&b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"];
    for header in headers {
        assert_eq!(ask(&lab, 0, header), b"", "{tls}");
        let answer = String::from_utf8(ask(&lab, 1, header)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("a PROXY protocol header came"), "{answer}");
    }
    failed(&lab, "proxy_header", 2).await;
    let key = "`proxy_protocol: optional` or `required`";
    lab.gateway.log.find(&["WARN", "a TLS handshake failed (proxy_header): a PROXY protocol header came", key]).await;
    lab.gateway.log.find(&["WARN", &format!("a PROXY protocol header came to {plain}, "), key]).await;
    // A request that is malformed otherwise is no PROXY header.
    let answer = String::from_utf8(ask(&lab, 1, b"PROXY\r\n\r\n")).unwrap();
    assert!(answer.contains("the request is malformed"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_failed_handshakes_is_written_in_a_few_lines_and_counted_whole() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    let begun = std::time::Instant::now();
    for _ in 0..400 {
        ask(&lab, 0, &[0; 32]);
    }
    failed(&lab, "not_tls", 400).await;
    // Another kind has lines of its own.
    ask(&lab, 0, b"GET / HTTP/1.1\r\n\r\n");
    lab.gateway.log.find(&["WARN", "a TLS handshake failed (plain_http): the client spoke HTTP without TLS"]).await;
    // One of them is seen in the log when the first ones are long written.
    lab.gateway.log.find(&["WARN", " more like this within 10s: a TLS handshake failed (not_tls): "]).await;
    // The last lines of a slow machine are on their way yet.
    let lines = within("a line or a count of each", async {
        loop {
            let lines = lab.gateway.log.count(&["failed (not_tls)"]) - lab.gateway.log.count(&["more like this"]);
            if lines as f64 + lab.gateway.metric("longhaul_diagnostics_held_back_total").await == 400.0 {
                return lines;
            }
        }
    })
    .await;
    let windows = begun.elapsed().as_secs() / 10 + 1;
    assert!(lines as u64 <= 10 * windows, "{lines} lines in {windows} windows");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_is_refused_where_1_3_is_the_least() {
    let lab = Lab::start_with(&[Named::start().await.address()], "      min_version: \"1.3\"\n", "").await;
    let (old, new) = (config(&lab.authority.pem, &VERSIONS[..1], None), config(&lab.authority.pem, &VERSIONS, None));
    assert!(Client::connect(lab.address(), "a.test", &old).is_err());
    failed(&lab, "version", 1).await;
    assert!(Client::connect(lab.address(), "a.test", &new).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_without_end_is_cut_off() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    // Records of the handshake's kind that belong to one message of 16 MiB.
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    let mut stream = TcpStream::connect(lab.address()).unwrap();
    let mut sent = 0;
    while sent < 1 << 20 && stream.write_all(&record).is_ok() {
        sent += record.len();
    }
    // All of it may be on its way before the gateway has looked at any.
    let counted = async || failures(&lab, "too_long").await + failures(&lab, "not_tls").await;
    within("the refusal", async { while counted().await == 0.0 {} }).await;
    assert_eq!(counted().await, 1.0);
}
