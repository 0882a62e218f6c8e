//! Whatever is refused leaves a trace: an answer of ours with a request id, a line in the access log, a count.

use std::net::Ipv4Addr;
use std::process::Command;

use tokio::io::AsyncWriteExt;

use crate::cast::connect;
use crate::support::{Gateway, Named, one_upstream, within};
use crate::wire::Wire;

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// Sum of every sample of the metrics that count refused requests and requests without a route.
async fn counted(gateway: &Gateway) -> f64 {
    let text = gateway.scrape().await;
    let counts = text.lines().filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap();
        !line.starts_with('#') && name.ends_with("_total") && (name.contains("refused") || name.contains("unrouted"))
    });
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn a_refused_request_gets_our_answer_a_log_line_and_a_count() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "    health: off\n")).await;
    let many = "X-Line: x\r\n".repeat(300);
    let cookie = format!("Cookie: {}\r\n", "c".repeat(1_100_000));
    let get = |headers: &str| format!("GET / HTTP/1.1\r\nHost: lab\r\n{headers}\r\n");
    let cases: [(&str, Vec<u8>, &[u16]); 8] = [
        ("two hosts", get("Host: lab\r\n").into(), &[400]),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("300 lines", get(&many).into(), &[431, 400]),
        ("a cookie of 1.1 MB", get(&cookie).into(), &[431, 400]),
        (
            "a TLS hello",
            [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 500], b"\r\n\r\n"].concat(),
            &[400],
        ),
        ("no HTTP", b"HELO mail.example.com\r\n\r\n".to_vec(), &[400]),
        ("a bad header", get("Bad Name: x\r\n").into(), &[400]),
        ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: lab\r\n\r\n".to_vec(), &[400, 505]),
    ];
    for (number, (name, bytes, statuses)) in cases.into_iter().enumerate() {
        let before = counted(&gateway).await;
        let mut client = connect(CLIENT, gateway.address()).await;
        // The gateway may answer and close before it has read everything.
        let _ = client.stream.write_all(&bytes).await;
        let answer = client.answer().await;
        assert!(statuses.contains(&answer.status()), "{name}: {answer:?}");
        assert!(answer.field("server").is_none_or(|server| !server.contains("Pingora")), "{name}: {answer:?}");
        let id = answer.field("x-request-id").unwrap_or_else(|| panic!("{name}: {answer:?}"));
        gateway.access.find(&[&format!("request_id={id} "), &format!(" status={} ", answer.status())]).await;
        within(&format!("{name} to be counted"), async { while counted(&gateway).await <= before {} }).await;
        assert_eq!(gateway.access.count(&[" request "]), number + 1, "{name}: one line");
    }
    assert!(backend.requests().is_empty());
}

/// The gateway can be told apart from one that hangs: a request that is good is served by the same worker.
#[tokio::test]
async fn heads_that_are_never_finished_hold_up_nobody() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "    health: off\n")).await;
    let mut slow: Vec<Wire> = Vec::new();
    for number in 0..200 {
        let mut client = connect(Ipv4Addr::new(127, 66, 1, number), gateway.address()).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: lab\r\nX-Filler: {}", "x".repeat(4_000))).await;
        slow.push(client);
    }
    for _ in 0..20 {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[test]
fn check_blames_the_port_where_the_port_is_wrong() {
    for address in ["127.0.0.1:notaport", "127.0.0.1:", "127.0.0.1:99999", "[::1]:x"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("longhaul.yaml");
        let yaml = format!(
            "version: 1\nlisteners: [{{ address: 127.0.0.1:0 }}]\nroutes: [{{ upstream: u }}]\n\
             upstreams:\n  u:\n    backends: [\"{address}\"]\n"
        );
        std::fs::write(&file, yaml).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_longhaul")).arg("check").arg("-c").arg(&file).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("port"), "{address}: {said}");
        assert!(!said.contains("is not an IP address"), "{address}: {said}");
    }
}
