//! Bodies pass as they come, in both directions, and are never collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};

use crate::support::{Backend, Gateway, Named, Wire, one_upstream, within};

const GIB: u64 = 1 << 30;
/// Bound of the process's peak memory: a fifth of the body.
const MEMORY_BOUND_KIB: u64 = 200 << 10;

/// Bytes that repeat with a prime period, so that a byte lost, doubled or moved shows at the next compare.
struct Pattern {
    twice: Vec<u8>,
}

impl Pattern {
    const PERIOD: usize = 65_521;

    fn new() -> Self {
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let once: Vec<u8> = (0..Self::PERIOD).map(|_| byte()).collect();
        Self { twice: [once.clone(), once].concat() }
    }

    /// Up to a period of bytes from an offset of the endless body.
    fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % Self::PERIOD as u64) as usize;
        &self.twice[start..start + length.min(Self::PERIOD)]
    }

    fn check(&self, offset: u64, mut bytes: &[u8]) -> u64 {
        let mut at = offset;
        while !bytes.is_empty() {
            let expected = self.at(at, bytes.len());
            assert!(bytes.starts_with(expected), "other bytes from {at} on");
            bytes = &bytes[expected.len()..];
            at += expected.len() as u64;
        }
        at
    }
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A backend that compares an upload with the pattern as it reads it, and answers with the number of bytes.
async fn comparing() -> Backend {
    Backend::start(|stream| async move {
        let pattern = Pattern::new();
        let mut wire = Wire::new(stream);
        let Ok(Some(head)) = wire.head().await else { return };
        let mut seen = 0;
        match head.get("content-length") {
            Some(length) => {
                let mut buffer = vec![0; 256 << 10];
                while seen < length.parse().unwrap() {
                    let read = wire.stream.read(&mut buffer).await.unwrap();
                    assert_ne!(read, 0, "the upload ended early");
                    seen = pattern.check(seen, &buffer[..read]);
                }
            }
            None => {
                while let Some(chunk) = wire.chunk().await.unwrap() {
                    seen = pattern.check(seen, &chunk);
                }
            }
        }
        let body = seen.to_string();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    })
    .await
}

async fn upload(chunked: bool) {
    let backend = comparing().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let pattern = Pattern::new();
    let total = GIB + 12_345;
    let mut client = Wire::connect(gateway.address()).await;
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {total}") };
    client.send(format!("POST /upload HTTP/1.1\r\nHost: lab\r\n{framing}\r\n\r\n")).await;
    let mut sent = 0;
    while sent < total {
        let piece = pattern.at(sent, usize::try_from(total - sent).unwrap());
        if chunked {
            client.send(format!("{:x}\r\n", piece.len())).await;
        }
        client.send(piece).await;
        if chunked {
            client.send("\r\n").await;
        }
        sent += piece.len() as u64;
    }
    if chunked {
        client.send("0\r\n\r\n").await;
    }
    let answer = client.answer().await;
    assert_eq!(answer.text(), total.to_string());
    let peak = peak_kib(gateway.pid());
    println!("{total} bytes up, chunked: {chunked}; the gateway's peak was {peak} KiB");
    assert!(peak < MEMORY_BOUND_KIB, "{peak} KiB");
    let line = gateway.access.find(&[" request "]).await;
    assert!(line.contains(&format!(" bytes_in={total} ")), "{line}");
}

#[tokio::test]
async fn an_upload_of_a_gibibyte_with_its_length_is_streamed() {
    upload(false).await;
}

#[tokio::test]
async fn an_upload_of_a_gibibyte_in_chunks_is_streamed() {
    upload(true).await;
}

#[tokio::test]
async fn a_download_of_a_gibibyte_is_streamed() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        // A health check connects and says nothing.
        if wire.request().await.is_none() {
            return;
        }
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n")).await;
        let pattern = Pattern::new();
        let mut sent = 0;
        while sent < GIB {
            let piece = pattern.at(sent, usize::try_from(GIB - sent).unwrap());
            wire.send(piece).await;
            sent += piece.len() as u64;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET /big HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().unwrap().get("content-length").unwrap(), GIB.to_string());
    let pattern = Pattern::new();
    let (mut seen, mut buffer) = (0, vec![0; 256 << 10]);
    while seen < GIB {
        let read = client.stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "the download ended early");
        seen = pattern.check(seen, &buffer[..read]);
    }
    let peak = peak_kib(gateway.pid());
    println!("{GIB} bytes down; the gateway's peak was {peak} KiB");
    assert!(peak < MEMORY_BOUND_KIB, "{peak} KiB");
}

#[tokio::test]
async fn an_upload_that_the_backend_does_not_read_waits_at_the_client() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        let _ = wire.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: {GIB}\r\n\r\n")).await;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        let piece = vec![0; 64 << 10];
        while client.stream.write_all(&piece).await.is_ok() {
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    // Two seconds without a byte taken: a gateway that collects the body would not have paused.
    let mut quiet = 0;
    let stopped = async {
        let mut last = 0;
        while quiet < 20 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let now = sent.load(Ordering::Relaxed);
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
        last
    };
    let taken = within("the upload to stop", stopped).await;
    sender.abort();
    assert!(taken < GIB / 8, "{taken} bytes were taken though the backend read none");
    assert!(peak_kib(gateway.pid()) < MEMORY_BOUND_KIB);
}

/// The backend sends the next event only after the client has seen the one before it.
async fn events(framing: &'static str, event: fn(usize) -> String) {
    let (next, wanted) = mpsc::channel::<usize>(1);
    let wanted = Arc::new(Mutex::new(wanted));
    let backend = Backend::start(move |stream| {
        let wanted = Arc::clone(&wanted);
        async move {
            let mut wire = Wire::new(stream);
            if wire.request().await.is_none() {
                return;
            }
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n")).await;
            while let Some(number) = wanted.lock().await.recv().await {
                wire.send(event(number)).await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "    health: off\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET /events HTTP/1.1\r\nHost: lab\r\nAccept: text/event-stream\r\n\r\n").await;
    let head = within("the head, before any event", client.head()).await.unwrap().unwrap();
    assert_eq!(head.get("content-type").unwrap(), "text/event-stream");
    for number in 0..20 {
        next.send(number).await.unwrap();
        let chunk = within("the event", client.chunk()).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(chunk).unwrap(), format!("data: {number}\n\n"));
    }
}

#[tokio::test]
async fn server_sent_events_in_chunks_arrive_one_by_one() {
    events("Transfer-Encoding: chunked\r\n", |number| {
        let event = format!("data: {number}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len())
    })
    .await;
}

#[tokio::test]
async fn server_sent_events_without_a_length_arrive_one_by_one() {
    events("Connection: close\r\n", |number| format!("data: {number}\n\n")).await;
}

#[tokio::test]
async fn a_client_that_expects_100_continue_sends_its_body_after_it() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while let Ok(Some(head)) = wire.head().await {
            assert_eq!(head.get("expect").as_deref(), Some("100-continue"));
            if head.target() == "/refused" {
                wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
                return;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let mut body = [0; 5];
            wire.stream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"hello");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let config =
        one_upstream(&[backend.address], "    health: off\n").replace("- upstream", "- path: /known\n    upstream");
    let config = config.replace("upstreams:", "  - { path: /refused, upstream: u }\nupstreams:");
    let gateway = Gateway::start(&config).await;
    let ask = |path| format!("POST {path} HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");

    let mut client = Wire::connect(gateway.address()).await;
    client.send(ask("/known")).await;
    assert_eq!(within("100", client.head()).await.unwrap().unwrap().status(), 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "ok");

    let mut refused = Wire::connect(gateway.address()).await;
    refused.send(ask("/refused")).await;
    assert_eq!(within("403", refused.head()).await.unwrap().unwrap().status(), 403);

    let mut unrouted = Wire::connect(gateway.address()).await;
    unrouted.send(ask("/nowhere")).await;
    assert_eq!(within("404", unrouted.head()).await.unwrap().unwrap().status(), 404);
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.request().await {
            let answer = match request.head.start.split(' ').take(2).collect::<Vec<_>>()[..] {
                ["HEAD", _] => "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
                [_, "/204"] => "HTTP/1.1 204 No Content\r\n\r\n",
                [_, "/304"] => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            };
            wire.send(answer).await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        let head = within("an answer to HEAD", client.head()).await.unwrap().unwrap();
        assert_eq!((head.status(), head.get("content-length").as_deref()), (200, Some("1000000")));
        assert_eq!(client.get("/204", "").await.status(), 204);
        let unchanged = client.get("/304", "If-None-Match: \"x\"\r\n").await;
        assert_eq!((unchanged.status(), unchanged.head.get("etag").as_deref()), (304, Some("\"x\"")));
        assert_eq!(client.get("/", "").await.text(), "hello");
    }
}

#[tokio::test]
async fn trailers_of_an_answer_are_left_out_and_its_body_is_whole() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
            wire.send("5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..2 {
        let answer = client.get("/", "TE: trailers\r\n").await;
        assert_eq!((answer.text().as_str(), answer.trailers), ("hello", Vec::new()));
    }
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_body_without_chunks() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    for headers in ["", "Connection: keep-alive\r\n"] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(format!("GET / HTTP/1.0\r\n{headers}\r\n")).await;
        let head = client.head().await.unwrap().unwrap();
        assert_eq!((head.status(), head.get("transfer-encoding")), (200, None), "{head:?}");
        assert_eq!(head.all("connection"), ["close"]);
        assert_eq!(client.rest().await, b"hello");
    }
}

#[tokio::test]
async fn an_http_1_0_backend_ends_its_answer_by_closing() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        if wire.request().await.is_some() {
            wire.send("HTTP/1.0 200 OK\r\n\r\nhello").await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..2 {
        assert_eq!(client.get("/", "").await.text(), "hello");
    }
}

#[tokio::test]
async fn a_body_with_two_lengths_reaches_the_backend_with_one() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\
               0\r\n\r\n",
        )
        .await;
    // RFC 9112 §6.1: refused, or the chunks alone count and the connection is closed.
    let answer = client.answer().await;
    if answer.status() == 200 {
        assert_eq!(backend.last().head.get("content-length"), None);
        assert_eq!(backend.last().body, b"hello");
        assert_eq!(client.rest().await, b"");
    } else {
        assert_eq!(answer.status(), 400);
    }
}
