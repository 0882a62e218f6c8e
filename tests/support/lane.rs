//! A tunnel in this process and both its far ends, for counts: the ends allocate nothing and wait for nothing but
//! bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use longhaul::config::TunnelLimits;
use longhaul::hook::TunnelId;
use longhaul::metrics::Metrics;
use longhaul::tunnel::{Addresses, KeyMark, NewTunnel, Record, Socket, Tunnels};
use longhaul::upstream::Registry;
use longhaul::ws::Sides;

/// One open tunnel, seen from outside.
pub struct Lane {
    client: TcpStream,
    backend: TcpStream,
    received: Vec<u8>,
}

impl Lane {
    /// Opens a tunnel over loopback sockets.
    pub fn open(tunnels: &Tunnels, limits: TunnelLimits) -> Self {
        let (client, towards_client) = connected();
        let (backend, towards_backend) = connected();
        let addresses = [&client, &backend].map(|end| end.local_addr().unwrap());
        tunnels.open(Self::new_tunnel([towards_client.into(), towards_backend.into()], addresses, limits));
        Self { client, backend, received: vec![0; 64 * 1024] }
    }

    /// A tunnel over these sockets, the client's first, whose far ends have these addresses.
    pub fn new_tunnel(
        [client, backend]: [Socket; 2],
        [peer, address]: [SocketAddr; 2],
        limits: TunnelLimits,
    ) -> NewTunnel {
        NewTunnel {
            client,
            backend,
            early: Sides::default(),
            limits,
            kept: None,
            hooks: None,
            record: Record {
                id: TunnelId::random(),
                generation: 1,
                by_hook: false,
                request_id: "lane".into(),
                addresses: Addresses::new(address.ip(), peer),
                rare: None,
                route: "* /".into(),
                key_source: None,
                key: KeyMark::default(),
                guard: Registry::default().backend("lane", &address.to_string(), address).occupy(),
                admitted: None,
                metrics: Metrics::new().upstream("lane"),
            },
        }
    }

    /// The client's end and the backend's.
    #[allow(dead_code, reason = "not every binary that counts needs them")]
    pub fn into_ends(self) -> (TcpStream, TcpStream) {
        (self.client, self.backend)
    }

    /// Sends a message through the tunnel and its echo back: two messages that the tunnel passes on.
    pub fn exchange(&mut self) {
        self.send();
        self.answer();
        self.hear();
    }

    /// The client sends a message.
    pub fn send(&mut self) {
        self.client.write_all(&MESSAGE).unwrap();
    }

    /// The backend answers it.
    pub fn answer(&mut self) {
        self.backend.read_exact(&mut self.received[..MESSAGE.len()]).unwrap();
        assert_eq!(self.received[..MESSAGE.len()], MESSAGE);
        self.backend.write_all(&ANSWER).unwrap();
    }

    /// The client reads the answer.
    pub fn hear(&mut self) {
        self.client.read_exact(&mut self.received[..ANSWER.len()]).unwrap();
        assert_eq!(self.received[..ANSWER.len()], ANSWER);
    }
}

/// A connection over loopback: the far end, which waits, and the tunnel's, which does not.
pub fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    far.set_nodelay(true).unwrap();
    near.set_nodelay(true).unwrap();
    near.set_nonblocking(true).unwrap();
    (far, near)
}

/// A binary message of 64 bytes, masked with zeros.
pub const MESSAGE: [u8; 70] = {
    let mut frame = [b'm'; 70];
    (frame[0], frame[1]) = (0x82, 0x80 | 64);
    (frame[2], frame[3], frame[4], frame[5]) = (0, 0, 0, 0);
    frame
};

/// The answer: a binary message of 64 bytes, not masked.
pub const ANSWER: [u8; 66] = {
    let mut frame = [b'a'; 66];
    (frame[0], frame[1]) = (0x82, 64);
    frame
};
