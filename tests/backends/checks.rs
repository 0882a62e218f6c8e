//! Health checks of backends that speak TLS.

use crate::lab::{Front, Lab, NAME, TLS, plain_http, server_config};
use crate::support::certificates::Authority;
use crate::support::{Backend, Echo, Gateway, Named};

const CHECKS: [&str; 3] = ["tcp", "http", "websocket"];

#[tokio::test]
async fn checks_of_every_kind_go_the_way_of_requests() {
    let (lab, named, echo) = (Lab::new(), Named::start().await, Echo::start().await);
    for check in CHECKS {
        let inner = if check == "websocket" { echo.address() } else { named.address() };
        let front = lab.front(inner).await;
        let stranger = Authority::new("Stranger").issue(&[NAME]);
        let wrong = Front::start(inner, server_config(&stranger, None, rustls::ALL_VERSIONS)).await;
        let health = format!("    health: {{ check: {check}, interval: 30s, timeout: 30s }}\n");
        let dir = lab.folder(&[front.address(), wrong.address()], &format!("{TLS}{health}"));
        let gateway = Gateway::begin(dir, &[], &[]).listening().await;
        let wrong = wrong.address();
        gateway.log.find(&[&format!("backend u/{wrong} is down: check failed: TlsCertificateIssuer: ")]).await;
        let up = |address| format!("longhaul_backend_up{{backend=\"{address}\",upstream=\"u\"}}");
        gateway.metric_becomes(&up(front.address()), 1.0).await;
        assert_eq!(gateway.metric(&up(wrong)).await, 0.0, "{check}");
        let failures = "longhaul_backend_tls_failures_total{failure=\"certificate_issuer\",upstream=\"u\"}";
        assert!(gateway.metric(failures).await >= 1.0, "{check}");
    }
}

#[tokio::test]
async fn a_plain_backend_fails_the_check_by_tls() {
    let lab = Lab::new();
    let plain = plain_http().await;
    let keys = format!("{TLS}    health: {{ interval: 30s, timeout: 30s }}\n");
    let dir = lab.folder(&[plain.address, Backend::refusing()], &keys);
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    gateway.log.find(&[&format!("backend u/{} is down: check failed: TlsNotSpoken: ", plain.address)]).await;
}
