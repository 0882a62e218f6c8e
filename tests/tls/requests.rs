//! Requests by https: kept connections, both versions, names, resumption, and the word that backends get of it.

use rustls::HandshakeKind;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, yaml};
use crate::support::{Named, Wire};

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_over_one_connection_in_both_versions() {
    let backend = Named::start().await;
    let lab = Lab::start(&[backend.address()]).await;
    for version in VERSIONS {
        let mut client =
            Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &[version], None)).unwrap();
        for target in ["/one", "/two?x"] {
            let (head, body) = client.get(target, "X-Forwarded-Proto: http\r\n");
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(body, backend.address().to_string());
            let asked = backend.last().head;
            assert_eq!((asked.target(), asked.get("x-forwarded-proto").unwrap().as_str()), (target, "https"));
        }
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let name = format!("longhaul_tls_handshakes_total{{kind=\"full\",protocol=\"{version}\"}}");
        lab.gateway.metric_becomes(&name, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_comes_whole_in_both_directions() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let backend = crate::support::Backend::start(move |stream| {
        let expected = sent.clone();
        async move {
            let mut wire = Wire::new(stream);
            let request = wire.request().await.unwrap();
            assert!(request.body == expected);
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", expected.len())).await;
            wire.send(&expected).await;
        }
    })
    .await;
    let lab = Lab::start(&[backend.address]).await;
    let config = config(&lab.authority.pem, &VERSIONS, None);
    let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    assert!(client.exactly(body.len()) == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_chosen_by_name_exact_then_wildcard_then_the_first() {
    let backend = Named::start().await;
    let text = yaml(&[backend.address()], "", "").replace(
        "[{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]",
        "[{ cert: '{dir}/a.pem', key: '{dir}/a.key' }, { cert: '{dir}/b.pem', key: '{dir}/b.key' }]",
    );
    let dir = crate::support::folder(&text);
    let authority = crate::support::certificates::Authority::new("Test Authority");
    authority.issue(&["a.test", "*.wild.test"]).write(dir.path(), "a");
    authority.issue(&["b.test", "exact.wild.test"]).write(dir.path(), "b");
    let gateway = crate::support::Gateway::begin(dir, &[], &[]).listening().await;
    let config = config(&authority.pem, &VERSIONS, None);
    for name in ["a.test", "b.test", "x.wild.test", "exact.wild.test"] {
        Client::connect(gateway.address(), name, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let error = Client::connect(gateway.address(), "c.test", &config).err().unwrap().to_string();
    assert!(error.contains("\"a.test\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_resumes_its_session_in_both_versions() {
    let backend = Named::start().await;
    let lab = Lab::start(&[backend.address()]).await;
    for version in VERSIONS {
        let config = config(&lab.authority.pem, &[version], None);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
            client.get("/", "");
            assert_eq!(client.stream.conn.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_on_another_listener_are_as_before() {
    let backend = Named::start().await;
    let lab = Lab::start(&[backend.address()]).await;
    let mut wire = Wire::connect(lab.gateway.addresses[1]).await;
    assert_eq!(wire.get("/", "").await.status(), 200);
    assert_eq!(backend.last().head.get("x-forwarded-proto").unwrap(), "http");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_cookie_is_secure_for_clients_that_came_by_tls_and_for_no_others() {
    let backend = Named::start().await;
    let lab = Lab::start_with(&[backend.address()], "", "    affinity: [issue_cookie]\n").await;
    let mut client = Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &VERSIONS, None)).unwrap();
    let (head, _) = client.get("/", "");
    assert!(head.to_lowercase().contains("; secure"), "{head}");
    let plain = Wire::connect(lab.gateway.addresses[1]).await.get("/", "").await.head;
    assert!(!plain.get("set-cookie").unwrap().to_lowercase().contains("secure"), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_are_sent_to_https_and_others_are_told_to_stay_there() {
    let backend = Named::start().await;
    let text = yaml(&[backend.address()], "", "")
        .replace("  - address: 127.0.0.1:0\nmetrics", "  - address: 127.0.0.1:0\n    redirect: https:8443\nmetrics")
        .replace("    tls:\n", "    hsts: { max_age: 1d, include_subdomains: true }\n    tls:\n")
        .replace("version: 1\n", "version: 1\ntrusted_proxies: [127.0.0.3]\n");
    let lab = Lab::start_yaml(&text).await;
    let mut plain = Wire::connect(lab.gateway.addresses[1]).await;
    let answer = plain.get("/a/b?c=%20d", "").await.head;
    assert_eq!((answer.status(), answer.get("location").unwrap().as_str()), (308, "https://lab:8443/a/b?c=%20d"));
    assert_eq!(answer.get("strict-transport-security"), None);
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(Wire::connect(lab.gateway.addresses[1]).await.get("/ws", upgrade).await.status(), 308);
    assert!(backend.requests().is_empty());

    let mut client = Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &VERSIONS, None)).unwrap();
    let (head, _) = client.get("/", "");
    assert!(
        head.to_lowercase().contains("\r\nstrict-transport-security: max-age=86400; includesubdomains\r\n"),
        "{head}"
    );

    // A proxy that ended TLS must not be sent around in a circle.
    let mut proxy = Wire::connect_from([127, 0, 0, 3].into(), lab.gateway.addresses[1]).await;
    assert_eq!(proxy.get("/", "X-Forwarded-Proto: https\r\n").await.status(), 200);
    assert_eq!(proxy.get("/", "X-Forwarded-Proto: http\r\n").await.status(), 308);
}
