//! permessage-deflate: what is offered and agreed, messages to and fro, other compressors' work, and bombs.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;

use super::codec::{PART, TAIL};
use super::*;
use crate::ws::side::Side;

fn values(lines: &[&str]) -> Vec<HeaderValue> {
    lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap()).collect()
}

/// Offer that goes on to the backend for a client's header lines.
fn offered(lines: &[&str]) -> Option<String> {
    offer(&values(lines)).map(|offer| offer.header().to_str().unwrap().to_owned())
}

/// Agreement on an offer and an answer, as it goes on to the client.
fn agreed(offered: &str, answer: &[&str]) -> Result<Option<String>, BadAgreement> {
    let agreement = offer(&values(&[offered])).unwrap().agree(&values(answer))?;
    Ok(agreement.map(|agreement| agreement.header().to_str().unwrap().to_owned()))
}

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn an_offer_goes_on_without_context_takeover_and_with_its_windows() {
    let windows = [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", "; client_max_window_bits"),
        ("permessage-deflate; client_max_window_bits=9", "; client_max_window_bits=9"),
        ("Permessage-Deflate; server_max_window_bits=\"10\"", "; server_max_window_bits=10"),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ""),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=15",
            "; server_max_window_bits=15; client_max_window_bits",
        ),
    ];
    for (client, windows) in windows {
        assert_eq!(offered(&[client]), Some(format!("{PLAIN}{windows}")), "{client}");
    }
}

#[test]
fn an_offer_that_breaks_the_rules_is_passed_over() {
    let bad = [
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=+9",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate;",
        "x-webkit-deflate-frame",
    ];
    for bad in bad {
        assert_eq!(offered(&[bad]), None, "{bad}");
        let next = format!("{bad}, x-other; a=\"b,c\", permessage-deflate; client_max_window_bits");
        assert_eq!(offered(&[&next]), Some(format!("{PLAIN}; client_max_window_bits")), "{next}");
    }
    assert_eq!(offered(&[]), None);
    assert_eq!(offered(&["", "ä", "permessage-deflate"]), Some(PLAIN.to_owned()));
}

#[test]
fn the_first_of_several_acceptable_offers_is_taken() {
    let first = ["permessage-deflate; server_max_window_bits=10, permessage-deflate"];
    assert_eq!(offered(&first), Some(format!("{PLAIN}; server_max_window_bits=10")));
}

#[test]
fn an_answer_goes_on_with_the_windows_that_the_backend_set() {
    let answers = [
        ("permessage-deflate", "", ""),
        ("permessage-deflate", "; server_max_window_bits=9", "; server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=10", "; server_max_window_bits=10", "; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=10", "; server_max_window_bits=8", "; server_max_window_bits=8"),
        ("permessage-deflate; client_max_window_bits", "", ""),
        ("permessage-deflate; client_max_window_bits", "; client_max_window_bits=12", "; client_max_window_bits=12"),
    ];
    for (client, answer, expected) in answers {
        let answer = format!("permessage-deflate; server_no_context_takeover{answer}");
        assert_eq!(agreed(client, &[&answer]), Ok(Some(format!("{PLAIN}{expected}"))), "{client} and {answer}");
    }
    assert_eq!(agreed("permessage-deflate", &[PLAIN]), Ok(Some(PLAIN.to_owned())));
    assert_eq!(agreed("permessage-deflate", &[]), Ok(None));
    assert_eq!(agreed("permessage-deflate", &["", " , "]), Ok(None));
}

#[test]
fn an_answer_that_breaks_the_rules_is_refused() {
    let invalid = |name: &str| BadAgreement::Parameter(name.to_owned());
    let all = "permessage-deflate; client_max_window_bits; server_max_window_bits=10";
    let bad = [
        (all, "permessage-deflate; server_max_window_bits=10", BadAgreement::ContextTakeover),
        (all, PLAIN, BadAgreement::ServerWindow),
        (all, &format!("{PLAIN}; server_max_window_bits=11"), BadAgreement::ServerWindow),
        (all, &format!("{PLAIN}; server_max_window_bits"), invalid("server_max_window_bits")),
        (all, &format!("{PLAIN}; client_max_window_bits"), invalid("client_max_window_bits")),
        (all, &format!("{PLAIN}; client_max_window_bits=16"), invalid("client_max_window_bits")),
        (all, &format!("{PLAIN}; server_no_context_takeover"), invalid("server_no_context_takeover")),
        (all, &format!("{PLAIN}; mystery"), invalid("mystery")),
        ("permessage-deflate", &format!("{PLAIN}; client_max_window_bits=9"), BadAgreement::ClientWindow),
        ("permessage-deflate", &format!("{PLAIN}, {PLAIN}"), BadAgreement::Repeated),
        ("permessage-deflate", &format!("{PLAIN}, x-a"), BadAgreement::NotOffered("x-a".to_owned())),
        ("permessage-deflate", "x-a; b", BadAgreement::NotOffered("x-a".to_owned())),
        ("permessage-deflate", "permessage-deflate; =", BadAgreement::Malformed),
        ("permessage-deflate", "permessage-deflate; ä", BadAgreement::Malformed),
    ];
    for (client, answer, expected) in bad {
        assert_eq!(agreed(client, &[answer]), Err(expected), "{client} and {answer}");
    }
    assert_eq!(agreed("permessage-deflate", &[PLAIN, PLAIN]), Err(BadAgreement::Repeated));
}

#[test]
fn each_side_s_window_is_the_smaller_of_what_was_set_and_what_was_promised() {
    let window = |client: &str, answer: &str, sender| {
        let answer = format!("{PLAIN}{answer}");
        let agreement = offer(&values(&[client])).unwrap().agree(&values(&[&answer])).unwrap().unwrap();
        let written = serde_json::to_string(&agreement).unwrap();
        assert_eq!(serde_json::from_str::<Agreement>(&written).unwrap(), agreement);
        agreement.window_bits(sender)
    };
    assert_eq!(window("permessage-deflate", "", Side::Client), 15);
    assert_eq!(window("permessage-deflate", "; server_max_window_bits=9", Side::Backend), 9);
    let promised = "permessage-deflate; client_max_window_bits=10";
    assert_eq!(window(promised, "", Side::Client), 10);
    assert_eq!(window(promised, "; client_max_window_bits=12", Side::Client), 10);
    assert_eq!(window(promised, "; client_max_window_bits=9", Side::Client), 9);
    assert_eq!(window(promised, "", Side::Backend), 15);
}

/// Bytes that compress somewhat, written by the same rule each time.
fn some_text(length: usize) -> Vec<u8> {
    let words = ["user", "room", "message", "state", ": ", ", ", "17", "text"];
    let mut number = 1_u32;
    let mut text = Vec::new();
    while text.len() < length {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(words[(number >> 29) as usize].as_bytes());
    }
    text.truncate(length);
    text
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let examples = [
        &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
        // In a stored block.
        &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
        // In a final block.
        &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
        // In two blocks.
        &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
    ];
    for payload in examples {
        assert_eq!(Codec::new().inflate(payload, 5), Ok(b"Hello".to_vec()));
    }
}

#[test]
fn what_python_s_zlib_compressed_is_read() {
    let payloads = [
        // Blocks ended by a sync flush and a full flush.
        "2ac9284a4d554802000000ffffcac94fce2eb65248cb04000000ffffaa484dd151282ec92f02d129957989b999c90000",
        // By a partial flush and Z_BLOCK.
        "2ac9284a4d55480208a09cfce4ec622b85b44c802a525374148a4bf28b40744a655e626e663200",
        // Level 0.
        "002400dbff746872656520626c6f636b733a2066697865642c2073746f7265642c2064796e616d696300",
        // A window of 9 bits.
        "2ac9284a4d5548cac94fce2eb65248cbac484dd151282ec92f02d129957989b999c90000",
        // Finished instead of flushed, without the byte behind it.
        "2bc9284a4d5548cac94fce2eb65248cbac484dd151282ec92f02d129957989b999c900",
    ];
    let message = b"three blocks: fixed, stored, dynamic";
    for hex in payloads {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let payload: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
        assert_eq!(Codec::new().inflate(&payload, 100), Ok(message.to_vec()), "{hex}");
    }
}

#[test]
fn an_empty_message_is_one_zero_byte_or_an_empty_block() {
    let mut codec = Codec::new();
    assert_eq!(codec.deflate(b""), [0]);
    for payload in [&[0x00][..], &[0x02, 0x00], &[0x03, 0x00], &[0x03, 0x00, 0x00]] {
        assert_eq!(codec.inflate(payload, 0), Ok(Vec::new()), "{payload:?}");
    }
}

#[test]
fn a_message_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
    let mut codec = Codec::new();
    for length in [1, 255, 256, 257, 1000, 70_000] {
        let message = some_text(length);
        let payload = codec.deflate(&message);
        assert_eq!(codec.inflate(&payload, length as u64), Ok(message));
        assert_eq!(codec.inflate(&payload, length as u64 - 1), Err(InflateError::TooBig));
    }
    assert_eq!(InflateError::TooBig.code(), 1009);
}

#[test]
fn a_bomb_is_given_up_at_the_limit() {
    let mut codec = Codec::new();
    let bomb = codec.deflate(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    assert_eq!(codec.inflate(&bomb, 1 << 20), Err(InflateError::TooBig));
    let stream = codec.decompress.as_ref().unwrap();
    assert_eq!(stream.total_out(), (1 << 20) + 1, "nothing was restored beyond the limit");
}

#[test]
fn room_is_made_for_what_comes_out_and_not_beyond_the_limit() {
    let mut codec = Codec::new();
    let message = some_text(100_000);
    let payload = codec.deflate(&message);
    assert!(codec.inflate(&payload, u64::MAX).unwrap().capacity() <= 2 * message.len());
    assert!(codec.inflate(&payload, 100_000).unwrap().capacity() <= 100_001);
    let short = codec.deflate(b"hi");
    assert!(codec.inflate(&short, u64::MAX).unwrap().capacity() <= 256);
}

#[test]
fn what_is_cut_off_or_no_deflate_at_all_is_corrupt() {
    let mut codec = Codec::new();
    let payload = codec.deflate(&some_text(500));
    for length in 0..payload.len() - 1 {
        assert_eq!(codec.inflate(&payload[..length], 1000), Err(InflateError::Corrupt), "{length} bytes");
    }
    for bad in [&b""[..], &[0x06], &[0x00, 5, 0, 0xFA, 0xFF, b'h'], &[0xFF; 10]] {
        assert_eq!(codec.inflate(bad, 1000), Err(InflateError::Corrupt), "{bad:?}");
    }
    assert_eq!(InflateError::Corrupt.code(), 1007);
}

#[test]
fn a_message_leaves_nothing_behind_for_the_next() {
    let mut codec = Codec::new();
    let text = some_text(500);
    let payload = codec.deflate(&text);
    for _ in 0..2 {
        assert_eq!(codec.deflate(&text), payload);
        assert_eq!(codec.inflate(&[0xFF; 10], 1000), Err(InflateError::Corrupt));
        assert_eq!(codec.inflate(&payload, 10), Err(InflateError::TooBig));
        assert_eq!(codec.inflate(&payload, 1000), Ok(text.clone()));
    }
}

/// A message in parts, each followed by a flush, at a level.
fn in_parts(parts: &[(Vec<u8>, u8)], level: u32) -> (Vec<u8>, Vec<u8>) {
    let mut stream = Compress::new(Compression::new(level), false);
    let (mut message, mut payload) = (Vec::new(), Vec::with_capacity(100_000));
    for (part, flush) in parts {
        let flush =
            [FlushCompress::None, FlushCompress::Partial, FlushCompress::Sync, FlushCompress::Full][*flush as usize];
        stream.compress_vec(part, &mut payload, flush).unwrap();
        message.extend_from_slice(part);
    }
    stream.compress_vec(b"", &mut payload, FlushCompress::Sync).unwrap();
    let kept = payload.strip_suffix(TAIL).unwrap_or(&payload).to_vec();
    (message, kept)
}

fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let repeated = (vec(any::<u8>(), 1..50), 1..500usize).prop_map(|(bytes, times)| bytes.repeat(times));
    prop_oneof![vec(any::<u8>(), 0..2000), repeated, (0..5000usize).prop_map(some_text)]
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_was_and_another_reader_agrees(message in some_bytes()) {
        let mut codec = Codec::new();
        let payload = codec.deflate(&message);
        prop_assert_eq!(&codec.inflate(&payload, message.len() as u64), &Ok(message.clone()));
        let mut other = Vec::with_capacity(message.len() + 1);
        let whole = [&payload[..], TAIL].concat();
        Decompress::new(false).decompress_vec(&whole, &mut other, FlushDecompress::Sync).unwrap();
        prop_assert_eq!(other, message);
    }

    #[test]
    fn blocks_of_any_kind_and_number_are_read(
        parts in vec((some_bytes(), 0..4u8), 1..4),
        level in 0..10u32,
    ) {
        let (message, payload) = in_parts(&parts, level);
        prop_assert_eq!(Codec::new().inflate(&payload, message.len() as u64), Ok(message));
    }

    #[test]
    fn garbage_never_panics_and_never_exceeds_the_limit(payload in vec(any::<u8>(), 0..300), limit in 0..2000u64) {
        if let Ok(message) = Codec::new().inflate(&payload, limit) {
            prop_assert!(message.len() as u64 <= limit);
        }
    }
}

#[test]
fn a_message_is_restored_part_by_part_and_no_part_exceeds_its_budget_by_much() {
    let (mut codec, message) = (Codec::new(), vec![b'a'; 10_000_000]);
    let payload = codec.deflate(&message);
    let mut inflating = codec.begin(payload.len(), u64::MAX);
    let mut parts = 0;
    let restored = loop {
        let before = inflating.restored();
        if let Some(restored) = codec.go_on(&mut inflating, &payload, 100_000).unwrap() {
            break restored;
        }
        assert!(inflating.restored() - before <= 100_000 + PART);
        // The codec serves others in between.
        assert_eq!(codec.inflate(&hello(), 5), Ok(b"Hello".to_vec()));
        parts += 1;
    };
    assert!(restored == message && parts >= 60, "{parts} parts");
    assert_eq!(codec.go_on(&mut inflating, &payload, 1), Err(InflateError::Corrupt), "nothing is left of it");
}

fn hello() -> Vec<u8> {
    Codec::new().deflate(b"Hello")
}
