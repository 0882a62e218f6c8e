//! Certificates of clients: asked for, verified, logged, forwarded, and a source of affinity.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, yaml};
use crate::support::certificates::{Authority, Issued};
use crate::support::{Named, Wire};

/// A gateway that asks clients for certificates of an authority of their own.
async fn lab(backend: &Named, mode: &str) -> (Lab, Authority) {
    let tls = format!("      client_auth: {{ ca: '{{dir}}/clients.pem', mode: {mode} }}\n");
    let text = yaml(&[backend.address()], &tls, "    affinity: [client_certificate, client_ip]\n");
    let clients = Authority::new("Clients");
    let dir = crate::support::folder(&text);
    let authority = Authority::new("Test Authority");
    authority.issue(&["a.test"]).write(dir.path(), "a");
    std::fs::write(dir.path().join("clients.pem"), &clients.pem).unwrap();
    let gateway = crate::support::Gateway::begin(std::sync::Arc::clone(&dir), &[], &[]).listening().await;
    (Lab { gateway, authority, dir }, clients)
}

fn connect(lab: &Lab, own: Option<&Issued>) -> std::io::Result<Client> {
    let mut client = Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &VERSIONS, own))?;
    // TLS 1.3 tells a client that was refused when it reads.
    std::io::Write::write_all(&mut client.stream, b"GET / HTTP/1.1\r\nHost: a.test\r\nClient-Cert: :AA==:\r\n\r\n")?;
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut client.stream, &mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    Ok(client)
}

/// Waits until one handshake has failed in this way.
async fn failed_once(lab: &Lab, failure: &str) {
    let name = format!("longhaul_tls_handshake_failures_total{{failure=\"{failure}\"}}");
    lab.gateway.metric_becomes(&name, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_certificate_lets_those_in_who_have_one() {
    let backend = Named::start().await;
    let (lab, clients) = lab(&backend, "required").await;
    let alice = clients.issue(&["alice.test"]);
    assert!(connect(&lab, None).is_err());
    failed_once(&lab, "certificate_missing").await;
    assert!(connect(&lab, Some(&Authority::new("Clients").issue(&["mallory.test"]))).is_err());
    failed_once(&lab, "certificate_refused").await;
    connect(&lab, Some(&alice)).unwrap();

    let der = CertificateDer::from_pem_slice(alice.cert.as_bytes()).unwrap();
    let head = backend.last().head;
    assert_eq!(head.all("client-cert"), [format!(":{}:", STANDARD.encode(&der))]);
    let line = lab.gateway.access.find(&["request ", "scheme=https", "tls=TLSv1.3", "certificate="]).await;
    let fingerprint = line.split("certificate=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(fingerprint.len(), 64);
    assert!(line.contains("key_source=client_certificate"), "{line}");
    let located = crate::support::located(&lab.gateway, &["--ip", "127.0.0.1", "--certificate", &fingerprint]);
    assert_eq!(
        (located["key"].as_str(), located["key_source"].as_str()),
        (Some(&*fingerprint), Some("client_certificate"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_certificate_may_be_left_out_and_nobody_makes_one_up() {
    let backend = Named::start().await;
    let (lab, clients) = lab(&backend, "optional").await;
    connect(&lab, None).unwrap();
    assert_eq!(backend.last().head.get("client-cert"), None);
    connect(&lab, Some(&clients.issue(&["alice.test"]))).unwrap();
    assert_eq!(backend.last().head.all("client-cert").len(), 1);
    assert!(connect(&lab, Some(&Authority::new("Clients").issue(&["mallory.test"]))).is_err());
    Wire::connect(lab.gateway.addresses[1]).await.get("/", "Client-Cert: :AA==:\r\n").await;
    assert_eq!(backend.last().head.get("client-cert"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_resumed_knows_its_client() {
    let backend = Named::start().await;
    let (lab, clients) = lab(&backend, "required").await;
    let alice = clients.issue(&["alice.test"]);
    for version in VERSIONS {
        let config = config(&lab.authority.pem, &[version], Some(&alice));
        for _ in 0..2 {
            let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
            client.get("/", "");
            assert_eq!(backend.last().head.all("client-cert").len(), 1, "{version:?}");
        }
        let name = if version == VERSIONS[0] { "TLSv1.2" } else { "TLSv1.3" };
        let resumed = format!("longhaul_tls_handshakes_total{{kind=\"resumed\",protocol=\"{name}\"}}");
        lab.gateway.metric_becomes(&resumed, 1.0).await;
    }
}
