//! Clients that hold the admin listener up, and others that are served all the same.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::Lab;
use crate::support::within;

/// Sends bytes, and returns all that comes until the other side ends.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may refuse it before it has been sent everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A connection that is reset has been answered, or not.
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn many_silent_connections_keep_nobody_out() {
    let lab = Lab::start("").await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(lab.address()).await.unwrap();
        stream.write_all(b"GET /api/v1/sta").await.unwrap();
        silent.push(stream);
    }
    assert_eq!(lab.get("/api/v1/status").await.0, 200);
    assert_eq!(lab.get("/ready").await.0, 200);
    // The oldest made room.
    let mut read = [0; 64];
    let ended = within("the end of the oldest", silent[0].read(&mut read)).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_given_up() {
    let lab = Lab::start("").await;
    let answer = raw(lab.address(), b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn heads_that_are_none_or_too_long_are_refused() {
    let lab = Lab::start("").await;
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: 1\r\n".repeat(100));
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], long.as_bytes(), many.as_bytes()] {
        let answer = raw(lab.address(), bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    for (head, status) in [
        ("GET /api/v1/status HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n", "400"),
        ("GET http://evil/api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "400"),
        ("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "200"),
    ] {
        let answer = raw(lab.address(), head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    }
    assert_eq!(lab.get("/api/v1/status").await.0, 200);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let lab = Lab::start("").await;
    let head = "POST /api/v1/plan HTTP/1.1\r\nHost: localhost\r\nX-Longhaul-Admin: 1\r\nContent-Type: \
                application/json\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(lab.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let sending = tokio::spawn(async move {
        let chunk = vec![b'x'; 64 * 1024];
        while writing.write_all(&chunk).await.is_ok() {}
    });
    let mut answer = [0; 12];
    within("the answer", reading.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    sending.abort();
}
