//! A hook that lets everything pass: the gateway enforces RFC 6455 and changes nothing else. Without hooks, invalid
//! frames pass too.
//!
//! The cases are those of the Autobahn test suite, by its chapters.

use crate::talk::{BOTH, Ends, Talk, other};
use crate::wire::{self, From, frame};

const PATHS: [&str; 3] = ["/sync", "/async", "/both"];
const MIB: usize = 1 << 20;

async fn open(talk: &mut Talk, path: &str) -> Ends {
    let (client, server) = talk.open(path, "").await;
    Ends(client, server)
}

/// A payload that is text, too.
fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|index| b'a' + u8::try_from(index % 26).unwrap()).collect()
}

#[tokio::test]
async fn messages_of_every_size_pass_byte_equal_there_and_back() {
    let mut talk = Talk::start().await;
    for path in PATHS.into_iter().chain(["/plain"]) {
        let mut ends = open(&mut talk, path).await;
        for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 131_072, MIB] {
            for first in [0x81, 0x82] {
                for from in BOTH {
                    ends.send(from, frame(from, first, &payload(size))).await;
                    let got = ends.of(other(from)).frame().await;
                    assert!((got.first, &got.payload) == (first, &payload(size)), "{path}: {size} from the {from:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn messages_are_limited_to_what_the_upstream_says() {
    let mut talk = Talk::start_with("x", "    tunnel: { max_message: 2MiB }\n").await;
    for path in PATHS {
        let mut ends = open(&mut talk, path).await;
        ends.send(From::Client, frame(From::Client, 0x82, &payload(2 * MIB))).await;
        assert!(ends.1.frame().await.payload == payload(2 * MIB));
    }
}

#[tokio::test]
async fn a_message_fragmented_and_chopped_anywhere_is_the_same_message() {
    let mut talk = Talk::start().await;
    let text = "naïve — 🦀 and more";
    for path in PATHS {
        let mut ends = open(&mut talk, path).await;
        for from in BOTH {
            let to = other(from);
            for split in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(split);
                let bytes =
                    [frame(from, 0x01, one), frame(from, 0x89, b"p"), frame(from, 0x00, b""), frame(from, 0x80, two)];
                // As two writes, which end in a header as often as in a payload.
                let bytes = bytes.concat();
                let (early, late) = bytes.split_at(split * bytes.len() / text.len());
                ends.send(from, early).await;
                ends.send(from, late).await;
                ends.expect(to, 0x89, "p").await;
                ends.expect(to, 0x81, text).await;
            }
            for byte in [frame(from, 0x02, text.as_bytes()), frame(from, 0x80, b"!")].concat() {
                ends.send(from, [byte]).await;
            }
            ends.expect(to, 0x82, format!("{text}!")).await;
        }
    }
}

#[tokio::test]
async fn every_code_that_a_close_frame_may_have_passes_with_its_reason() {
    let mut talk = Talk::start().await;
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16];
    for path in PATHS {
        for (index, code) in codes.into_iter().enumerate() {
            let from = BOTH[index % 2];
            let mut ends = open(&mut talk, path).await;
            let payload = [&code.to_be_bytes(), "wäre".repeat(24).as_bytes()].concat();
            ends.send(from, frame(from, 0x88, &payload)).await;
            ends.expect(other(from), 0x88, &payload).await;
            let from = other(from);
            ends.send(from, wire::close(from, code)).await;
            ends.expect(other(from), 0x88, code.to_be_bytes()).await;
        }
        // A Close frame without a code passes, too.
        for from in BOTH {
            let mut ends = open(&mut talk, path).await;
            ends.send(from, frame(from, 0x88, b"")).await;
            ends.expect(other(from), 0x88, b"").await;
        }
    }
}

/// Violations of RFC 6455: name, bytes that a side sends, and the code that the gateway closes with.
fn wrongs(from: From) -> Vec<(String, Vec<u8>, u16)> {
    let of = |first, payload: &[u8]| frame(from, first, payload);
    let name = |what: &str| what.to_owned();
    let mut all = vec![
        (name("the wrong masking"), frame(other(from), 0x81, b"x"), 1002),
        (name("a Ping with the wrong masking"), frame(other(from), 0x89, b""), 1002),
        (name("a fragmented Ping"), of(0x09, b"x"), 1002),
        (name("a fragmented Close"), of(0x08, b"\x03\xE8"), 1002),
        (name("a Ping of 126 bytes"), of(0x89, &[b'p'; 126]), 1002),
        (name("a Close of 126 bytes"), of(0x88, &[b'p'; 126]), 1002),
        (name("a Close of one byte"), of(0x88, b"\x03"), 1002),
        (name("nothing to continue"), of(0x80, b"x"), 1002),
        (name("nothing to continue, and more to come"), of(0x00, b"x"), 1002),
        (name("a message in a message"), [of(0x01, b"a"), of(0x81, b"b")].concat(), 1002),
        (name("a message in a message, of another kind"), [of(0x01, b"a"), of(0x02, b"b")].concat(), 1002),
        (name("compression that nobody agreed on"), of(0xC1, b"x"), 1002),
        (name("too long a message"), of(0x82, &vec![b'm'; MIB + 1]), 1009),
        (name("too long a message in fragments"), [of(0x02, &vec![b'm'; MIB]), of(0x80, b"m")].concat(), 1009),
        (name("a reason that is not UTF-8"), of(0x88, b"\x03\xE8\xCE\xBA\xE1\xBD"), 1007),
        (name("a length that is not the shortest"), longer(from, &of(0x81, b"x")), 1002),
    ];
    all.extend(NOT_UTF8.map(|bytes| (format!("text {}", bytes.escape_ascii()), of(0x81, bytes), 1007)));
    all.extend(NOT_UTF8.map(|bytes| {
        let (one, two) = bytes.split_at(1);
        (format!("text {} in fragments", bytes.escape_ascii()), [of(0x01, one), of(0x80, two)].concat(), 1007)
    }));
    for bits in 1..8_u8 {
        all.push((format!("reserved bits {bits:03b}"), of(0x82 | bits << 4, b"x"), 1002));
        all.push((format!("reserved bits {bits:03b} of a Ping"), of(0x89 | bits << 4, b"x"), 1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        all.push((format!("opcode {opcode}"), of(0x80 | opcode, b"x"), 1002));
        all.push((format!("opcode {opcode} in a message"), [of(0x01, b"a"), of(0x80 | opcode, b"")].concat(), 1002));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        all.push((format!("Close {code}"), of(0x88, &code.to_be_bytes()), 1002));
    }
    all
}

/// Payloads that are not UTF-8, whole or in fragments.
const NOT_UTF8: [&[u8]; 9] = [
    b"\x80",
    b"\xFF",
    b"\xC0\xAF",
    b"\xE0\x80\xAF",
    b"\xED\xA0\x80",
    b"\xF4\x90\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"ok \xCE\xBA\xE1\xBD",
    b"\xCE\xBA\xED\xA0\x80 edited",
];

/// A frame of less than 126 bytes whose length takes two bytes, against RFC 6455 §5.2.
fn longer(from: From, bytes: &[u8]) -> Vec<u8> {
    let bit = if from == From::Client { 0x80 } else { 0 };
    [&[bytes[0], bit | 126, 0, bytes[1] & 0x7F], &bytes[2..]].concat()
}

#[tokio::test]
async fn whatever_the_rfc_forbids_is_refused_with_its_code_and_what_came_before_passes() {
    let mut talk = Talk::start().await;
    let mut count = 0;
    for path in ["/sync", "/async"] {
        for from in BOTH {
            for (what, bytes, code) in wrongs(from) {
                let mut ends = open(&mut talk, path).await;
                let before = [frame(from, 0x01, b"be"), frame(from, 0x80, b"fore")].concat();
                ends.send(from, [before, bytes, wire::text(from, "after")].concat()).await;
                ends.expect(other(from), 0x81, "before").await;
                let reason = match code {
                    1002 => "protocol_error",
                    1007 => "invalid_payload",
                    _ => "message_too_big",
                };
                for to in BOTH {
                    let close = ends.of(to).frame().await;
                    let expected = [&u16::to_be_bytes(code), reason.as_bytes()].concat();
                    assert_eq!((close.first, close.payload), (0x88, expected), "{what} of the {from:?}, to the {to:?}");
                }
                count += 1;
            }
        }
    }
    let ended = ["protocol_error", "invalid_payload", "message_too_big"].map(|reason| format!("reason={reason} "));
    talk.gateway.access.find_nth(&["tunnel_end"], count - 1).await;
    assert_eq!(ended.iter().map(|reason| talk.gateway.access.count(&["tunnel_end", reason])).sum::<usize>(), count);
    assert_eq!(talk.gateway.log.count(&["failed in its phase"]), 0, "no fault of the hook's");
}

#[tokio::test]
async fn without_a_hook_what_is_wrong_passes_byte_by_byte() {
    let mut talk = Talk::start().await;
    for path in ["/plain", "/unseen"] {
        for from in BOTH {
            for (what, bytes, _) in wrongs(from) {
                let mut ends = open(&mut talk, path).await;
                let bytes = [wire::text(from, "before"), bytes].concat();
                ends.send(from, &bytes).await;
                let got = ends.of(other(from)).exactly(bytes.len()).await;
                assert!(got == bytes, "{path}: {what} of the {from:?}");
            }
        }
    }
}
