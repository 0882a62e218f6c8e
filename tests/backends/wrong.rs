//! Backends that TLS fails with: who is asked in their place, and what logs and metrics say.

use std::fs;

use futures_util::future::join_all;
use rcgen::CertificateParams;
use tokio_tungstenite::connect_async;

use crate::lab::{Front, Lab, NAME, TLS, plain_http, server_config};
use crate::support::certificates::Authority;
use crate::support::{Backend, Echo, Gateway, Named, Wire, within};

/// A backend that is wrong in each way: with the word that logs have for it, and the label of metrics.
async fn wrong_ones(lab: &Lab, inner: std::net::SocketAddr) -> Vec<(Backend, &'static str, &'static str)> {
    let expired = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 2, 3));
    };
    let front = async |issued| Front::start(inner, server_config(&issued, None, rustls::ALL_VERSIONS)).await.backend;
    let closing = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        wire.peek().await;
    });
    vec![
        (front(lab.authority.issue(&["other.internal"])).await, "TlsCertificateName", "certificate_name"),
        (front(Authority::new("Stranger").issue(&[NAME])).await, "TlsCertificateIssuer", "certificate_issuer"),
        (front(lab.authority.issue_with(&[NAME], expired)).await, "TlsCertificateExpired", "certificate_expired"),
        (plain_http().await, "TlsNotSpoken", "not_tls"),
        (closing.await, "TlsClosed", "closed"),
    ]
}

#[tokio::test]
async fn each_way_to_be_wrong_is_a_failed_connect_with_a_word_of_its_own() {
    let lab = Lab::new();
    for (backend, word, label) in wrong_ones(&lab, Backend::refusing()).await {
        let gateway = lab.gateway(&[backend.address], &format!("{TLS}    affinity: [client_ip]\n")).await;
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.status(), 502, "{word}");
        gateway.log.find(&["connect to backend u/", &format!(" failed: {word}: ")]).await;
        gateway.access.find(&["status=502", &format!("error=\"{word}: ")]).await;
        let metric = format!("longhaul_backend_tls_failures_total{{failure=\"{label}\",upstream=\"u\"}}");
        assert_eq!(gateway.metric(&metric).await, 1.0, "{word}");
        assert!(within("an answer", connect_async(format!("ws://{}/", gateway.address()))).await.is_err());
        assert_eq!(gateway.metric(&metric).await, 2.0, "{word}");
        let connects = "longhaul_backend_failures_total{kind=\"connect\",upstream=\"u\"}";
        assert_eq!(gateway.metric(connects).await, 2.0, "{word}");
    }
}

#[tokio::test]
async fn a_backend_that_is_wrong_costs_clients_nothing_where_another_is_right() {
    let (lab, echo) = (Lab::new(), Echo::start().await);
    for (backend, word, _) in wrong_ones(&lab, echo.address()).await {
        let right = lab.front(echo.address()).await;
        let gateway =
            lab.gateway(&[backend.address, right.address()], &format!("{TLS}    affinity: [query: u]\n")).await;
        for user in 0..20 {
            let url = format!("ws://{}/?u={user}", gateway.address());
            within("a tunnel", connect_async(url)).await.unwrap_or_else(|error| panic!("{word}: {error}"));
        }
        gateway.log.find(&["connect to backend u/", word]).await;
    }
}

#[tokio::test]
async fn a_backend_that_says_nothing_is_given_up_when_the_connect_limit_ends() {
    let lab = Lab::new();
    let silent = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        wire.rest().await;
    })
    .await;
    let named = Named::start().await;
    let right = lab.front(named.address()).await;
    let keys = format!("{TLS}    affinity: [query: u]\n    timeouts: {{ connect: 6s }}\n");
    let gateway = lab.gateway(&[silent.address, right.address()], &keys).await;
    // Side by side, for those that meet the silent one take all of that time; the right one answers in it on a busy
    // machine, too.
    let ask = async |user: usize| {
        let mut client = Wire::connect(gateway.address()).await;
        assert_eq!(client.get(&format!("/?u={user}"), "").await.address(), named.address());
    };
    // Ports are drawn, and the ring with them: of eight users all were at the right one in one run of 256.
    join_all((0..40).map(ask)).await;
    gateway.log.find(&["connect to backend u/", "ConnectTimedout"]).await;
}

#[tokio::test]
async fn without_verification_everybody_is_taken_and_it_is_said_aloud() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let stranger = Authority::new("Stranger").issue(&["other.internal"]);
    let front = Front::start(named.address(), server_config(&stranger, None, rustls::ALL_VERSIONS)).await;
    let gateway = lab.gateway(&[front.address()], "    tls: { verify: false }\n").await;
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), named.address());
    gateway.log.find(&["upstream u: certificates of backends are not verified"]).await;
    assert_eq!(gateway.metric("longhaul_upstream_tls_unverified{upstream=\"u\"}").await, 1.0);
}

#[tokio::test]
async fn a_backend_that_wants_a_certificate_gets_it_or_the_connect_fails() {
    let (lab, named) = (Lab::new(), Named::start().await);
    let gateways = Authority::new("Gateways' Authority");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = server_config(&lab.authority.issue(&[NAME]), Some(&gateways), &[version]);
        let front = Front::start(named.address(), config).await;
        let with = "    health: off\n    tls: { server_name: chat.internal, ca: '{dir}/ca.pem', certificate: \
                    '{dir}/gateway.pem', key: '{dir}/gateway.key' }\n";
        let dir = lab.folder(&[front.address()], with);
        gateways.issue(&["gateway"]).write(dir.path(), "gateway");
        let gateway = Gateway::begin(dir, &[], &[]).listening().await;
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), named.address());

        let without = lab.gateway(&[front.address()], TLS).await;
        assert!(within("an answer", connect_async(format!("ws://{}/", without.address()))).await.is_err());
        without.log.find(&["connect to backend u/", "TlsRefused"]).await;
    }
}

#[tokio::test]
async fn files_that_vanished_are_told_at_the_start() {
    let lab = Lab::new();
    let dir = lab.folder(&[Backend::refusing()], TLS);
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let mut gateway = Gateway::begin(dir, &[], &[]);
    assert_eq!(gateway.ended().await, Some(2));
    gateway.log.find(&["upstreams.u.tls.ca", "ca.pem cannot be read"]).await;
}
