//! A whole gateway in this process, and handshakes with it, for counts: client and backend allocate nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;

use longhaul::config::{self, AccessLog, Config};
use longhaul::hook::HookRegistry;
use longhaul::server::{Options, Server};

/// Starts a backend, then a gateway before it with one worker; `dir` is for its control socket.
pub fn serve(dir: &Path, access_log: Option<AccessLog>) -> SocketAddr {
    let backend = backend();
    let config = parse(&format!("backends: [{backend}]\n    affinity: [client_ip]\n    health: off"));
    let config = Config { control_sock: Some(dir.join("control.sock")), access_log, ..config };
    let (ready, addresses) = mpsc::channel();
    let server = Server::new(config, HookRegistry::empty(), Options::default())
        .on_ready(move |gateway| ready.send(gateway.listeners[0]).unwrap());
    std::thread::spawn(move || server.run());
    addresses.recv().unwrap()
}

/// A configuration with one upstream and no logs.
pub fn parse(upstream: &str) -> Config {
    let yaml = format!(
        "version: 1\nthreads: 1\naccess_log: off\nlisteners: [{{ address: 127.0.0.1:0 }}]\n\
         routes: [{{ upstream: u }}]\n\
         upstreams:\n  u:\n    {upstream}\n"
    );
    config::parse(&yaml, &config::NoHooks).unwrap().config
}

/// A backend that takes every upgrade, one after the other, and waits for its end.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            stream.write_all(SWITCHING).unwrap();
            while stream.read(&mut [0; 64]).unwrap() > 0 {}
        }
    });
    address
}

/// Opens a tunnel, sends a message, and ends the tunnel.
pub fn shake(gateway: SocketAddr) {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.write_all(UPGRADE).unwrap();
    read_head(&mut stream);
    stream.write_all(b"\x82\x82\0\0\0\0hi").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    while stream.read(&mut [0; 64]).unwrap() > 0 {}
}

/// Reads the header of a message that has no body, into the stack.
fn read_head(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let mut length = 0;
    while !buffer[..length].ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer[length..]).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&buffer[..length]));
        length += read;
    }
    assert!(!buffer.starts_with(b"HTTP/") || buffer.starts_with(b"HTTP/1.1 101 "));
}

/// RFC 6455 §1.3.
const UPGRADE: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
