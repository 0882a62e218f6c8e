//! Messages of many tunnels in one turn, whose writes are made together.

use super::*;

/// A message of `length` bytes, each of which is `number`.
fn message(number: usize, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut message = vec![0x82, 0xFE, high, low, 0, 0, 0, 0];
    message.resize(8 + usize::from(length), number as u8);
    message
}

impl Bench {
    /// A turn in which a message of each client has come.
    fn turn_of_all(&mut self, clients: &mut [Far], message: &[u8]) {
        for (slot, far) in clients.iter_mut().enumerate() {
            far.client.write_all(message).unwrap();
            self.arrived(slot, message.len());
            self.tell(slot);
        }
        self.tunnels.drive(self.now);
    }
}

#[test]
fn every_message_of_a_turn_reaches_its_receiver_in_that_turn() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let mut bench = Bench::start_by(engine);
        // More than one call takes.
        let mut all: Vec<Far> = (0..300).map(|_| bench.open(TunnelLimits::default())).collect();
        for number in 0..3 {
            let message = message(number, 200);
            bench.turn_of_all(&mut all, &message);
            for far in &mut all {
                let mut came = vec![0; message.len()];
                far.backend.read_exact(&mut came).unwrap();
                assert_eq!(came, message);
            }
        }
        assert!(!bench.tunnels.is_busy() && bench.kept.get() == 0);
    }
}

#[test]
fn a_receiver_that_takes_no_more_gets_every_byte_once_it_does() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let mut bench = Bench::start_by(engine);
        let mut all: Vec<Far> = (0..20).map(|_| bench.open(TunnelLimits::default())).collect();
        let (mut sent, mut number) = (Vec::new(), 0);
        while !bench.tunnels.slots[0].pair.takes_no_more(Side::Backend) {
            let message = message(number, 4000);
            bench.turn_of_all(&mut all, &message);
            sent.extend_from_slice(&message);
            number += 1;
            all[1..].iter_mut().for_each(|far| drain(&mut far.backend));
        }
        let volumes = bench.volumes();
        assert!(volumes.iter().all(|passed| *passed == sent.len() as u64), "{volumes:?}");
        assert!(bench.kept.get() > 0, "a part of a message is kept");
        all[0].backend.set_nonblocking(true).unwrap();
        let (mut came, until) = (Vec::new(), Instant::now() + PATIENCE);
        while came.len() < sent.len() {
            let mut chunk = [0; 64 * 1024];
            match all[0].backend.read(&mut chunk) {
                Ok(count) => came.extend_from_slice(&chunk[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            bench.tell(0);
            bench.tunnels.drive(bench.now);
            assert!(Instant::now() < until, "{} of {} bytes have come", came.len(), sent.len());
        }
        assert!(came == sent);
        assert_eq!(bench.kept.get(), 0);
    }
}

#[test]
fn the_last_message_and_the_end_of_a_side_pass_in_order() {
    for engine in [Engine::Auto, Engine::Epoll] {
        let mut bench = Bench::start_by(engine);
        let mut all: Vec<Far> = (0..20).map(|_| bench.open(TunnelLimits::default())).collect();
        let message = message(7, 300);
        for far in &mut all {
            far.client.write_all(&message).unwrap();
            far.client.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let hung_up = Readiness { readable: true, writable: true, hung_up: true };
        for slot in 0..all.len() {
            bench.arrived(slot, message.len());
            bench.tunnels.note(token_of(slot, Side::Client), hung_up);
        }
        bench.tunnels.drive(bench.now);
        for far in &mut all {
            let mut came = Vec::new();
            far.backend.read_to_end(&mut came).unwrap();
            assert_eq!(came, message);
        }
    }
}
