//! The record layer against rustls: any data, cut anywhere, with KeyUpdates and moves to another process in between.

use proptest::prelude::*;
use rustls::CipherSuite;

use super::{Records, carried, crossed, open, seal};
use crate::tls::record::{OpenedRecords, Owed, Role, StreamEnd};
use crate::tls::testing::{Peer, SUITES, connected};

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// The peer sends so many bytes, which come in pieces of so many.
    Hears(usize, usize),
    /// The record layer sends so many bytes.
    Says(usize),
    /// The peer changes its keys, and asks for the same.
    PeerUpdates,
    /// The record layer wears its keys out.
    WearsOut,
    /// The record layer moves to another process.
    Moves,
}

fn step() -> impl Strategy<Value = Step> {
    let piece = prop_oneof![1..40_usize, 1..20_000_usize];
    let size = prop_oneof![4 => 1..200_usize, 1 => 16_300..16_500_usize, 1 => 1..80_000_usize];
    prop_oneof![
        4 => (size.clone(), piece).prop_map(|(size, piece)| Step::Hears(size, piece)),
        4 => size.prop_map(Step::Says),
        1 => Just(Step::PeerUpdates),
        1 => Just(Step::WearsOut),
        1 => Just(Step::Moves),
    ]
}

/// A record layer, what it keeps of a record between two reads, and its peer.
struct Line {
    records: Records,
    partial: Vec<u8>,
    peer: Peer,
    is_tls13: bool,
    sent: u8,
}

impl Line {
    fn new(suite: CipherSuite, role: Role) -> Self {
        let (records, peer) = carried(suite, role);
        let is_tls13 = suite.as_str().unwrap().starts_with("TLS13");
        Self { records, partial: Vec::new(), peer, is_tls13, sent: 0 }
    }

    /// Bytes that differ from those before.
    fn data(&mut self, size: usize) -> Vec<u8> {
        self.sent = self.sent.wrapping_add(1);
        (0..size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(self.sent)).collect()
    }

    /// Records come in pieces.
    fn come(&mut self, sealed: &[u8], piece: usize) -> (Vec<u8>, OpenedRecords) {
        let (mut all, mut last) = (Vec::new(), OpenedRecords::default());
        for piece in sealed.chunks(piece) {
            self.partial.extend_from_slice(piece);
            let (data, opened) = open(&mut self.records, &self.partial);
            self.partial.drain(..opened.consumed);
            all.extend(data);
            last = opened;
        }
        (all, last)
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Hears(size, piece) => {
                let data = self.data(size);
                let sealed = self.peer.write(&data);
                let (heard, opened) = self.come(&sealed, piece);
                assert_eq!(opened.end, None);
                assert!(self.partial.is_empty() && heard == data, "{} of {size} bytes came", heard.len());
            }
            Step::Says(size) => {
                let data = self.data(size);
                let sealed = seal(&mut self.records, &data);
                let records = sealed.len();
                assert!(records <= size + (size.div_ceil(1 << 14) + 1) * 29 + 27, "{records} bytes for {size}");
                assert!(self.peer.read(&sealed).unwrap() == data, "what is said is heard");
            }
            Step::PeerUpdates if self.is_tls13 => self.peer.0.refresh_traffic_keys().unwrap(),
            Step::WearsOut if self.is_tls13 => self.records.owed = Owed::Request,
            Step::PeerUpdates | Step::WearsOut => {}
            Step::Moves => take_mut(&mut self.records, crossed),
        }
    }
}

/// Replaces a value by one that is made of it.
fn take_mut(records: &mut Records, by: impl FnOnce(Records) -> Records) {
    let stand_in = carried(CipherSuite::TLS13_AES_128_GCM_SHA256, Role::Server).0;
    *records = by(std::mem::replace(records, stand_in));
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_one_says_the_other_hears(
        suite in 0..SUITES.len(),
        role in role(),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut line = Line::new(SUITES[suite], role);
        for step in &steps {
            line.take(step);
        }
        // Both ends close as they are to.
        let close = { line.peer.0.send_close_notify(); line.peer.write(&[]) };
        prop_assert_eq!(line.come(&close, 7).1.end, Some(StreamEnd::Closed));
        let mut out = [0; 64];
        let length = line.records.seal_close(&mut out);
        prop_assert_eq!(line.peer.read(&out[..length]), Ok(Vec::new()));
        prop_assert!(line.peer.is_closed());
    }

    #[test]
    fn a_record_with_any_bit_turned_is_refused(
        suite in 0..SUITES.len(),
        role in role(),
        size in 0..300_usize,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let (mut records, mut peer) = carried(SUITES[suite], role);
        let mut sealed = peer.write(&vec![7; size + 1]);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        let (data, opened) = open(&mut records, &sealed);
        prop_assert!(data.is_empty());
        // A length that was made greater waits for the rest.
        let waits = opened.consumed == 0 && opened.end.is_none() && (3..5).contains(&at);
        prop_assert!(waits || matches!(opened.end, Some(StreamEnd::Refused(_))), "{:?}", opened);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(
        suite in 0..SUITES.len(),
        role in role(),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        begins_as_a_record in any::<bool>(),
    ) {
        let (mut records, _peer) = carried(SUITES[suite], role);
        let bytes = if begins_as_a_record { [&[23, 3, 3, 0, 40], &bytes[..]].concat() } else { bytes };
        let (data, opened) = open(&mut records, &bytes);
        prop_assert!(data.is_empty() && opened.produced == 0);
    }
}

#[test]
fn keys_that_are_worn_out_are_changed_in_tls_1_3_and_end_the_stream_in_tls_1_2() {
    for suite in SUITES {
        let mut line = Line::new(suite, Role::Server);
        line.records.sealing.sequence = u64::MAX - 10;
        let sealed = line.records.seal(b"one more", &mut [0; 200]);
        if line.is_tls13 {
            assert!(line.records.sealing.sequence == 1 && sealed.unwrap().taken == 8, "{suite:?}");
        } else {
            assert!(sealed.is_err(), "{suite:?}");
        }
    }
}

#[test]
fn a_peer_that_never_changes_its_keys_is_asked_to() {
    let mut line = Line::new(CipherSuite::TLS13_AES_128_GCM_SHA256, Role::Server);
    line.take(&Step::Hears(10, 100));
    let before = line.records.opening.parts().0.clone();
    line.records.owed = Owed::Request;
    line.take(&Step::Says(10));
    line.take(&Step::Hears(10, 100));
    assert!(*line.records.opening.parts().0 != before, "the peer answered with a KeyUpdate of its own");
}

#[test]
fn a_key_update_before_the_record_layer_takes_over_is_not_lost() {
    for suite in &SUITES[..3] {
        for role in [Role::Server, Role::Client] {
            let (mut session, mut peer) = connected(*suite, role, true);
            for _ in 0..3 {
                peer.0.refresh_traffic_keys().unwrap();
                let (mut plain, sealed) = (Vec::new(), peer.write(b"after the update"));
                session.read_tls(&sealed, &mut plain).unwrap();
                assert_eq!(plain, b"after the update");
            }
            // The answers wait in rustls for the next write.
            let mut unsent = Vec::new();
            let (mut records, _) = session.carry(&mut unsent).unwrap();
            assert!(!unsent.is_empty(), "{suite:?} {role:?}");
            peer.read(&unsent).unwrap();
            let sealed = seal(&mut records, b"said");
            assert_eq!(peer.read(&sealed).unwrap(), b"said");
            let sealed = peer.write(b"heard");
            assert_eq!(open(&mut records, &sealed).0, b"heard");
        }
    }
}

#[test]
fn a_record_that_came_in_part_before_the_record_layer_takes_over_is_not_lost() {
    for suite in SUITES {
        let (mut session, mut peer) = connected(suite, Role::Server, true);
        let (mut plain, sealed) = (Vec::new(), peer.write(&[5; 1000]));
        session.read_tls(&sealed[..700], &mut plain).unwrap();
        let (mut records, partial) = session.carry(&mut Vec::new()).unwrap();
        assert!(plain.is_empty() && partial == sealed[..700]);
        assert_eq!(open(&mut records, &[&partial, &sealed[700..]].concat()).0, [5; 1000]);
    }
}

#[test]
fn a_session_that_captures_no_secrets_is_not_carried() {
    for suite in SUITES {
        assert!(!connected(suite, Role::Server, false).0.can_be_carried(), "{suite:?}");
    }
}
