//! Tunnels whose ends speak TLS: nothing is lost, and nothing waits inside of an end that nobody looks at.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustls::CipherSuite;

use super::rig::Memory;
use super::{binary, close, frames};
use crate::config::TunnelLimits;
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::tls::record::Role;
use crate::tls::testing::{Peer, SUITES, connected};
use crate::tls::{RawConnection, Stream};
use crate::tunnel::pair::end::{End, Read};
use crate::tunnel::pair::{Driven, Pair, Readiness};
use crate::ws::Side::{self, Backend, Client};
use crate::ws::Sides;

impl io::Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        End::read(self, buffer).map(|read| read.count)
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        End::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RawConnection for Memory {
    fn shutdown_write(&mut self) -> io::Result<()> {
        End::shutdown_write(self)
    }
}

impl End for Stream<Memory> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        self.read(buffer).map(|(count, empties)| Read { count, empties })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown_write()
    }

    fn say_goodbye(&mut self) {
        self.say_goodbye();
    }

    fn was_stalled(&self, error: &io::Error) -> bool {
        self.below().was_stalled(error)
    }
}

/// A pair whose both ends speak TLS, and the peers at the far ends.
struct TlsRig {
    pair: Pair<Stream<Memory>>,
    peers: Sides<Peer>,
    /// Data that each peer has received.
    heard: Sides<Vec<u8>>,
    counters: Arc<UpstreamMetrics>,
    now: Instant,
    ended: bool,
    scratch: Vec<u8>,
}

impl TlsRig {
    /// A tunnel between a client and a backend that speak one of the suites each, to ends that take everything.
    fn new(suites: Sides<CipherSuite>, captures: bool) -> Self {
        let [(near, client), (far, backend)] =
            [(suites[Client], Role::Server), (suites[Backend], Role::Client)].map(|(suite, role)| {
                let (session, peer) = connected(suite, role, captures);
                let mut memory = Memory::default();
                memory.room_now(usize::MAX);
                (Stream::new(memory, session, Vec::new()), peer)
            });
        let now = Instant::now();
        Self {
            pair: Pair::new(near, far, TunnelLimits::default(), 0.0, now),
            peers: Sides::new(client, backend),
            heard: Sides::from_fn(|_| Vec::new()),
            counters: Metrics::new().upstream("u"),
            now,
            ended: false,
            scratch: vec![0; 65 * 1024 - 512],
        }
    }

    fn end(&mut self, side: Side) -> &mut Memory {
        self.pair.stream_mut(side).below_mut()
    }

    /// Records come from a side.
    fn arrive(&mut self, side: Side, sealed: &[u8]) {
        self.end(side).arrived_too(sealed);
        self.tell(side, Readiness { readable: true, ..Readiness::default() });
    }

    /// A side sends bytes, which come in pieces.
    fn send(&mut self, side: Side, bytes: &[u8], piece: usize) {
        let sealed = self.peers[side].write(bytes);
        sealed.chunks(piece).for_each(|piece| self.arrive(side, piece));
    }

    /// A side closes its direction: by a `close_notify` (`told`) and a FIN.
    fn close(&mut self, side: Side, told: bool) {
        if told {
            self.peers[side].0.send_close_notify();
            let sealed = self.peers[side].write(&[]);
            self.end(side).arrived_too(&sealed);
        }
        self.end(side).hang_up();
        self.tell(side, Readiness { readable: true, hung_up: true, ..Readiness::default() });
    }

    /// A side that had no room has some.
    fn room(&mut self, side: Side, bytes: usize) {
        self.end(side).room_now(bytes);
        self.tell(side, Readiness { writable: true, ..Readiness::default() });
    }

    /// The tunnel goes on in another process.
    fn cross(&mut self) {
        let state = serde_json::to_string(&self.pair.state(self.now)).unwrap();
        let [client, backend] = Side::ALL.map(|side| {
            let stream = self.pair.stream_mut(side);
            let state = serde_json::to_string(&stream.state().expect("it can move")).unwrap();
            Stream::resume(std::mem::take(stream.below_mut()), serde_json::from_str(&state).unwrap())
        });
        self.pair = Pair::resume(client, backend, serde_json::from_str(&state).unwrap(), Duration::ZERO, self.now);
        for side in Side::ALL {
            self.pair.note(side, Readiness { readable: true, writable: true, hung_up: false });
        }
        self.drive();
    }

    fn tell(&mut self, side: Side, readiness: Readiness) {
        self.pair.note(side, readiness);
        self.drive();
    }

    fn drive(&mut self) {
        for _ in 0..100_000 {
            if self.ended {
                return;
            }
            match self.pair.drive(&mut self.scratch, self.now, &self.counters, None) {
                Driven::More => {}
                Driven::PutOff => unreachable!("there is no outbox"),
                Driven::Waiting => return,
                Driven::Asks => panic!("nothing is kept for another backend"),
                Driven::Ended => {
                    self.pair.say_goodbye();
                    self.ended = true;
                }
            }
        }
        panic!("the pair always finds something to do: a worker would spin");
    }

    /// Lets the peers read what they were sent.
    fn listen(&mut self) {
        for side in Side::ALL {
            let sealed = std::mem::take(&mut self.end(side).taken);
            let data = self.peers[side].read(&sealed).unwrap();
            self.heard[side].extend(data);
        }
    }

    fn is_closed(&mut self, side: Side) -> bool {
        self.listen();
        self.peers[side].is_closed()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A side sends a message of so many bytes, which comes in pieces of so many.
    Send(bool, usize, usize),
    /// A side has room for so many bytes.
    Room(bool, usize),
    /// A side changes its keys.
    Update(bool),
    /// The tunnel crosses to another process.
    Cross,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0..200_usize, 1 => 16_000..17_000_usize, 1 => 0..150_000_usize];
    let room = prop_oneof![0..100_usize, 0..50_000_usize];
    let piece = prop_oneof![1..100_usize, 1000..70_000_usize];
    prop_oneof![
        5 => (any::<bool>(), size, piece).prop_map(|(side, size, piece)| Step::Send(side, size, piece)),
        3 => (any::<bool>(), room).prop_map(|(side, room)| Step::Room(side, room)),
        1 => any::<bool>().prop_map(Step::Update),
        1 => Just(Step::Cross),
    ]
}

fn side(is_client: bool) -> Side {
    if is_client { Client } else { Backend }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_one_side_sends_the_other_receives_and_nothing_waits(
        suites in (0..SUITES.len(), 0..SUITES.len()),
        captures in prop::bool::weighted(0.8),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut rig = TlsRig::new(Sides::new(SUITES[suites.0], SUITES[suites.1]), captures);
        let mut sent = Sides::from_fn(|_| Vec::new());
        for step in steps {
            match step {
                Step::Send(from, size, piece) => {
                    let message = binary(side(from), &vec![sent[side(from)].len() as u8; size]);
                    rig.send(side(from), &message, piece);
                    sent[side(from)].extend(message);
                }
                Step::Room(of, bytes) => rig.room(side(of), bytes),
                Step::Update(of) => drop(rig.peers[side(of)].0.refresh_traffic_keys()),
                Step::Cross if captures => rig.cross(),
                Step::Cross => {}
            }
        }
        for side in Side::ALL {
            rig.room(side, usize::MAX);
        }
        rig.listen();
        for side in Side::ALL {
            let (heard, sent) = (&rig.heard[side], &sent[side.other()]);
            prop_assert!(heard == sent, "{:?} heard {} of {} bytes", side, heard.len(), sent.len());
        }
    }
}

/// A tunnel by TLS 1.3.
fn rig() -> TlsRig {
    TlsRig::new(Sides::from([CipherSuite::TLS13_AES_128_GCM_SHA256; 2]), true)
}

#[test]
fn a_close_notify_closes_one_way_and_the_other_goes_on() {
    let mut rig = rig();
    rig.close(Client, true);
    assert!(rig.is_closed(Backend) && rig.end(Backend).shut);
    assert!(!rig.ended && !rig.is_closed(Client));
    rig.send(Backend, &binary(Backend, b"still"), usize::MAX);
    rig.listen();
    assert_eq!(rig.heard[Client], binary(Backend, b"still"));
    rig.close(Backend, true);
    assert!(rig.ended && rig.is_closed(Client));
    assert_eq!(rig.pair.reason().as_str(), "client_gone");
}

#[test]
fn a_fin_without_a_close_notify_is_a_loss() {
    let mut rig = rig();
    rig.send(Client, &binary(Client, b"last"), usize::MAX);
    rig.close(Client, false);
    rig.listen();
    assert_eq!(rig.heard[Backend], binary(Client, b"last"), "what came before it is passed on");
    rig.close(Backend, true);
    assert_eq!(rig.pair.reason().as_str(), "client_gone");
    assert!(rig.ended);
}

#[test]
fn after_both_close_frames_either_side_is_told_by_a_close_notify() {
    let mut rig = rig();
    rig.send(Client, &close(Client, 1000), usize::MAX);
    rig.send(Backend, &close(Backend, 1000), usize::MAX);
    rig.close(Backend, true);
    assert!(rig.ended);
    assert!(rig.is_closed(Client) && rig.is_closed(Backend));
    assert_eq!((frames(&rig.heard[Client]).len(), frames(&rig.heard[Backend]).len()), (1, 1));
}

#[test]
fn a_close_notify_waits_for_room_and_goes_before_the_fin() {
    let mut rig = rig();
    rig.room(Backend, 3);
    rig.close(Client, true);
    assert!(!rig.end(Backend).shut);
    rig.room(Backend, 100);
    assert!(rig.end(Backend).shut && rig.is_closed(Backend));
}

#[test]
fn bytes_of_a_record_are_a_sign_of_life_before_the_record_is_whole() {
    let mut rig = rig();
    rig.now += Duration::from_secs(50);
    let sealed = rig.peers[Client].write(&binary(Client, &[7; 1000]));
    rig.arrive(Client, &sealed[..500]);
    assert_eq!(rig.pair.ends[Client].heard, rig.now);
    assert_ne!(rig.pair.ends[Backend].heard, rig.now);
}

#[test]
fn a_record_that_was_changed_on_its_way_ends_the_tunnel_and_the_other_side_is_told() {
    let mut rig = rig();
    let mut sealed = rig.peers[Client].write(&binary(Client, b"x"));
    *sealed.last_mut().unwrap() ^= 1;
    rig.arrive(Client, &sealed);
    let told = std::mem::take(&mut rig.end(Client).taken);
    let told = rig.peers[Client].read(&told);
    assert_eq!(told, Err(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
    assert!(rig.is_closed(Backend) && rig.heard[Backend].is_empty());
}
