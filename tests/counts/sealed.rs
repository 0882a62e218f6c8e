//! A tunnel that speaks TLS on both sides, and its far ends, which allocate nothing either.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use longhaul::config::TunnelLimits;
use longhaul::tls::secrets::Capturing;
use longhaul::tls::{LEAST_BUFFER, RawConnection, Sealed, Session, Stream, StreamKind, provider};
use longhaul::tunnel::{Socket, Tunnels};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::certificates::Authority;
use crate::lane::{ANSWER, Lane, MESSAGE, connected};

/// A blocking socket below a stream.
struct Wire(TcpStream);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RawConnection for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

/// One open tunnel, seen from outside.
pub struct SealedLane {
    client: Stream<Wire>,
    backend: Stream<Wire>,
    received: Vec<u8>,
}

impl SealedLane {
    /// Opens a tunnel over loopback sockets, with TLS of this version on both sides.
    pub fn open(tunnels: &Tunnels, version: &'static SupportedProtocolVersion) -> Self {
        let (client, towards_client) = connected();
        let (backend, towards_backend) = connected();
        let (near, far) = sessions(version);
        let (client_address, address) = (client.local_addr().unwrap(), backend.local_addr().unwrap());
        let client = Stream::new(Wire(client), far, Vec::new());
        let towards_client = Socket::from(towards_client).with_tls(Sealed::new(near));
        let (far, near) = sessions(version);
        let backend = Stream::new(Wire(backend), far, Vec::new());
        let towards_backend = Socket::from(towards_backend).with_tls(Sealed::new(near));
        assert_eq!((client.kind(), backend.kind()), (StreamKind::Record, StreamKind::Record));
        let new =
            Lane::new_tunnel([towards_client, towards_backend], [client_address, address], TunnelLimits::default());
        tunnels.open(new);
        Self { client, backend, received: vec![0; LEAST_BUFFER] }
    }

    /// Sends a message through the tunnel and its echo back.
    pub fn exchange(&mut self) {
        pass(&mut self.client, &MESSAGE, &mut self.backend, &mut self.received);
        pass(&mut self.backend, &ANSWER, &mut self.client, &mut self.received);
    }
}

/// Writes a message to one end, and reads it from the other.
fn pass(from: &mut Stream<Wire>, message: &[u8], to: &mut Stream<Wire>, received: &mut [u8]) {
    assert_eq!(from.write(message).unwrap(), message.len());
    loop {
        match to.read(received) {
            Ok((count, _)) => return assert_eq!(received[..count], *message),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
    }
}

/// A server's session and a client's, with each other, whose handshake is done.
fn sessions(version: &'static SupportedProtocolVersion) -> (Session, Session) {
    let authority = Authority::new("Test Authority");
    let issued = authority.issue(&["a.test"]);
    let certificate = CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let mut server = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    server.capture_secrets();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.capture_secrets();
    let mut server = Session::server(Arc::new(server)).unwrap();
    let mut client = Session::client(Arc::new(client), ServerName::try_from("a.test").unwrap()).unwrap();
    let (mut bytes, mut plain) = (Vec::new(), Vec::new());
    while server.is_handshaking() || client.is_handshaking() || server.wants_write() {
        client.flush(&mut bytes);
        server.read_tls(&std::mem::take(&mut bytes), &mut plain).unwrap();
        server.flush(&mut bytes);
        client.read_tls(&std::mem::take(&mut bytes), &mut plain).unwrap();
    }
    (server, client)
}
