//! Everything else holds: reloads, listings, limits, TLS on both legs, a handover.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::rig::{Rig, configuration, configuration_of, drain, goodbye};
use crate::support::certificates::{Authority, Issued};
use crate::support::{Backend, Gateway, folder, within};
use crate::wire::{Frame, From, close, frame, switching, text, upgrade};

/// Writes the gateway's file anew and has it read.
async fn reload(rig: &Rig, yaml: &str) {
    let folder = rig.gateway.dir.path();
    fs::write(folder.join("longhaul.yaml"), yaml.replace("{dir}", folder.to_str().unwrap())).unwrap();
    rig.gateway.signal("HUP");
    rig.gateway.log.find(&["reloaded: generation"]).await;
}

#[tokio::test]
async fn a_reload_that_takes_a_tunnels_backend_away_has_it_go_on_with_another() {
    for left in ["weight 0", "removed"] {
        let mut rig = Rig::start("{}", "    drain_window: 0s\n").await;
        let mut ends = rig.open("").await;
        ends.both_ways("before").await;
        let [one, other] = [rig.backends[ends.at].address(), rig.backends[1 - ends.at].address()];
        let before = configuration(&rig.backends, "{}", "    drain_window: 0s\n");
        let list = if left == "removed" {
            format!("[{other}]")
        } else {
            format!("[{{ address: {one}, weight: 0 }}, {other}]")
        };
        let [first, second] = rig.backends.each_ref().map(|backend| backend.address());
        reload(&rig, &before.replace(&format!("[{first}, {second}]"), &list)).await;
        assert_eq!(ends.server.frame().await, Frame::close_to_backend(1012, "config_changed"), "{left}");
        ends.server.send(close(From::Backend, 1012)).await;
        drop(rig.taken_over(&mut ends).await);
        ends.both_ways("after").await;
        rig.becomes("leaving", "attached", 1.0).await;
    }
}

#[tokio::test]
async fn a_tunnel_whose_route_is_gone_is_closed() {
    let mut rig = Rig::start("{}", "    drain_window: 0s\n").await;
    let mut ends = rig.open("").await;
    let yaml = configuration(&rig.backends, "{}", "    drain_window: 0s\n");
    reload(&rig, &yaml.replace("- { upstream: u,", "- { path: /elsewhere, upstream: u,")).await;
    assert_eq!(ends.server.frame().await, Frame::close_to_backend(1012, "config_changed"));
    ends.server.send(close(From::Backend, 1012)).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
    rig.becomes("leaving", "route_gone", 1.0).await;
}

#[tokio::test]
async fn counts_of_backends_follow_the_tunnel_and_the_listing_shows_it() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    let tunnels = |at: usize, rig: &Rig| {
        format!("longhaul_backend_tunnels{{backend=\"{}\",upstream=\"u\"}}", rig.backends[at].address())
    };
    let from = ends.at;
    rig.gateway.metric_becomes(&tunnels(from, &rig), 1.0).await;
    rig.drain(from).await;
    assert_eq!(ends.server.frame().await, goodbye());
    rig.parts().await;
    ends.server.send(close(From::Backend, 1012)).await;
    drop(rig.taken_over(&mut ends).await);
    ends.both_ways("on").await;
    rig.gateway.metric_becomes(&tunnels(from, &rig), 0.0).await;
    rig.gateway.metric_becomes(&tunnels(ends.at, &rig), 1.0).await;
    let shown = rig.listed().await;
    assert_eq!((&shown["reattached"], &shown["held"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(shown["backend"], rig.backends[ends.at].address().to_string());
}

#[tokio::test]
async fn hooks_that_see_messages_see_one_tunnel() {
    let mut rig = Rig::start_hooked("{}, hooks: [seeing]").await;
    let mut ends = rig.open("").await;
    ends.both_ways("before").await;
    rig.leave(&mut ends).await;
    ends.both_ways("after a leave").await;
    // Half a message that hooks have not seen can be dropped: the client has none of it.
    ends.server.send(&frame(From::Backend, 0x01, b"half")[..4]).await;
    ends.lose(&rig, drop).await;
    drop(rig.taken_over(&mut ends).await);
    ends.both_ways("after a crash").await;
    rig.becomes("crash", "attached", 1.0).await;
}

#[tokio::test]
async fn a_drain_of_the_process_closes_clients_that_are_held() {
    let mut rig = Rig::start("{}", "drain: { grace: 0s, window: 0s, code: 1013 }\n").await;
    let mut ends = rig.open("").await;
    rig.drain(0).await;
    rig.drain(1).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.server.send(close(From::Backend, 1012)).await;
    rig.gateway.signal("TERM");
    let last = ends.client.frame().await;
    assert_eq!((last.first, &last.payload[..2]), (0x88, &1013_u16.to_be_bytes()[..]));
    rig.gateway.access.find(&["tunnel_reattach", "outcome=ended"]).await;
}

#[tokio::test]
async fn a_tunnel_that_moves_to_another_process_is_re_attached_there() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    let session = ends.field("longhaul-session").unwrap().to_owned();
    rig.leave(&mut ends).await;
    // The beginning of a message that the backend has, and whose end comes to the successor.
    let message = text(From::Client, "in two processes");
    ends.client.send(&message[..9]).await;
    ends.server.exactly(9).await;
    let successor = rig.gateway.successor().await;
    let mut before = std::mem::replace(&mut rig.gateway, successor);
    assert_eq!(before.ended().await, Some(0));
    ends.lose(&rig, drop).await;
    drop(rig.taken_over(&mut ends).await);
    assert_eq!(ends.field("longhaul-session"), Some(&*session));
    assert_eq!(ends.field("longhaul-reattach"), Some("2; reason=crash"));
    ends.client.send(&message[9..]).await;
    assert_eq!(ends.server.frame().await.payload, b"in two processes");
    ends.both_ways("on").await;
    rig.becomes("crash", "attached", 1.0).await;
}

#[tokio::test]
async fn a_held_tunnel_finds_its_backend_before_it_moves_to_another_process() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    let from = ends.at;
    rig.drain(from).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.client.send(text(From::Client, "held")).await;
    let successor = rig.gateway.successor().await;
    ends.server.send(close(From::Backend, 1012)).await;
    drop(rig.taken_over(&mut ends).await);
    assert_eq!(ends.server.frame().await.payload, b"held");
    let mut before = std::mem::replace(&mut rig.gateway, successor);
    assert_eq!(before.ended().await, Some(0));
    ends.both_ways("on").await;
    rig.gateway.metric_becomes("longhaul_tunnels_adopted_total{upstream=\"u\"}", 1.0).await;
}

/// A WebSocket echo behind TLS, which answers a Close frame.
async fn sealed_echo(issued: &Issued) -> Backend {
    let certificate = CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(longhaul::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Backend::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let address = stream.local_addr().unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            let first = text(From::Backend, &address.to_string());
            let answer = [switching("").as_bytes(), &first].concat();
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            loop {
                let Ok([first, second, ..]) = read::<6>(&mut stream).await else { return };
                let mut payload = vec![0; usize::from(second & 127)];
                if stream.read_exact(&mut payload).await.is_err() {
                    return;
                }
                let frame = if first == 0x88 { close(From::Backend, 1012) } else { text(From::Backend, "heard") };
                if stream.write_all(&frame).await.is_err() || first == 0x88 {
                    return;
                }
            }
        }
    })
    .await
}

async fn read<const N: usize>(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The payload of the next short frame of a backend's.
async fn hear(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    within("a frame", async {
        let [_, length] = read(stream).await.unwrap();
        let mut payload = vec![0; length.into()];
        stream.read_exact(&mut payload).await.unwrap();
        String::from_utf8(payload).unwrap()
    })
    .await
}

#[tokio::test]
async fn both_legs_may_speak_tls() {
    let authority = Authority::new("Authority");
    let backends = [
        sealed_echo(&authority.issue(&["chat.internal"])).await,
        sealed_echo(&authority.issue(&["chat.internal"])).await,
    ];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let upstream = "    tls: { server_name: chat.internal, ca: '{dir}/ca.pem' }\n";
    let yaml = configuration_of(addresses, "{}", upstream).replace(
        "  - address: 127.0.0.1:0\nmetrics",
        "  - address: 127.0.0.1:0\n    tls: { certificates: [{ cert: '{dir}/a.pem', key: '{dir}/a.key' }] }\nmetrics",
    );
    let dir = folder(&yaml);
    authority.issue(&["a.test"]).write(dir.path(), "a");
    fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    let gateway = Gateway::begin(Arc::clone(&dir), &[], &[]).listening().await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(longhaul::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut client = connector.connect("a.test".try_into().unwrap(), stream).await.unwrap();
    client.write_all(upgrade("").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the 101", client.read_u8()).await.unwrap());
    }
    let mut at = hear(&mut client).await;
    for number in 0..3 {
        client.write_all(&text(From::Client, "hello")).await.unwrap();
        assert_eq!(hear(&mut client).await, "heard");
        drain(&gateway, at.parse().unwrap(), &["--over", "0s", "--no-wait"]).await;
        gateway.access.find_nth(&["tunnel_reattach", "outcome=attached"], number).await;
        let next = hear(&mut client).await;
        assert_ne!(next, at);
        drain(&gateway, at.parse().unwrap(), &["--undo"]).await;
        at = next;
    }
    client.write_all(&text(From::Client, "on")).await.unwrap();
    assert_eq!(hear(&mut client).await, "heard");
}
