//! Streams over a connection in memory that takes and gives as little as it likes.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::{LEAST_BUFFER, RawConnection, Stream, StreamEnd, StreamKind};
use crate::tls::record::Role;
use crate::tls::testing::{Peer, SUITES, connected};

/// A connection in memory.
#[derive(Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    ended: bool,
    room: usize,
    taken: Vec<u8>,
    shut: bool,
    /// The latest bytes wait for the end.
    waiting: bool,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.arrived.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        self.waiting = false;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RawConnection for Pipe {
    fn send_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.write(bytes)?;
        self.waiting = true;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shut = true;
        Ok(())
    }
}

/// A stream with all the room there is, and its peer. One that captures no secrets stays with rustls.
fn stream(suite: usize, role: Role, captures: bool) -> (Stream<Pipe>, Peer) {
    let (session, peer) = connected(SUITES[suite], role, captures);
    let stream = Stream::new(Pipe { room: usize::MAX, ..Pipe::default() }, session, Vec::new());
    assert_eq!(stream.kind(), if captures { StreamKind::Record } else { StreamKind::Rustls });
    (stream, peer)
}

impl Stream<Pipe> {
    /// Reads until nothing is left, or the end.
    fn read_all(&mut self) -> (Vec<u8>, io::Result<()>) {
        let (mut all, mut buffer) = (Vec::new(), vec![0; LEAST_BUFFER]);
        loop {
            match self.read(&mut buffer) {
                Ok((0, _)) => return (all, Ok(())),
                Ok((count, empties)) => {
                    all.extend_from_slice(&buffer[..count]);
                    assert!(!empties || self.below.arrived.is_empty(), "something is left");
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (all, Err(error)),
            }
        }
    }

    fn is_without_buffers(&self) -> bool {
        self.partial.capacity() == 0 && self.unsent.is_none()
    }
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_byte_is_written_once_however_little_is_taken(
        suite in 0..SUITES.len(),
        captures in prop::bool::weighted(0.8),
        data in prop::collection::vec(any::<u8>(), 1..100_000),
        rooms in prop::collection::vec(prop_oneof![0..60_usize, 0..40_000_usize], 1..40),
        updates in any::<bool>(),
    ) {
        let (mut stream, mut peer) = stream(suite, Role::Server, captures);
        if updates && suite < 3 {
            peer.0.refresh_traffic_keys().unwrap();
            stream.below.arrived.extend(peer.write(b"x"));
            prop_assert_eq!(stream.read_all().0, b"x");
        }
        let (mut rest, mut heard) = (&data[..], Vec::new());
        let rooms = rooms.into_iter().chain(std::iter::repeat_n(70_000, 3));
        for room in rooms {
            stream.below.room = room;
            while !rest.is_empty() {
                match stream.write(rest) {
                    Ok(count) => {
                        prop_assert!((1..=rest.len()).contains(&count));
                        rest = &rest[count..];
                        prop_assert!(!rest.is_empty() || stream.unsent.is_none(), "all counts as written, and is not");
                    }
                    Err(error) => {
                        prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            heard.extend(peer.read(&std::mem::take(&mut stream.below.taken)).unwrap());
        }
        prop_assert!(heard == data, "{} of {} bytes came", heard.len(), data.len());
        prop_assert!(stream.is_without_buffers());
    }

    #[test]
    fn every_byte_is_read_once_however_it_comes(
        suite in 0..SUITES.len(),
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        captures in prop::bool::weighted(0.8),
        data in prop::collection::vec(any::<u8>(), 1..100_000),
        pieces in prop::collection::vec(1..30_000_usize, 1..20),
    ) {
        let (mut stream, mut peer) = stream(suite, role, captures);
        let (sealed, mut heard, mut at) = (peer.write(&data), Vec::new(), 0);
        for piece in pieces.into_iter().chain([usize::MAX]) {
            let end = sealed.len().min(at + piece.min(sealed.len()));
            stream.below.arrived.extend(&sealed[at..end]);
            at = end;
            let (read, then) = stream.read_all();
            would_block(then);
            heard.extend(read);
        }
        prop_assert!(heard == data);
        prop_assert!(stream.is_without_buffers());
    }
}

#[test]
fn the_other_sides_close_notify_ends_the_stream_and_a_fin_without_it_is_a_loss() {
    for captures in [true, false] {
        let (mut open, mut peer) = stream(0, Role::Server, captures);
        peer.0.send_close_notify();
        let close = peer.write(&[]);
        open.below.arrived.extend(&close);
        assert!(open.read_all().1.is_ok() && open.read_all().1.is_ok());
        let (mut cut, mut peer) = stream(0, Role::Server, captures);
        cut.below.arrived.extend(peer.write(b"last"));
        cut.below.ended = true;
        let (read, end) = cut.read_all();
        assert_eq!((&read[..], end.unwrap_err().kind()), (&b"last"[..], io::ErrorKind::UnexpectedEof));
    }
}

#[test]
fn data_that_comes_with_the_close_notify_is_read_before_the_end() {
    for captures in [true, false] {
        let (mut stream, mut peer) = stream(0, Role::Client, captures);
        let mut sealed = peer.write(b"last");
        peer.0.send_close_notify();
        sealed.extend(peer.write(&[]));
        stream.below.arrived.extend(sealed);
        let mut buffer = vec![0; LEAST_BUFFER];
        assert_eq!(stream.read(&mut buffer).unwrap(), (4, false), "the end is left to be read");
        assert_eq!(stream.read(&mut buffer).unwrap().0, 0);
    }
}

#[test]
fn a_close_notify_that_is_not_taken_at_once_goes_before_the_fin_later() {
    for captures in [true, false] {
        let (mut stream, mut peer) = stream(0, Role::Server, captures);
        stream.below.room = 5;
        would_block(stream.shutdown_write());
        assert!(!stream.below.shut && stream.below.taken.len() == 5);
        stream.below.room = 100;
        stream.shutdown_write().unwrap();
        assert!(stream.below.shut);
        peer.read(&stream.below.taken).unwrap();
        assert!(peer.is_closed());
    }
}

#[test]
fn last_bytes_and_the_goodbye_behind_them_go_out_with_the_end() {
    for captures in [true, false] {
        let (mut stream, mut peer) = stream(0, Role::Server, captures);
        stream.write(b"words, ").unwrap();
        assert!(!stream.below.waiting, "nothing follows that they could wait for");
        stream.write_more(b"last words").unwrap();
        assert!(stream.below.waiting);
        stream.shutdown_write().unwrap();
        assert!(stream.below.waiting && stream.below.shut);
        assert_eq!(peer.read(&stream.below.taken).unwrap(), b"words, last words");
        assert!(peer.is_closed());
    }
}

#[test]
fn goodbye_is_said_once_and_not_to_a_side_that_was_refused() {
    let (mut open, mut peer) = stream(0, Role::Server, true);
    open.say_goodbye();
    let said = open.below.taken.len();
    open.say_goodbye();
    assert_eq!(open.below.taken.len(), said);
    peer.read(&open.below.taken).unwrap();
    assert!(peer.is_closed());
    let (mut refused, _) = stream(0, Role::Server, true);
    refused.below.arrived.extend([23, 3, 3, 0, 20]);
    refused.below.arrived.extend([0; 20]);
    assert_eq!(refused.read_all().1.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let said = refused.below.taken.len();
    refused.say_goodbye();
    assert_eq!(refused.below.taken.len(), said);
}

#[test]
fn a_side_that_breaks_the_protocol_is_sent_the_alert() {
    for captures in [true, false] {
        for suite in 0..SUITES.len() {
            let (mut stream, mut peer) = stream(suite, Role::Server, captures);
            let mut sealed = peer.write(b"what is changed on its way");
            *sealed.last_mut().unwrap() ^= 1;
            stream.below.arrived.extend(sealed);
            assert_eq!(stream.read_all().1.unwrap_err().kind(), io::ErrorKind::InvalidData);
            let told = peer.read(&stream.below.taken);
            assert_eq!(told, Err(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)), "{suite}");
        }
    }
}

#[test]
fn an_alert_of_the_other_side_ends_the_stream() {
    for captures in [true, false] {
        let (mut stream, mut peer) = stream(0, Role::Server, captures);
        // A peer that cannot read what it was sent says so.
        assert!(peer.read(&[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        let mut alert = Vec::new();
        peer.0.write_tls(&mut alert).unwrap();
        stream.below.arrived.extend(alert);
        assert_eq!(stream.read_all().1.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(matches!(stream.end, Some(StreamEnd::Alerted(20))));
    }
}

#[test]
fn another_handshake_is_declined_with_a_warning_at_once() {
    // rustls never asks for one; the record of another layer with the client's keys does.
    let (mut server, _) = stream(3, Role::Server, true);
    let super::Layer::Records(records) = &server.layer else { panic!("it is carried") };
    let text = serde_json::to_string(&records.state()).unwrap();
    let [sealing, opening] = ["\"sealing\"", "\"opening\""];
    let swapped = text.replace(sealing, "_").replace(opening, sealing).replace('_', opening);
    let state = serde_json::from_str(&swapped.replace("\"Server\"", "\"Client\"")).unwrap();
    let mut client = crate::tls::record::Records::resume(state).unwrap();
    let mut out = [0; 100];
    let length = client.seal_message(&[1, 0, 0, 1, 0], &mut out);
    server.below.arrived.extend(&out[..length]);
    would_block(server.read_all().1);
    let mut warning = [0; 100];
    client.open(&server.below.taken, &mut warning);
    assert_eq!(warning[..2], [1, 100]);
}
