//! A gateway whose routes have hooks that do as messages say, and tunnels of which the test holds both ends.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder};

use crate::support::Gateway;
use crate::wire::{self, Frame, From, Manual, Wire, configuration, switching, upgrade};

pub(crate) struct Talk {
    pub gateway: Gateway,
    pub backend: Manual,
}

impl Talk {
    /// Routes `/sync` and `/async` with a hook each, `/both` with one of each kind, `/strip` which takes compression
    /// out of the offer, `/plain` without a hook. One worker.
    pub(crate) async fn start() -> Self {
        Self::start_with("x", "").await
    }

    /// As [`start`](Self::start); the hooks are labelled, and `upstream` are further lines of the upstream's.
    pub(crate) async fn start_with(label: &str, upstream: &str) -> Self {
        let backend = Manual::start().await;
        let gateway = Gateway::start_hooked(&yaml(&backend, label, upstream)).await;
        Self { gateway, backend }
    }

    /// An open tunnel, with further header lines of the client's: the client's end and the backend's.
    pub(crate) async fn open(&mut self, path: &str, headers: &str) -> (Wire, Wire) {
        self.open_agreed(path, headers, "").await
    }

    /// As [`open`](Self::open); `agreed` are further header lines of the backend's.
    pub(crate) async fn open_agreed(&mut self, path: &str, headers: &str, agreed: &str) -> (Wire, Wire) {
        let mut client = Wire::connect(self.gateway.address()).await;
        client.send(upgrade(headers).replace("GET / ", &format!("GET {path} "))).await;
        let mut server = self.backend.next().await;
        server.head().await;
        server.send(switching(agreed)).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, server)
    }

    /// An open tunnel in which messages may be compressed.
    pub(crate) async fn open_compressed(&mut self, path: &str) -> (Wire, Wire) {
        let agreed = format!("Sec-WebSocket-Extensions: {AGREED}\r\n");
        self.open_agreed(path, "Sec-WebSocket-Extensions: permessage-deflate\r\n", &agreed).await
    }

    /// Lets one waiting call go on to its end.
    pub(crate) async fn release(&mut self, path: &str) {
        let (mut client, _server) = self.open(path, "").await;
        client.send(wire::text(From::Client, "release")).await;
        // The answer to the next message shows that the hook has handled the one before.
        client.send(wire::text(From::Client, "who")).await;
        client.frame().await;
    }
}

/// The configuration of [`Talk`].
pub(crate) fn yaml(backend: &Manual, label: &str, upstream: &str) -> String {
    let hook = |label: &str, more| format!("{{ hook: talking, with: {{ label: {label}{more} }}, timeout: 60s }}");
    let (first, last) = (hook(label, ""), hook(label, ", awaited: true"));
    let routes = [
        ("/sync", format!("[{first}]")),
        ("/async", format!("[{last}]")),
        ("/both", format!("[{}, {}]", hook("one", ""), hook("two", ", awaited: true"))),
        ("/strip", format!("[{last}], compression: strip")),
        ("/up", format!("[{}]", hook(label, ", awaited: true, sees: to_backend"))),
        ("/down", format!("[{}]", hook(label, ", sees: to_client"))),
        ("/unseen", format!("[{}]", hook(label, ", sees: none"))),
        ("/brief", format!("[{}]", last.replace("60s", "200ms"))),
    ];
    let routes = routes.map(|(path, hooks)| format!("  - {{ path: {path}, upstream: u, hooks: {hooks} }}\n")).concat();
    let plain = "  - { path: /plain, upstream: u }\n";
    configuration(&[backend.address()], &format!("    affinity: [header: x-key]\n{upstream}"))
        .replace("threads: 2", "threads: 1")
        .replace("  - upstream: u\n", &(routes + plain))
}

/// The two ends of a tunnel, addressed by their role.
pub(crate) struct Ends(pub Wire, pub Wire);

impl Ends {
    pub(crate) fn of(&mut self, who: From) -> &mut Wire {
        match who {
            From::Client => &mut self.0,
            From::Backend => &mut self.1,
        }
    }

    pub(crate) async fn send(&mut self, from: From, bytes: impl AsRef<[u8]>) {
        self.of(from).send(bytes).await;
    }

    /// Sends a message from one side.
    pub(crate) async fn say(&mut self, from: From, text: &str) {
        self.send(from, wire::text(from, text)).await;
    }

    /// Asserts that the next frame that comes to `to` is this one.
    pub(crate) async fn expect(&mut self, to: From, first: u8, payload: impl AsRef<[u8]>) {
        assert_eq!(self.of(to).frame().await, frame_to(to, first, payload.as_ref()));
    }

    /// Asserts that both sides are sent this Close frame next, and then nothing more, once they have answered it.
    pub(crate) async fn expect_close(&mut self, code: u16, reason: &str) {
        for who in BOTH {
            self.expect(who, 0x88, [&code.to_be_bytes(), reason.as_bytes()].concat()).await;
        }
        for who in BOTH {
            self.send(who, wire::close(who, code)).await;
            self.of(who).finish().await;
        }
        for who in BOTH {
            assert_eq!(self.of(who).rest().await, b"", "to the {who:?}");
        }
    }
}

/// The other side.
pub(crate) fn other(who: From) -> From {
    match who {
        From::Client => From::Backend,
        From::Backend => From::Client,
    }
}

/// A frame as it comes to a side.
pub(crate) fn frame_to(to: From, first: u8, payload: &[u8]) -> Frame {
    Frame { first, masked: to == From::Backend, payload: payload.to_vec() }
}

/// Compresses a message as permessage-deflate does (RFC 7692 §7.2.1; §7.2.3.6 for an empty one).
pub(crate) fn deflated(payload: &[u8]) -> Vec<u8> {
    if payload.is_empty() {
        return vec![0];
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(payload).unwrap();
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    assert!(bytes.ends_with(&TAIL));
    bytes.truncate(bytes.len() - TAIL.len());
    bytes
}

/// Inflates a message.
pub(crate) fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut decoder = DeflateDecoder::new(Vec::new());
    decoder.write_all(payload).unwrap();
    decoder.write_all(&TAIL).unwrap();
    decoder.flush().unwrap();
    decoder.get_ref().clone()
}

pub(crate) const BOTH: [From; 2] = [From::Client, From::Backend];
/// Last bytes of a sync flush, which permessage-deflate leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
