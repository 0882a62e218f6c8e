//! Files that change under a running gateway: renewed without a reload, and without an open tunnel noticing.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::client::{Client, VERSIONS, config};
use crate::lab::Lab;
use crate::support::{Echo, Named};

/// The certificate that the gateway has now.
fn shown(lab: &Lab) -> CertificateDer<'static> {
    let config = config(&lab.authority.pem, &VERSIONS, None);
    let client = Client::connect(lab.address(), "a.test", &config).unwrap();
    client.stream.conn.peer_certificates().unwrap()[0].clone()
}

/// Puts a file in place in one step: nobody reads it half-written.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_and_open_tunnels_go_on() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    let mut tunnels: Vec<Client> = VERSIONS
        .iter()
        .map(|version| {
            let config = config(&lab.authority.pem, &[*version], None);
            let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
            assert!(client.upgrade("/").starts_with("HTTP/1.1 101 "));
            client.hear();
            client
        })
        .collect();
    for renewal in 1..=3 {
        let before = shown(&lab);
        lab.authority.issue(&["a.test", "127.0.0.1"]).write(lab.dir.path(), "a");
        let done = "longhaul_tls_file_reloads_total{outcome=\"done\"}";
        lab.gateway.metric_becomes(done, f64::from(renewal)).await;
        assert_ne!(shown(&lab), before);
        for client in &mut tunnels {
            client.say("still here");
            assert_eq!(client.hear(), "still here");
        }
    }
    lab.gateway.log.find(&["a.pem has changed and is in force for new connections"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_leaves_the_one_before_in_force_and_is_said_loudly() {
    let lab = Lab::start(&[Named::start().await.address()]).await;
    let before = shown(&lab);
    let failed = "longhaul_tls_file_reloads_total{outcome=\"failed\"}";
    replace(&lab.file("a.pem"), "half of a cert");
    lab.gateway.metric_becomes(failed, 1.0).await;
    lab.gateway.log.find(&["ERROR", "what was read before stays in force", "a.pem is not a PEM file"]).await;
    assert_eq!(shown(&lab), before);
    fs::remove_file(lab.file("a.pem")).unwrap();
    lab.gateway.metric_becomes(failed, 2.0).await;
    assert_eq!(shown(&lab), before);
    // A chain of which a part would be lost.
    let joined = format!("{}{}", lab.authority.issue(&["a.test"]).cert.trim_end(), lab.authority.pem);
    replace(&lab.file("a.pem"), &joined);
    lab.gateway.metric_becomes(failed, 3.0).await;
    lab.gateway.log.find(&["ERROR", "stays in force", "something stands before `-----BEGIN`"]).await;
    assert_eq!(shown(&lab), before);
    // A certificate whose key comes later.
    let new = lab.authority.issue(&["a.test"]);
    replace(&lab.file("a.pem"), &new.cert);
    lab.gateway.metric_becomes(failed, 4.0).await;
    assert_eq!(shown(&lab), before);
    replace(&lab.file("a.key"), &new.key);
    lab.gateway.metric_becomes("longhaul_tls_file_reloads_total{outcome=\"done\"}", 1.0).await;
    assert_ne!(shown(&lab), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_certificates_and_settings_of_a_listener_in_place() {
    let backend = Named::start().await;
    let lab = Lab::start(&[backend.address()]).await;
    lab.authority.issue(&["b.test"]).write(lab.dir.path(), "b");
    let path = lab.file("longhaul.yaml");
    let text = fs::read_to_string(&path).unwrap().replace("a.pem", "b.pem").replace("a.key", "b.key");
    fs::write(&path, text.replace("      certificates:", "      min_version: \"1.3\"\n      certificates:")).unwrap();
    lab.gateway.signal("HUP");
    lab.gateway.metric_becomes("longhaul_config_generation", 2.0).await;
    let (old, new) = (config(&lab.authority.pem, &VERSIONS[..1], None), config(&lab.authority.pem, &VERSIONS, None));
    assert!(Client::connect(lab.address(), "b.test", &new).is_ok());
    assert!(Client::connect(lab.address(), "a.test", &new).is_err());
    assert!(Client::connect(lab.address(), "b.test", &old).is_err());
    // A reload with a wrong file changes nothing.
    fs::write(lab.file("b.pem"), "nothing").unwrap();
    lab.gateway.signal("HUP");
    lab.gateway.log.find(&["the reload is refused", "b.pem is not a PEM file"]).await;
    assert!(Client::connect(lab.address(), "b.test", &new).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_shared_by_file_and_outlive_a_rotation() {
    let backend = Named::start().await;
    let keys = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="];
    let text = crate::lab::yaml(&[backend.address()], "      ticket_keys: '{dir}/tickets'\n", "");
    let start = async |keys: &str| {
        let dir = crate::support::folder(&text);
        fs::write(dir.path().join("tickets"), keys).unwrap();
        dir
    };
    let authority = crate::support::certificates::Authority::new("Test Authority");
    let issued = authority.issue(&["a.test"]);
    let mut gateways = Vec::new();
    for text in [keys[0].to_owned(), format!("{}\n{}\n", keys[1], keys[0])] {
        let dir = start(&text).await;
        issued.write(dir.path(), "a");
        gateways.push(crate::support::Gateway::begin(dir, &[], &[]).listening().await);
    }
    for version in VERSIONS {
        let config = config(&authority.pem, &[version], None);
        for (gateway, kind) in [
            (0, HandshakeKind::Full),
            (1, HandshakeKind::Resumed),
            (1, HandshakeKind::Resumed),
            (0, HandshakeKind::Full),
        ] {
            let mut client = Client::connect(gateways[gateway].address(), "a.test", &config).unwrap();
            client.get("/", "");
            assert_eq!(client.stream.conn.handshake_kind(), Some(kind), "{version:?} at {gateway}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_of_drawn_keys_are_good_after_a_reload_and_an_upgrade() {
    let backend = Named::start().await;
    let text = crate::lab::yaml(&[backend.address()], "", "").replacen(
        "version: 1\n",
        "version: 1\nupgrade_sock: '{dir}/upgrade.sock'\n",
        1,
    );
    let lab = Lab::start_yaml(&text).await;
    let configs = VERSIONS.map(|version| config(&lab.authority.pem, &[version], None));
    let resumed = |address, kind| {
        for config in &configs {
            let mut client = Client::connect(address, "a.test", config).unwrap();
            client.get("/", "");
            assert_eq!(client.stream.conn.handshake_kind(), Some(kind));
        }
    };
    resumed(lab.address(), HandshakeKind::Full);
    lab.gateway.signal("HUP");
    lab.gateway.metric_becomes("longhaul_config_generation", 2.0).await;
    resumed(lab.address(), HandshakeKind::Resumed);
    let successor = lab.gateway.successor().await;
    let mut lab = lab;
    assert_eq!(lab.gateway.ended().await, Some(0));
    resumed(successor.address(), HandshakeKind::Resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_and_resumptions_go_on_while_certificates_are_renewed_and_reloaded() {
    let backend = Named::start().await;
    let lab = Lab::start(&[backend.address()]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = VERSIONS
        .into_iter()
        .cycle()
        .take(4)
        .map(|version| {
            let (to, config) = (lab.address(), config(&lab.authority.pem, &[version], None));
            let (stop, fresh) = (Arc::clone(&stop), lab.authority.pem.clone());
            std::thread::spawn(move || {
                let mut kinds = [0, 0];
                while !stop.load(Ordering::Relaxed) {
                    // One that resumes, and one that begins anew.
                    for config in [&config, &crate::client::config(&fresh, &[version], None)] {
                        let mut client = Client::connect(to, "a.test", config).expect("a handshake");
                        assert!(client.get("/", "").0.starts_with("HTTP/1.1 200 "));
                        kinds[usize::from(client.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed))] += 1;
                    }
                }
                (config, kinds)
            })
        })
        .collect();
    for renewal in 1..=4 {
        let new = lab.authority.issue(&["a.test", "127.0.0.1"]);
        new.write(lab.dir.path(), "a");
        lab.gateway.metric_becomes("longhaul_tls_file_reloads_total{outcome=\"done\"}", f64::from(renewal)).await;
        lab.gateway.signal("HUP");
        lab.gateway.metric_becomes("longhaul_config_generation", f64::from(renewal) + 1.0).await;
        let expected = CertificateDer::from_pem_slice(new.cert.as_bytes()).unwrap();
        assert_eq!(shown(&lab), expected);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (config, [full, resumed]) = tokio::task::spawn_blocking(move || client.join().unwrap()).await.unwrap();
        assert!(full > resumed / 2 && resumed > 0, "{full} full, {resumed} resumed");
        let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
        client.get("/", "");
        assert_eq!(client.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    }
    let failed = "longhaul_tls_handshake_failures_total{failure=";
    assert!(!lab.gateway.scrape().await.lines().any(|line| line.starts_with(failed) && !line.ends_with(" 0")));
}
