//! Heads of HTTP/1 requests and answers: the same whether they come whole or in pieces, each of one meaning, and that
//! meaning the same to whoever reads what is passed on.
//!
//! Flags: 0 narrow bounds, 1 the bytes are an answer's.
#![no_main]

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use libfuzzer_sys::fuzz_target;
use longhaul::http1::forward::{Edited, ForwardedFrom, upgrade_request};
use longhaul::http1::framing::{self, Body, Framing, is_token};
use longhaul::http1::head::{HeadProgress, read_request, read_response};
use longhaul::http1::{HeadBounds, HeadReading, HeaderFields, RequestHead, RequestRefused, fields, reading};
use longhaul_fuzz::Input;

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    if input.flag(1) {
        return answer(&input);
    }
    let bounds = if input.flag(0) { NARROW } else { USUAL };
    let at_once = read(&mut HeadReading::default(), input.bytes, &bounds);
    let (mut reader, mut in_pieces) = (HeadReading::default(), Ok(None));
    for bytes in input.growing() {
        in_pieces = read(&mut reader, bytes, &bounds);
        if in_pieces != Ok(None) {
            break;
        }
    }
    match (&at_once, &in_pieces) {
        // One reason may show before another.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(at_once, in_pieces),
    }
    let Ok(Some(head)) = at_once else { return };
    is_well_formed(&head, &bounds);
    if let Ok(framing) = framing::check(&head) {
        has_one_meaning(&head, &framing, &bounds);
        is_passed_on(&head);
    }
});

/// The head that the bytes begin with, as the gateway reads one that comes in pieces; `None` while it is not complete.
fn read<'b>(
    reader: &mut HeadReading,
    bytes: &'b [u8],
    bounds: &HeadBounds,
) -> Result<Option<RequestHead<'b>>, RequestRefused> {
    if reader.is_complete(bytes, bounds)? { reading::read(bytes, bounds).map(Some) } else { Ok(None) }
}

fn is_well_formed(head: &RequestHead<'_>, bounds: &HeadBounds) {
    assert!(head.length <= bounds.bytes && head.lines.len() <= bounds.lines && head.target.len() <= bounds.target);
    assert!(!head.method.is_empty() && head.method.bytes().all(is_token) && head.minor_version <= 1);
    assert!(!head.target.is_empty() && head.target.bytes().all(|byte| byte > b' ' && byte != 0x7F));
    for line in &head.lines {
        assert!(!line.name.is_empty() && line.name.bytes().all(is_token), "{line:?}");
        assert!(!line.value.iter().any(|byte| b"\r\n\0".contains(byte)), "{line:?}");
    }
    assert!(fields::map(&head.lines).is_some());
}

/// What Pingora is given says the same as what came, in a form that leaves nothing to be written anew.
fn has_one_meaning(head: &RequestHead<'_>, framing: &Framing, bounds: &HeadBounds) {
    let lines = &head.lines[..];
    if let Some(rewritten) = &framing.rewritten {
        let roomy = HeadBounds { bytes: bounds.bytes + 1024, target: 3 * bounds.target, ..*bounds };
        let again = reading::read(rewritten, &roomy).expect("a head of ours");
        assert_eq!(again.length, rewritten.len(), "it is one head");
        let second = framing::check(&again).expect("a head of ours has one meaning");
        assert_eq!((second.body, &second.rewritten, &second.encoded), (framing.body, &None, &None), "{again:?}");
        assert_eq!((again.method, again.minor_version), (head.method, head.minor_version));
        says_its_length_once(&again, framing.body);
    } else {
        says_its_length_once(head, framing.body);
    }
    let states_length = lines.values_of(&CONTENT_LENGTH).next().is_some();
    match framing.body {
        Body::Chunked => assert!(!states_length && head.minor_version == 1),
        Body::Length(_) => assert!(lines.values_of(&TRANSFER_ENCODING).next().is_none()),
    }
}

fn says_its_length_once(head: &RequestHead<'_>, body: Body) {
    let lines = &head.lines[..];
    let lengths: Vec<_> = lines.values_of(&CONTENT_LENGTH).collect();
    let codings: Vec<_> = lines.values_of(&TRANSFER_ENCODING).map(<[u8]>::to_ascii_lowercase).collect();
    match body {
        Body::Chunked => assert_eq!((codings.as_slice(), lengths.len()), (&[b"chunked".to_vec()][..], 0)),
        Body::Length(length) => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            let said = lengths.first().map_or("0", |digits| std::str::from_utf8(digits).expect("digits"));
            assert_eq!(said.parse(), Ok(length));
        }
    }
    assert!(lines.values_of(&HOST).count() <= 1);
}

/// The request that a backend gets for a handshake is one head, with one line of the gateway's own of each name.
fn is_passed_on(head: &RequestHead<'_>) {
    let path = head.target;
    let written = upgrade_request(path, Edited { lines: &head.lines, by_hooks: None }, &ORIGIN);
    let again = read_request(&written).expect("a head of ours").expect("all of it");
    assert_eq!((again.length, again.method, again.target), (written.len(), "GET", head.target));
    let count = |name: &str| again.lines.iter().filter(|line| line.name.eq_ignore_ascii_case(name)).count();
    for name in ["connection", "upgrade", "x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
        assert_eq!(count(name), 1, "{name}");
    }
    for name in ["client-cert", "client-cert-chain", "keep-alive", "proxy-connection", "te", "transfer-encoding"] {
        assert_eq!(count(name), 0, "{name}");
    }
    for line in &again.lines {
        let is_ours = ["connection", "upgrade"].iter().any(|ours| line.name.eq_ignore_ascii_case(ours))
            || line.name.to_ascii_lowercase().starts_with("x-");
        assert!(is_ours || head.lines.contains(line), "{line:?} came from nowhere");
    }
}

/// An answer's head is the same whether it comes whole or in pieces.
fn answer(input: &Input<'_>) {
    let at_once = read_response(input.bytes);
    let mut progress = HeadProgress::default();
    let mut in_pieces = Ok(None);
    for bytes in input.growing() {
        if progress.is_worth_reading(bytes) {
            in_pieces = read_response(bytes);
            if in_pieces != Ok(None) {
                break;
            }
        }
    }
    assert_eq!(at_once, in_pieces);
    let Ok(Some(head)) = at_once else { return };
    assert!(head.length <= input.bytes.len());
    for line in &head.lines {
        assert!(!line.name.is_empty() && line.name.bytes().all(is_token), "{line:?}");
        assert!(!line.value.iter().any(|byte| b"\r\n\0".contains(byte)), "{line:?}");
    }
}

/// The bounds that `limits.head` has by default.
const USUAL: HeadBounds = HeadBounds { bytes: 32 * 1024, lines: 128, target: 8 * 1024 };
const NARROW: HeadBounds = HeadBounds { bytes: 200, lines: 5, target: 24 };

const ORIGIN: ForwardedFrom<'_> = ForwardedFrom {
    peer: "192.0.2.7",
    is_trusted: false,
    is_secure: false,
    by_tls: false,
    certificate: None,
    host: "h",
    id: "0123456789abcdef0123456789abcdef",
    trace: None,
    writes_forwarded: false,
};
