//! Peers that break the protocol: each is sent the alert that the RFC names.

use rustls::CipherSuite;

use super::{Records, carried, open};
use crate::tls::record::{ALERT, Alert, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, Role, StreamEnd};
use crate::tls::testing::SUITES;

const TLS13: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
const TLS12: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;

/// Two record layers with each other's keys: one that is tested, and one that seals whatever it is told to.
fn opposed(suite: CipherSuite, role: Role) -> (Records, Records) {
    let tested = carried(suite, role).0;
    let mut other = super::crossed_copy(&tested);
    std::mem::swap(&mut other.sealing, &mut other.opening);
    other.role = if tested.role == Role::Client { Role::Server } else { Role::Client };
    (tested, other)
}

/// Seals one record of any kind.
fn record(by: &mut Records, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0; content.len() + 64];
    let length = by.seal_record(kind, content, &mut out).unwrap();
    out.truncate(length);
    out
}

/// The end that records of these kinds and contents lead to.
fn end_of(suite: CipherSuite, role: Role, sealed: &[(u8, &[u8])]) -> Option<StreamEnd> {
    let (mut tested, mut other) = opposed(suite, role);
    let all: Vec<u8> = sealed.iter().flat_map(|(kind, content)| record(&mut other, *kind, content)).collect();
    open(&mut tested, &all).1.end
}

fn refused(alert: Alert) -> Option<StreamEnd> {
    Some(StreamEnd::Refused(alert))
}

const UPDATE: &[u8] = &[24, 0, 0, 1, 0];
const TICKET: &[u8] = &[4, 0, 0, 3, 1, 2, 3];
const CLIENT_HELLO: &[u8] = &[1, 0, 0, 2, 3, 3];

#[test]
fn messages_without_a_place_after_the_handshake_are_unexpected() {
    use Alert::{DecodeError, IllegalParameter, UnexpectedMessage};
    let too_much = [UPDATE, TICKET].concat();
    let cases: [(&[u8], Alert); 8] = [
        (&[], UnexpectedMessage),
        (TICKET, UnexpectedMessage),
        (CLIENT_HELLO, UnexpectedMessage),
        (&[13, 0, 0, 1, 0], UnexpectedMessage),
        (&[24, 0, 0, 1, 2], IllegalParameter),
        (&[24, 0, 0, 0], DecodeError),
        (&[24, 0, 0, 2, 0, 0], DecodeError),
        (&too_much, UnexpectedMessage),
    ];
    for (content, alert) in cases {
        assert_eq!(end_of(TLS13, Role::Server, &[(HANDSHAKE, content)]), refused(alert), "{content:?}");
    }
}

#[test]
fn tickets_come_to_a_client_only_and_in_any_pieces() {
    assert_eq!(end_of(TLS13, Role::Client, &[(HANDSHAKE, TICKET), (DATA, b"x")]), None);
    let pieces: Vec<(u8, &[u8])> = TICKET.chunks(1).map(|byte| (HANDSHAKE, byte)).collect();
    assert_eq!(end_of(TLS13, Role::Client, &[&pieces[..], &[(DATA, b"x")]].concat()), None);
    let interrupted = [(HANDSHAKE, &TICKET[..5]), (DATA, b"x")];
    assert_eq!(end_of(TLS13, Role::Client, &interrupted), refused(Alert::UnexpectedMessage));
    // However many there are.
    assert_eq!(end_of(TLS13, Role::Client, &vec![(HANDSHAKE, TICKET); 100]), None);
}

#[test]
fn records_of_another_kind_are_unexpected() {
    for kind in [CHANGE_CIPHER_SPEC, 24, 0] {
        assert_eq!(end_of(TLS13, Role::Server, &[(kind, b"\x01")]), refused(Alert::UnexpectedMessage), "{kind}");
    }
    // Nothing but padding.
    assert_eq!(end_of(TLS13, Role::Server, &[(0, &[0; 20])]), refused(Alert::UnexpectedMessage));
    // Not protected, or no record at all.
    let (mut tested, _) = opposed(TLS13, Role::Server);
    assert_eq!(open(&mut tested, &[20, 3, 3, 0, 1, 1]).1.end, refused(Alert::UnexpectedMessage));
    assert_eq!(open(&mut tested, &[21, 3, 3, 0, 2, 1, 0]).1.end, refused(Alert::UnexpectedMessage));
    assert_eq!(open(&mut tested, b"GET / HTTP/1.1\r\n").1.end, refused(Alert::DecodeError));
    let (mut tested, _) = opposed(TLS12, Role::Server);
    assert_eq!(open(&mut tested, &[20, 3, 3, 0, 1, 1]).1.end, refused(Alert::UnexpectedMessage));
}

#[test]
fn records_that_are_too_long_overflow_as_soon_as_their_header_says_so() {
    for (suite, most) in [(TLS13, (1 << 14) + 256), (TLS12, (1 << 14) + 2048)] {
        let (mut tested, _) = opposed(suite, Role::Server);
        let header = |length: u16| [&[23, 3, 3][..], &length.to_be_bytes()].concat();
        assert_eq!(open(&mut tested, &header(most)).1.end, None);
        assert_eq!(open(&mut tested, &header(most + 1)).1.end, refused(Alert::RecordOverflow), "{suite:?}");
    }
    for suite in SUITES {
        let long = vec![1; (1 << 14) + 1];
        assert_eq!(end_of(suite, Role::Server, &[(DATA, &long)]), refused(Alert::RecordOverflow), "{suite:?}");
        assert_eq!(end_of(suite, Role::Server, &[(DATA, &long[1..])]), None, "{suite:?}");
    }
}

#[test]
fn padding_counts_towards_the_length_of_a_record() {
    let padded = |zeros: usize| [&[DATA][..], &vec![0; zeros]].concat();
    // The last byte of the content of a record of type 0 is padding as well.
    assert_eq!(end_of(TLS13, Role::Server, &[(0, &padded((1 << 14) - 1))]), None);
    assert_eq!(end_of(TLS13, Role::Server, &[(0, &padded(1 << 14))]), refused(Alert::RecordOverflow));
}

#[test]
fn records_that_the_keys_do_not_open_are_refused() {
    for suite in SUITES {
        for length in [0_u16, 1, 8, 16, 17, 24, 40] {
            let (mut tested, _) = opposed(suite, Role::Server);
            let sealed = [&[23, 3, 3][..], &length.to_be_bytes(), &vec![9; length.into()]].concat();
            assert_eq!(open(&mut tested, &sealed).1.end, refused(Alert::BadRecordMac), "{suite:?}, {length}");
        }
        // A record that comes twice.
        let (mut tested, mut other) = opposed(suite, Role::Server);
        let one = record(&mut other, DATA, b"one");
        let (data, opened) = open(&mut tested, &[&one[..], &one].concat());
        assert_eq!((&data[..], opened.end), (&b"one"[..], refused(Alert::BadRecordMac)), "{suite:?}");
    }
}

#[test]
fn a_flood_of_records_without_data_is_refused_and_a_few_are_not() {
    let floods: [(CipherSuite, u8, &[u8]); 5] = [
        (TLS13, DATA, b""),
        (TLS12, DATA, b""),
        (TLS13, ALERT, &[1, 90]),
        (TLS12, ALERT, &[1, 90]),
        (TLS12, HANDSHAKE, CLIENT_HELLO),
    ];
    for (suite, kind, content) in floods {
        let (few, many) = (vec![(kind, content); 32], vec![(kind, content); 33]);
        assert_eq!(end_of(suite, Role::Server, &few), None, "{suite:?}, {kind}");
        assert_eq!(end_of(suite, Role::Server, &many), refused(Alert::UnexpectedMessage), "{suite:?}, {kind}");
        let between = [&few[..], &[(DATA, b"x")], &few].concat();
        assert_eq!(end_of(suite, Role::Server, &between), None, "{suite:?}, {kind}");
    }
}

#[test]
fn a_flood_of_key_updates_is_refused() {
    let (mut tested, mut other) = opposed(TLS13, Role::Server);
    for number in 1..=33 {
        let sealed = record(&mut other, HANDSHAKE, UPDATE);
        other.sealing = other.sealing.next().unwrap();
        let expected = (number == 33).then_some(StreamEnd::Refused(Alert::UnexpectedMessage));
        assert_eq!(open(&mut tested, &sealed).1.end, expected, "{number}");
    }
}

#[test]
fn alerts_end_the_stream_and_are_told_apart() {
    let cases: [(CipherSuite, &[u8], Option<StreamEnd>); 10] = [
        (TLS13, &[1, 0], Some(StreamEnd::Closed)),
        (TLS13, &[2, 0], Some(StreamEnd::Closed)),
        (TLS13, &[2, 42], Some(StreamEnd::Alerted(42))),
        (TLS13, &[1, 42], Some(StreamEnd::Alerted(42))),
        (TLS13, &[1, 90], None),
        (TLS12, &[1, 0], Some(StreamEnd::Closed)),
        (TLS12, &[2, 42], Some(StreamEnd::Alerted(42))),
        (TLS12, &[1, 42], None),
        (TLS13, &[2], refused(Alert::DecodeError)),
        (TLS12, &[], refused(Alert::UnexpectedMessage)),
    ];
    for (suite, content, end) in cases {
        assert_eq!(end_of(suite, Role::Server, &[(ALERT, content)]), end, "{suite:?} {content:?}");
    }
}

#[test]
fn data_before_the_end_is_not_lost_and_bytes_behind_it_are_not_read() {
    for suite in SUITES {
        let (mut tested, mut other) = opposed(suite, Role::Server);
        let sealed = [record(&mut other, DATA, b"last"), record(&mut other, ALERT, &[1, 0])].concat();
        let (data, opened) = open(&mut tested, &[&sealed[..], b"anything"].concat());
        assert_eq!((&data[..], opened.end), (&b"last"[..], Some(StreamEnd::Closed)), "{suite:?}");
    }
}

#[test]
fn another_handshake_is_declined_with_a_warning_in_tls_1_2() {
    let hello_request: &[u8] = &[0, 0, 0, 0];
    for (role, request) in [(Role::Server, CLIENT_HELLO), (Role::Client, hello_request)] {
        let (mut tested, mut other) = opposed(TLS12, role);
        let sealed = record(&mut other, HANDSHAKE, request);
        assert_eq!(open(&mut tested, &sealed).1.end, None);
        let mut out = [0; 64];
        let length = tested.seal_refusal(&mut out);
        let mut warning = [0; 64];
        other.open(&out[..length], &mut warning);
        assert_eq!(warning[..2], [1, 100]);
        assert_eq!(tested.seal_refusal(&mut out), 0, "once for each request");
        let wrong = if role == Role::Server { hello_request } else { CLIENT_HELLO };
        assert_eq!(end_of(TLS12, role, &[(HANDSHAKE, wrong)]), refused(Alert::UnexpectedMessage));
    }
}
