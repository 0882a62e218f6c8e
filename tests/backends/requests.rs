//! Plain requests to backends that speak TLS.

use rustls::version::{TLS12, TLS13};

use crate::lab::{Front, Lab, NAME, TLS, server_config};
use crate::support::{Backend, Named, Wire};

#[tokio::test]
async fn requests_are_answered_on_one_connection_that_is_kept() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let front = lab.front(named.address()).await;
    let gateway = lab.gateway(&[front.address()], TLS).await;
    let mut client = Wire::connect(gateway.address()).await;
    for number in 0..20 {
        let body = "x".repeat(number * 5_000);
        let length = body.len();
        client.send(format!("POST /{number} HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n{body}")).await;
        assert_eq!(client.answer().await.address(), named.address());
        assert_eq!(named.last().body.len(), length);
    }
    assert_eq!(front.backend.accepted(), 1);
    assert_eq!(*front.asked.lock().unwrap(), [Some(NAME.to_owned())]);
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let (lab, named) = (Lab::new(), Named::start().await);
    for version in [&TLS12, &TLS13] {
        let config = server_config(&lab.authority.issue(&[NAME]), None, &[version]);
        let front = Front::start(named.address(), config).await;
        let gateway = lab.gateway(&[front.address()], TLS).await;
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), named.address());
    }
}

#[tokio::test]
async fn without_a_name_a_certificate_has_to_be_for_the_address() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let config = server_config(&lab.authority.issue(&["127.0.0.1"]), None, rustls::ALL_VERSIONS);
    let front = Front::start(named.address(), config).await;
    let gateway = lab.gateway(&[front.address()], "    tls: { ca: '{dir}/ca.pem' }\n").await;
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), named.address());
    assert_eq!(*front.asked.lock().unwrap(), [None]);
}

#[tokio::test]
async fn the_systems_authorities_are_trusted_where_no_other_is_named() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let front = lab.front(named.address()).await;
    let dir = lab.folder(&[front.address()], "    health: off\n    tls: { server_name: chat.internal }\n");
    let system = dir.path().join("ca.pem");
    let environment = [("SSL_CERT_FILE", system.to_str().unwrap())];
    let gateway = crate::support::Gateway::begin(dir.clone(), &[], &environment).listening().await;
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), named.address());
}

#[tokio::test]
async fn a_long_answer_without_a_length_comes_whole() {
    let lab = Lab::new();
    let inner = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        for _ in 0..64 {
            wire.send([b'x'; 32 * 1024]).await;
        }
    })
    .await;
    let front = lab.front(inner.address).await;
    let gateway = lab.gateway(&[front.address()], TLS).await;
    let answer = Wire::connect(gateway.address()).await.get("/", "").await;
    assert_eq!((answer.status(), answer.body.len()), (200, 64 * 32 * 1024));
}

#[tokio::test]
async fn a_backend_that_ends_a_kept_connection_is_connected_to_again() {
    let lab = Lab::new();
    let inner = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let front = lab.front(inner.address).await;
    let gateway = lab.gateway(&[front.address()], TLS).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/", "").await.text(), "ok");
    }
}
