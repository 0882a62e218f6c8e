//! A tunnel whose session no record layer can take the place of: rustls goes on sealing it. No configuration of the
//! gateway comes to that, so the session is made here, by a configuration that gives no secrets away.

use std::io::{Read, Write};
use std::sync::Arc;

use longhaul::access_log::AccessLog;
use longhaul::config::TunnelLimits;
use longhaul::metrics::Metrics;
use longhaul::tls::{Sealed, Session, provider};
use longhaul::tunnel::{Socket, Tunnels};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion};

use crate::lane::{ANSWER, Lane, MESSAGE, connected};
use crate::support::certificates::Authority;
use crate::support::within;

#[tokio::test]
async fn a_session_that_gives_no_secrets_away_carries_a_tunnel_and_is_counted() {
    for version in [&TLS12, &TLS13] {
        let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
        let metrics = Metrics::new();
        let (client, towards_client) = connected();
        let (mut backend, towards_backend) = connected();
        let addresses = [client.local_addr().unwrap(), backend.local_addr().unwrap()];
        let (session, far) = sessions(version);
        let mut client = StreamOwned::new(far, client);
        let towards_client = Socket::from(towards_client).with_tls(Sealed::new(session));
        let mut tunnel = Lane::new_tunnel([towards_client, towards_backend.into()], addresses, TunnelLimits::default());
        tunnel.record.metrics = metrics.upstream("u");
        tunnels.open(tunnel);

        let mut received = [0; MESSAGE.len()];
        for _ in 0..3 {
            client.write_all(&MESSAGE).unwrap();
            backend.read_exact(&mut received).unwrap();
            assert_eq!(received, MESSAGE);
            backend.write_all(&ANSWER).unwrap();
            client.read_exact(&mut received[..ANSWER.len()]).unwrap();
            assert_eq!(received[..ANSWER.len()], ANSWER);
        }
        let shown = String::from_utf8(metrics.render(std::iter::empty())).unwrap();
        assert!(shown.contains("\nlonghaul_tunnels_open{tls=\"rustls\"} 1\n"), "{shown}");
        assert_eq!(metrics.tunnels_open(), [0, 0, 1]);

        drop((client, backend));
        within("the end of the tunnel", async {
            while metrics.tunnels_open() != [0; 3] {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A server's session and a client's, with each other, whose handshake is done.
fn sessions(version: &'static SupportedProtocolVersion) -> (Session, ClientConnection) {
    let authority = Authority::new("Test Authority");
    let issued = authority.issue(&["a.test"]);
    let certificate = CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let server = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let client = builder.with_root_certificates(roots).with_no_client_auth();
    let mut server = Session::server(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("a.test").unwrap()).unwrap();
    let (mut bytes, mut plain) = (Vec::new(), Vec::new());
    while server.is_handshaking() || client.is_handshaking() || server.wants_write() || client.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&std::mem::take(&mut bytes), &mut plain).unwrap();
        server.flush(&mut bytes);
        let mut came = &bytes[..];
        while !came.is_empty() {
            client.read_tls(&mut came).unwrap();
            client.process_new_packets().unwrap();
        }
        bytes.clear();
    }
    (server, client)
}
