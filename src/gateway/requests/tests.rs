//! Requests, read from bytes that come in pieces.

use std::future::poll_fn;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A connection: its requests, the gateway's end and the client's.
struct Rig {
    requests: Requests,
    stream: DuplexStream,
    client: DuplexStream,
}

impl Rig {
    fn new(ahead: &str) -> Self {
        let (client, stream) = duplex(1 << 20);
        Self { requests: Requests::new(ahead.into()), stream, client }
    }

    async fn read_once(&mut self, size: usize) -> io::Result<String> {
        let mut bytes = vec![0; size];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|cx| self.requests.poll_read(cx, &mut self.stream, &mut buffer)).await?;
        Ok(String::from_utf8(buffer.filled().to_vec()).unwrap())
    }

    /// All that Pingora can read now.
    async fn read(&mut self, size: usize) -> String {
        let mut text = String::new();
        while let Some(read) = self.read_once(size).now_or_never() {
            match read.unwrap() {
                end if end.is_empty() => break,
                more => text += &more,
            }
        }
        text
    }
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &str = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKS: &str =
    "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n";
const CHUNKS_LEFT: &str = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[tokio::test]
async fn one_request_is_read_at_a_time_wherever_its_bytes_are_cut() {
    let all = [GET, POST, CHUNKS, GET].concat();
    for size in [1, 7, 4096] {
        for cut in 0..all.len() {
            let mut rig = Rig::new(&all[..cut]);
            rig.client.write_all(&all.as_bytes()[cut..]).await.unwrap();
            for expected in [GET, POST, CHUNKS_LEFT, GET] {
                assert_eq!(rig.read(size).await, expected, "cut at {cut}, read by {size}");
                rig.requests.answered();
            }
            assert_eq!(rig.requests.into_ahead(), b"");
        }
    }
}

#[tokio::test]
async fn bytes_behind_a_request_are_nobodys_until_it_is_answered() {
    let mut rig = Rig::new(GET);
    assert_eq!(rig.read(4096).await, GET);
    assert!(!rig.requests.has_more());
    rig.client.write_all(b"\x81\x80frame").await.unwrap();
    assert_eq!(rig.read(1).await, "");
    assert!(rig.requests.has_more());
    assert_eq!(rig.requests.into_ahead(), b"\x81\x80frame");
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_is_waited_for() {
    let mut rig = Rig::new(GET);
    rig.client.shutdown().await.unwrap();
    assert_eq!(rig.read(4096).await, GET);
    assert!(rig.read_once(1).now_or_never().is_none(), "Pingora does not hear of the end");
    rig.requests.answered();
    assert_eq!(rig.read_once(4096).await.unwrap(), "", "no other request comes");
}

#[tokio::test]
async fn an_upload_that_ends_early_ends_early() {
    for (begun, rest) in [(POST, 3), (CHUNKS, 20)] {
        let mut rig = Rig::new(&begun[..begun.len() - rest]);
        rig.client.shutdown().await.unwrap();
        assert!(rig.read(4096).await.starts_with("POST "));
        assert_eq!(rig.read_once(4096).await.unwrap(), "");
    }
}

#[tokio::test]
async fn pingora_reads_a_stand_in_for_a_request_that_is_refused_and_nothing_behind_it() {
    let smuggled = format!("POST /x?y HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 2\r\n\r\n{GET}");
    let mut rig = Rig::new(&smuggled);
    let stand_in = rig.read_once(4096).await.unwrap();
    assert!(stand_in.starts_with("POST / HTTP/1.1\r\nHost: refused\r\n"), "{stand_in}");
    let refused = rig.requests.take_refused().unwrap();
    let expected = Refused { why: Refusal::Length, method: "POST".into(), host: "h".into(), path: "/x".into() };
    assert_eq!(*refused, expected);
    rig.client.write_all(GET.as_bytes()).await.unwrap();
    assert!(rig.read_once(4096).now_or_never().is_none());
    let mut rest = Vec::new();
    rig.client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "the gateway's side is ended");
    drop(rig.client);
}

#[tokio::test]
async fn a_malformed_chunk_is_an_error_that_names_itself() {
    let mut rig = Rig::new("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n\r\n");
    let error = loop {
        if let Err(error) = rig.read_once(4096).await {
            break error;
        }
    };
    assert_eq!(error.get_ref().and_then(|cause| cause.downcast_ref()), Some(&Refusal::Chunk));
}

#[tokio::test]
async fn a_backends_answer_is_read_as_it_comes() {
    let (mut far, stream) = duplex(1 << 10);
    let mut rig = Rig { requests: Requests::answer(b"HTTP/1.1 ".to_vec()), stream, client: duplex(1).0 };
    far.write_all(b"200 OK\r\n\r\n").await.unwrap();
    assert_eq!(rig.read(4096).await, "HTTP/1.1 200 OK\r\n\r\n");
}
