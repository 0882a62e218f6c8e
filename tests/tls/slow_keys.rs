//! Keys whose signatures take long: handshakes beside the workers, which have tunnels to serve.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::client::{Client, VERSIONS, config};
use crate::lab::{Lab, yaml};
use crate::support::Echo;

/// The number that Linux gives a thread which runs while nothing else wants to (`SCHED_IDLE`).
const IDLE: &str = "5";

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_by_an_rsa_key_give_way_to_tunnels_and_clients_that_leave_hold_nobody_up() {
    let echo = Echo::start().await;
    let lab = Lab::start_by_key(&PKCS_RSA_SHA256, &yaml(&[echo.address()], "", "")).await;
    let to = lab.address();
    for version in VERSIONS {
        let config = config(&lab.authority.pem, &[version], None);
        for _ in 0..20 {
            let mut hello = Vec::new();
            let name = ServerName::try_from("a.test").unwrap();
            ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut hello).unwrap();
            TcpStream::connect(to).unwrap().write_all(&hello).unwrap();
        }
        std::thread::scope(|scope| {
            for number in 0..20 {
                let (echo, config) = (echo.address().to_string(), &config);
                scope.spawn(move || {
                    let mut client = Client::connect(to, "a.test", config).unwrap();
                    assert!(client.upgrade("/").starts_with("HTTP/1.1 101 "));
                    assert_eq!(client.hear(), echo);
                    client.say(&format!("message {number}"));
                    assert_eq!(client.hear(), format!("message {number}"));
                });
            }
        });
    }
    let policies = policies_of_threads_named(lab.gateway.pid(), "-tls");
    assert!(!policies.is_empty() && policies.iter().all(|policy| policy == IDLE), "{policies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_that_is_taken_open_tunnels_in_both_versions() {
    let echo = Echo::start().await;
    // RSA is above, and P-256 is the kind of every other test.
    for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519] {
        let lab = Lab::start_by_key(kind, &yaml(&[echo.address()], "", "")).await;
        for version in VERSIONS {
            let config = config(&lab.authority.pem, &[version], None);
            let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
            assert!(client.upgrade("/").starts_with("HTTP/1.1 101 "), "{kind:?}");
            assert_eq!(client.hear(), echo.address().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_keys_need_no_thread_beside_the_workers() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    let mut client = Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &VERSIONS, None)).unwrap();
    assert!(client.upgrade("/").starts_with("HTTP/1.1 101 "));
    assert_eq!(client.hear(), echo.address().to_string());
    assert_eq!(policies_of_threads_named(lab.gateway.pid(), "-tls"), [""; 0]);
}

/// Scheduling policies of the threads of a process whose names end so (proc_pid_stat(5), field 41).
fn policies_of_threads_named(pid: u32, end: &str) -> Vec<String> {
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| stat(task.unwrap()));
    let named = |stat: &String| stat.split(')').next().is_some_and(|name| name.ends_with(end));
    let policy =
        |stat: String| stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(38)).map(str::to_owned);
    tasks.filter(named).filter_map(policy).collect()
}
