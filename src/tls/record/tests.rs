//! The record layer against published traces, against rustls, and against peers that break the protocol.

mod against_rustls;
mod refusals;
mod vectors;

use rustls::CipherSuite;

use super::{OpenedRecords, RecordState, Records, Role};
use crate::tls::testing::{Peer, connected};

/// A record layer that took over from a session, and its peer.
fn carried(suite: CipherSuite, role: Role) -> (Records, Peer) {
    let (session, peer) = connected(suite, role, true);
    assert!(session.can_be_carried());
    let mut unsent = Vec::new();
    let (records, partial) = session.carry(&mut unsent).expect("the keys come from the secrets");
    assert!(unsent.is_empty() && partial.is_empty());
    (records, peer)
}

/// Seals all of `data`.
fn seal(records: &mut Records, mut data: &[u8]) -> Vec<u8> {
    let (mut all, mut out) = (Vec::new(), vec![0; 70_000]);
    while !data.is_empty() {
        let sealed = records.seal(data, &mut out).unwrap();
        all.extend_from_slice(&out[..sealed.written]);
        data = &data[sealed.taken..];
    }
    all
}

/// Opens whole records. Returns their data.
fn open(records: &mut Records, sealed: &[u8]) -> (Vec<u8>, OpenedRecords) {
    let mut data = vec![0; sealed.len()];
    let opened = records.open(sealed, &mut data);
    data.truncate(opened.produced);
    (data, opened)
}

/// A second record layer with the same keys.
fn crossed_copy(records: &Records) -> Records {
    let text = serde_json::to_string(&records.state()).unwrap();
    Records::resume(serde_json::from_str::<RecordState>(&text).unwrap()).expect("a state of ours")
}

/// The same record layer after its state crossed as text.
fn crossed(records: Records) -> Records {
    crossed_copy(&records)
}
