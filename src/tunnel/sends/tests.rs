//! Sends of many sockets at a time: what is taken, and what is left.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;
use crate::socket::tcp_info::packets_in;

/// A non-blocking socket with a small buffer, and its other end.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    socket2::SockRef::from(&near).set_send_buffer_size(4096).unwrap();
    near.set_nonblocking(true).unwrap();
    (near, far)
}

/// Makes a write of `bytes` to each of the sockets; returns what they did not take.
fn send_all(batch: &mut SendBatch, sockets: &[TcpStream], bytes: &[u8]) -> Vec<Vec<u8>> {
    // Whether or not the system allows a ring.
    batch.is_open = true;
    for slot in 0..sockets.len() {
        assert!(batch.of(slot).unwrap().take(Side::Backend, bytes, false));
    }
    batch.send(|slot, side| (side == Side::Backend).then(|| sockets[slot].as_fd()));
    let rests = batch.made().iter().map(|made| batch.rest(made).to_vec()).collect();
    batch.clear();
    rests
}

/// As many sends as are made one by one, and as many as are one call where the system allows it.
const NUMBERS: [usize; 2] = [FEW, 3 * FEW];

#[test]
fn what_sockets_take_and_what_they_leave_is_what_was_to_be_sent() {
    for number in NUMBERS {
        let (near, mut far): (Vec<_>, Vec<_>) = (0..number).map(|_| pair()).unzip();
        let mut batch = SendBatch::new(Engine::Auto);
        let bytes: Vec<u8> = (0..LONGEST).map(|at| (at % 251) as u8).collect();
        let mut sent = vec![Vec::new(); number];
        // Until each of them takes no more.
        let mut full = 0;
        while full < number {
            let rests = send_all(&mut batch, &near, &bytes);
            full = rests.iter().filter(|rest| rest.len() == bytes.len()).count();
            for (sent, rest) in sent.iter_mut().zip(&rests) {
                let (taken, left) = bytes.split_at(bytes.len() - rest.len());
                assert_eq!(left, rest, "the end of the bytes is left");
                sent.extend_from_slice(taken);
            }
        }
        for ((near, far), sent) in near.iter().zip(&mut far).zip(&sent) {
            near.shutdown(Shutdown::Write).unwrap();
            let mut came = Vec::new();
            far.read_to_end(&mut came).unwrap();
            assert!(came == *sent, "{} bytes of {}", came.len(), sent.len());
        }
    }
}

#[test]
fn last_bytes_reach_the_other_side_in_one_packet_with_the_end() {
    for number in NUMBERS {
        let (near, mut far): (Vec<_>, Vec<_>) = (0..number).map(|_| pair()).unzip();
        let before: Vec<_> = far.iter().map(packets_in).collect();
        let mut batch = SendBatch::new(Engine::Auto);
        batch.is_open = true;
        for slot in 0..number {
            assert!(batch.of(slot).unwrap().take(Side::Backend, b"goodbye", true));
        }
        batch.send(|slot, _| Some(near[slot].as_fd()));
        drop(near);
        let mut together = 0;
        for (far, before) in far.iter_mut().zip(before) {
            let mut came = Vec::new();
            far.read_to_end(&mut came).unwrap();
            assert_eq!(came, b"goodbye");
            together += usize::from(packets_in(far) - before == 1);
        }
        // Not all, where the test stands still for longer than the system has them wait.
        assert!(together > 0, "{number} sockets: two packets each");
    }
}

#[test]
fn a_socket_that_fails_leaves_everything_and_harms_no_other() {
    for number in NUMBERS {
        let (near, mut far): (Vec<_>, Vec<_>) = (0..number).map(|_| pair()).unzip();
        near[1].shutdown(Shutdown::Write).unwrap();
        let rests = send_all(&mut SendBatch::new(Engine::Auto), &near, b"hello");
        assert!(rests.iter().enumerate().all(|(slot, rest)| rest == if slot == 1 { &b"hello"[..] } else { b"" }));
        let mut came = [0; 5];
        far[0].read_exact(&mut came).unwrap();
        far[number - 1].read_exact(&mut came).unwrap();
        assert_eq!(&came, b"hello");
    }
}

#[test]
fn writes_that_are_long_or_unwanted_are_not_taken() {
    let mut batch = SendBatch::new(Engine::Epoll);
    batch.open(1_000);
    assert!(batch.of(0).is_none(), "not wanted");
    let mut batch = SendBatch::new(Engine::Auto);
    batch.open(FEW);
    assert!(batch.of(0).is_none(), "of few tunnels");
    batch.open(FEW + 1);
    assert!(!batch.of(0).unwrap().take(Side::Client, &[0; LONGEST + 1], false));
    assert!(batch.is_empty() && !batch.is_full());
    while !batch.is_full() {
        assert!(batch.of(7).unwrap().take(Side::Client, &[0; LONGEST], false));
    }
    assert!(batch.bytes.len() <= MOST_BYTES);
    batch.forget(7);
    assert!(batch.is_empty());
}
