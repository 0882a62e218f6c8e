//! Messages that are compressed on the wire, and hooks that see what is in them.

use crate::talk::{BOTH, Ends, Talk, deflated, inflated, other};
use crate::wire::{self, From, frame};

/// A whole message, compressed.
const FIN_RSV1: u8 = 0xC0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const MIB: usize = 1 << 20;

async fn open(talk: &mut Talk, path: &str) -> Ends {
    let (client, server) = talk.open_compressed(path).await;
    Ends(client, server)
}

fn compressed(from: From, kind: u8, payload: &[u8]) -> Vec<u8> {
    frame(from, FIN_RSV1 | kind, &deflated(payload))
}

/// Reads a compressed message that comes to a side, and inflates it.
async fn read(ends: &mut Ends, to: From, kind: u8) -> Vec<u8> {
    let frame = ends.of(to).frame().await;
    assert_eq!(frame.first, FIN_RSV1 | kind);
    inflated(&frame.payload)
}

#[tokio::test]
async fn every_verdict_is_carried_out_over_compressed_messages() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        let mut ends = open(&mut talk, path).await;
        for from in BOTH {
            for kind in [TEXT, BINARY] {
                let to = other(from);
                let say = |text: &str| compressed(from, kind, text.as_bytes());
                ends.send(from, say("as it is, as it is, as it is")).await;
                // Unchanged to the byte.
                ends.expect(to, FIN_RSV1 | kind, deflated(b"as it is, as it is, as it is")).await;
                ends.send(from, say("replace something else, else, else")).await;
                assert_eq!(read(&mut ends, to, kind).await, b"something else, else, else");
                ends.send(from, say("other kind")).await;
                assert_eq!(read(&mut ends, to, 3 - kind).await, b"kind");
                ends.send(from, [say("drop"), say("reply to you"), say("behind")].concat()).await;
                ends.expect(from, 0x80 | kind, "to you").await;
                assert_eq!(read(&mut ends, to, kind).await, b"behind");
                // A message that came uncompressed goes on uncompressed, in the same tunnel.
                ends.send(from, frame(from, 0x80 | kind, b"replace me")).await;
                ends.expect(to, 0x80 | kind, "me").await;
            }
        }
        ends.send(From::Backend, compressed(From::Backend, TEXT, b"close 4001 enough")).await;
        ends.expect_close(4001, "enough").await;
    }
}

#[tokio::test]
async fn compressed_messages_of_every_size_pass_as_they_are_and_are_seen_as_they_were() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        let mut ends = open(&mut talk, path).await;
        for size in [0, 1, 125, 126, 65_535, 65_536, MIB] {
            // The replacement does not shrink by compression.
            let noise: Vec<_> =
                (0..size as u64).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[7]).collect();
            for from in BOTH {
                let wire = deflated(&noise);
                ends.send(from, frame(from, FIN_RSV1 | BINARY, &wire)).await;
                let got = ends.of(other(from)).frame().await;
                assert!(got.first == FIN_RSV1 | BINARY && got.payload == wire, "{size} bytes");
                // The gateway compresses the replacement itself.
                let text = format!("replace {}", "x".repeat(size.min(MIB - 8)));
                ends.send(from, compressed(from, TEXT, text.as_bytes())).await;
                let text = text.strip_prefix("replace ").unwrap();
                assert!(read(&mut ends, other(from), TEXT).await == text.as_bytes(), "{size} bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_compressed_message_in_fragments_with_a_ping_between_them_is_seen_whole() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        let mut ends = open(&mut talk, path).await;
        for from in BOTH {
            let to = other(from);
            let wire = deflated(b"replace once more, once more, once more");
            for split in 0..wire.len() {
                let (one, two) = wire.split_at(split);
                ends.send(from, [frame(from, 0x40 | TEXT, one), frame(from, 0x89, b"p")].concat()).await;
                ends.expect(to, 0x89, "p").await;
                ends.send(from, frame(from, 0x80, two)).await;
                assert_eq!(read(&mut ends, to, TEXT).await, b"once more, once more, once more");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_inflated_or_becomes_too_much_is_refused_with_its_code() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        for from in BOTH {
            let cases = [
                ("no deflate at all", frame(from, 0xC2, b"\xFF\xFF\xFF\xFF"), 1007, "invalid_payload"),
                ("text that is not UTF-8", compressed(from, TEXT, b"ok \xCE\xBA\xE1\xBD"), 1007, "invalid_payload"),
                ("a bomb", compressed(from, BINARY, &vec![0; 64 * MIB]), 1009, "message_too_big"),
                ("a byte too much", compressed(from, BINARY, &vec![0; MIB + 1]), 1009, "message_too_big"),
                ("RSV1 in a continuation", continued(from), 1002, "protocol_error"),
                ("RSV1 in a Ping", frame(from, 0xC9, b"p"), 1002, "protocol_error"),
                ("RSV2", frame(from, 0xE2, b"p"), 1002, "protocol_error"),
            ];
            for (what, bytes, code, reason) in cases {
                let mut ends = open(&mut talk, path).await;
                ends.send(from, [wire::text(from, "before"), bytes].concat()).await;
                ends.expect(other(from), 0x81, "before").await;
                for to in BOTH {
                    let close = ends.of(to).frame().await;
                    let expected = [&u16::to_be_bytes(code), reason.as_bytes()].concat();
                    assert_eq!((close.first, close.payload), (0x88, expected), "{what} of the {from:?}, to the {to:?}");
                }
            }
        }
    }
}

fn continued(from: From) -> Vec<u8> {
    [frame(from, 0x41, b"a"), frame(from, 0xC0, b"b")].concat()
}

#[tokio::test]
async fn without_a_hook_that_sees_messages_compressed_ones_pass_byte_by_byte() {
    let mut talk = Talk::start().await;
    for path in ["/plain", "/unseen"] {
        let mut ends = open(&mut talk, path).await;
        for from in BOTH {
            let wire = deflated(b"replace this and that");
            ends.send(from, frame(from, FIN_RSV1 | TEXT, &wire)).await;
            ends.expect(other(from), FIN_RSV1 | TEXT, &wire).await;
            ends.send(from, frame(from, FIN_RSV1 | TEXT, b"\xFF\xFF")).await;
            ends.expect(other(from), FIN_RSV1 | TEXT, b"\xFF\xFF").await;
        }
    }
}

#[tokio::test]
async fn what_is_injected_into_a_tunnel_with_compression_can_be_read() {
    let mut talk = Talk::start().await;
    let agreed =
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\nX-Open: welcome to all\r\n";
    let (client, server) = talk.open_agreed("/async", headers, agreed).await;
    let mut ends = Ends(client, server);
    for to in BOTH {
        ends.expect(to, 0x80 | TEXT, "to all").await;
    }
}
