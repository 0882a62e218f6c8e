//! Heads that are read, refused, and cut anywhere.

use proptest::prelude::*;

use super::*;

const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching\r\nX-Foo : bar\r\nX-Folded: a,\r\n b\r\n\r\n";

#[test]
fn blanks_before_a_colon_leave_a_response_and_refuse_a_request() {
    let head = read_response(SWITCHING).unwrap().unwrap();
    assert_eq!((head.status.as_u16(), head.length), (101, SWITCHING.len()));
    let lines: Vec<_> = head.lines.iter().map(|line| (line.name, &*line.value)).collect();
    assert_eq!(lines, [("X-Foo", &b"bar"[..]), ("X-Folded", b"a, b")]);
    assert_eq!(read_request(b"GET / HTTP/1.1\r\nX-Foo : bar\r\n\r\n"), Err(HeadError::Malformed));
}

#[test]
fn folds_refuse_a_request() {
    assert_eq!(read_request(b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"), Err(HeadError::Malformed));
}

#[test]
fn a_head_has_so_many_lines_and_bytes_and_no_more() {
    let with = |lines: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(lines)).into_bytes();
    assert_eq!(read_request(&with(MAX_LINES)).unwrap().unwrap().lines.len(), MAX_LINES);
    assert_eq!(read_request(&with(MAX_LINES + 1)), Err(HeadError::TooLong));
    let unfinished = |bytes: usize| [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; bytes]].concat();
    assert_eq!(read_response(&unfinished(1024)), Ok(None));
    assert_eq!(read_response(&unfinished(MAX_BYTES)), Err(HeadError::TooLong));
}

#[test]
fn a_protocol_that_is_not_http_is_known_by_its_first_bytes() {
    assert_eq!(read_response(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(HeadError::Malformed));
    assert_eq!(read_request(b"\x16\x03\x01\x02\x00\x01\x00"), Err(HeadError::Malformed));
}

proptest! {
    #[test]
    fn a_response_cut_anywhere_is_found_at_its_last_byte(
        long in 0_usize..20_000,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        bare in any::<bool>(),
    ) {
        let end = if bare { "\n\n" } else { "\r\n\r\n" };
        let whole = format!("HTTP/1.1 200 OK\r\nX: {}{end}", "x".repeat(long)).into_bytes();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).chain([whole.len()]).collect();
        places.sort_unstable();
        let mut progress = HeadProgress::default();
        for place in places {
            let bytes = &whole[..place];
            let found = progress.is_worth_reading(bytes) && read_response(bytes).unwrap().is_some();
            prop_assert_eq!(found, place == whole.len(), "{} of {}", place, whole.len());
        }
    }
}
