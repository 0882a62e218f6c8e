//! Plain tunnels between loopback sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::config::TunnelLimits;
use crate::hook::TunnelId;
use crate::metrics::Metrics;
use crate::tunnel::{Addresses, KeyMark, NewTunnel, Record};
use crate::upstream::Registry;

/// The far ends of a tunnel.
pub(in crate::tunnel) struct Far {
    pub(in crate::tunnel) client: TcpStream,
    pub(in crate::tunnel) backend: TcpStream,
}

/// A tunnel to be opened, and its far ends.
pub(in crate::tunnel) fn plain(name: &str, limits: TunnelLimits) -> (NewTunnel, Far) {
    let ((client, near), (backend, far)) = (connected(), connected());
    let address = backend.local_addr().unwrap();
    let record = Record {
        id: TunnelId::random(),
        generation: 1,
        request_id: name.into(),
        addresses: Addresses::new(address.ip(), address),
        rare: None,
        route: "* /".into(),
        key_source: None,
        by_hook: false,
        key: KeyMark::default(),
        guard: Registry::default().backend("u", &address.to_string(), address).occupy(),
        admitted: None,
        metrics: Metrics::new().upstream("u"),
    };
    let early = Default::default();
    let tunnel = NewTunnel { client: near.into(), backend: far.into(), early, limits, record, kept: None, hooks: None };
    (tunnel, Far { client, backend })
}

impl Far {
    /// Sends a message through the tunnel and one back.
    pub(in crate::tunnel) fn exchange(&mut self) {
        self.client.write_all(&MESSAGE).unwrap();
        let mut read = [0; MESSAGE.len()];
        self.backend.read_exact(&mut read).unwrap();
        assert_eq!(read, MESSAGE);
        self.backend.write_all(&ANSWER).unwrap();
        let mut read = [0; ANSWER.len()];
        self.client.read_exact(&mut read).unwrap();
        assert_eq!(read, ANSWER);
    }

    /// Code and reason of the Close frame that the client gets next.
    pub(in crate::tunnel) fn close_frame(&mut self) -> (u16, String) {
        let mut head = [0; 2];
        self.client.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x88);
        let mut payload = vec![0; head[1].into()];
        self.client.read_exact(&mut payload).unwrap();
        let (code, reason) = payload.split_first_chunk().unwrap();
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
    }
}

/// The test's end of a connection, which waits, and the tunnel's, which does not.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    near.set_nonblocking(true).unwrap();
    (far, near)
}

/// A masked text message.
pub(in crate::tunnel) const MESSAGE: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const ANSWER: [u8; 4] = [0x81, 2, b'h', b'o'];
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
