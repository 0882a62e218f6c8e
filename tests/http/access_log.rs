//! The access log: complete, documented, without secrets, and impossible to forge.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::connect_async;

use crate::support::certificates::Authority;
use crate::support::{Backend, Echo, Gateway, Named, Wire, folder, hooked, one_upstream, within};

/// The names in the first column of a table of a page, in backticks.
fn documented(page: &str, table: &str) -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {table} "))).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).unwrap_or_else(|| panic!("no name in {row}")).to_owned()).collect()
}

/// A line in text form, taken apart: the event and the fields, quotes undone.
fn fields(line: &str) -> (String, BTreeMap<String, String>) {
    let mut parts = line.splitn(3, ' ');
    let (_time, event) = (parts.next().unwrap(), parts.next().unwrap().to_owned());
    let mut rest = parts.next().unwrap();
    let mut fields = BTreeMap::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let end = if value.starts_with('"') {
            let mut escaped = false;
            let close = value.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            close.unwrap_or_else(|| panic!("{line}")).0 + 1
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        assert!(fields.insert(name.to_owned(), value[..end].to_owned()).is_none(), "{name} twice: {line}");
        rest = value[end..].strip_prefix(' ').unwrap_or(&value[end..]);
    }
    (event, fields)
}

#[tokio::test]
async fn every_field_is_documented_and_every_documented_field_comes() {
    let (echo, again, backend) = (Echo::start().await, Echo::start().await, Named::start().await);
    let config = format!(
        "{}  again:\n    backends: [{}]\n    health: off\n  dead:\n    backends: [{}]\n    health: off\n  \
         ws:\n    affinity: [client_ip: {{}}]\n    backends: [{{ name: echo, address: {} }}]\n\
         access_log: {{ format: json }}\ntracing: {{ sample: 0 }}\n",
        one_upstream(&[backend.address()], "    affinity: [query: room]\n").replace(
            "- upstream",
            "- { path: /ws, upstream: ws, hooks: [seeing] }\n  - { path: /dead, upstream: dead }\n  \
             - { path: /again, upstream: again, reattach: { within: 100ms } }\n  - path: /u\n    \
             upstream"
        ),
        again.address(),
        Backend::refusing(),
        echo.address(),
    );
    let tls = "  - address: 127.0.0.1:0\n    tls:\n      \
               certificates: [{ cert: '{dir}/a.pem', key: '{dir}/a.key' }]\n      \
               client_auth: { ca: '{dir}/ca.pem' }\nmetrics:";
    let dir = folder(&config.replace("metrics:", tls));
    let authority = Authority::new("Test Authority");
    let (cert, key) = authority.issue(&["a.test"]).write(dir.path(), "a");
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    let gateway = Gateway::begin_with(&hooked(), dir, &[], &[]).listening().await;
    let port = gateway.addresses[1].port();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "--resolve", &format!("a.test:{port}:127.0.0.1")]);
    curl.arg("--cacert").arg(gateway.dir.path().join("ca.pem")).arg("--cert").arg(cert).arg("--key").arg(key);
    assert!(curl.arg(format!("https://a.test:{port}/tls")).stdout(Stdio::null()).status().unwrap().success());
    gateway.access.find(&["\"request\"", "\"/tls\""]).await;
    for target in ["/u?room=1", "/dead", "/nowhere"] {
        Wire::connect(gateway.address()).await.get(target, "").await;
    }
    // Lines are written after the answer, each by the thread that gave it.
    for path in ["/u", "/dead", "/nowhere"] {
        gateway.access.find(&["\"request\"", &format!("\"{path}\"")]).await;
    }
    let (mut socket, _) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    gateway.access.find(&["\"tunnel_end\""]).await;
    let (mut socket, _) = connect_async(format!("ws://{}/again", gateway.address())).await.unwrap();
    again.backend.stop().await;
    while socket.next().await.is_some() {}
    gateway.access.find_nth(&["\"tunnel_end\""], 1).await;

    let (mut names, mut events) = (BTreeSet::new(), BTreeSet::new());
    for line in gateway.access.all() {
        let line: Value = serde_json::from_str(&line).unwrap();
        names.extend(line.as_object().unwrap().keys().cloned());
        events.insert(line["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(names, documented("access-log.md", "field"));
    assert_eq!(events, documented("access-log.md", "event"));
}

#[tokio::test]
async fn text_and_json_say_the_same() {
    let backend = Named::start().await;
    let config = one_upstream(&[backend.address()], "    affinity: [header: x-room]\n");
    let text = Gateway::start(&config).await;
    let json = Gateway::start(&format!("{config}access_log: {{ format: json }}\n")).await;
    for gateway in [&text, &json] {
        let mut client = Wire::connect(gateway.address()).await;
        client
            .send("POST /a?b=c HTTP/1.1\r\nHost: lab\r\nX-Room: r\r\nX-Request-Id: i\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        client.answer().await;
    }
    let (event, fields) = fields(&text.access.find(&[" request "]).await);
    let line: Value = serde_json::from_str(&json.access.find(&["\"request\""]).await).unwrap();
    assert_eq!(line["event"], event);
    for (name, value) in fields {
        let other = match &line[&name] {
            Value::String(other) => other.clone(),
            other => other.to_string(),
        };
        if !["peer", "duration_ms"].contains(&name.as_str()) {
            assert_eq!(value.trim_matches('"'), other, "{name}");
        }
    }
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&3.into(), &backend.address().to_string().len().into()));
}

#[tokio::test]
async fn no_value_of_a_cookie_header_or_query_is_ever_written() {
    let (echo, backend) = (Echo::start().await, Named::start().await);
    for source in ["cookie: sid", "header: x-token", "query: token", "issue_cookie: { name: sid }"] {
        for format in ["text", "json"] {
            let config = format!(
                "{}  ws:\n    affinity: [{source}]\n    backends: [{}]\naccess_log: {{ format: {format} }}\n",
                one_upstream(&[backend.address()], &format!("    affinity: [{source}]\n"))
                    .replace("- upstream", "- { path: /ws, upstream: ws }\n  - upstream"),
                echo.address()
            );
            let gateway = Gateway::start_with(&config, &[("RUST_LOG", "debug")]).await;
            let headers = "Cookie: sid=hush-cookie\r\nX-Token: hush-header\r\nAuthorization: Bearer hush-bearer\r\n";
            Wire::connect(gateway.address()).await.get("/a?token=hush-query", headers).await;
            let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let mut tunnel = Wire::connect(gateway.address()).await;
            tunnel.get("/ws?token=hush-query", &format!("{headers}{upgrade}")).await;
            // A client without the cookie gets one, and its value is a secret, too.
            let issued = Wire::connect(gateway.address()).await.get("/", "").await;
            drop(tunnel);
            gateway.access.find(&["tunnel_end"]).await;
            gateway.access.find_nth(&["request"], 1).await;
            let all = gateway.access.all().join("\n");
            assert!(!all.contains("hush"), "{source}: {all}");
            if let Some(cookie) = issued.head.get("set-cookie") {
                let value = cookie.split(['=', ';']).nth(1).unwrap();
                assert!(!all.contains(value), "{all}");
            }
            let ours: Vec<_> = gateway.log.all().into_iter().filter(|line| line.contains(" longhaul::")).collect();
            assert!(!ours.join("\n").contains("hush"), "{source}: {ours:?}");
        }
    }
}

#[tokio::test]
async fn no_request_forges_a_line_or_a_field() {
    let backend = Named::start().await;
    for format in ["text", "json"] {
        let config = format!("{}access_log: {{ format: {format} }}\n", one_upstream(&[backend.address()], ""));
        let gateway = Gateway::start(&config).await;
        let hostile = [
            "GET /a%0a2026-01-01T00:00:00.000Z%20request%20status=200 HTTP/1.1\r\nHost: lab\r\n\r\n".as_bytes(),
            b"GET /\"%20status=299%20x=\" HTTP/1.1\r\nHost: lab\r\n\r\n",
            b"GET /\\\" HTTP/1.1\r\nHost: lab\r\n\r\n",
            b"GET /\xc3\xa4\xe2\x80\xa8\xff HTTP/1.1\r\nHost: lab\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: lab\" status=299 \xc2\x85 x=\"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: lab\r\nX-Request-Id: i\"status=299\\\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: lab\r\nX-Request-Id: i\x0bstatus=299\r\n\r\n",
            b"status=299 / HTTP/1.1\r\nHost: lab\r\n\r\n",
            b"GET /\rstatus=299 HTTP/1.1\r\nHost: lab\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: lab\r\nX-Forwarded-For: 1.2.3.4 status=299\r\n\r\n",
        ];
        for request in hostile {
            let mut client = Wire::connect(gateway.address()).await;
            client.send(request).await;
            // Some are refused by Pingora, before there is a request.
            let _ = client.try_answer().await;
        }
        Wire::connect(gateway.address()).await.get("/last", "X-Request-Id: last\r\n").await;
        gateway.access.find(&["last"]).await;
        let known = documented("access-log.md", "field");
        let lines = gateway.access.all();
        assert!(lines.len() <= hostile.len() + 1, "{lines:#?}");
        for line in lines {
            assert!(line.bytes().all(|byte| byte >= 0x20), "{line:?}");
            let status = if format == "text" {
                let (event, fields) = fields(&line);
                assert_eq!(event, "request");
                assert!(fields.keys().all(|name| known.contains(name)), "{line}");
                fields["status"].clone()
            } else {
                serde_json::from_str::<Value>(&line).unwrap()["status"].to_string()
            };
            assert!(["200", "400"].contains(&status.as_str()), "{line}");
        }
    }
}

#[tokio::test]
async fn no_line_is_lost_when_the_file_is_rotated() {
    let backend = Named::start().await;
    let config = one_upstream(&[backend.address()], "    health: off\n");
    let gateway = Gateway::start(&format!("{config}access_log: {{ to: \"{{dir}}/access.log\" }}\n")).await;
    let file = gateway.dir.path().join("access.log");
    let rotated = |n: usize| gateway.dir.path().join(format!("access.log.{n}"));
    let address = gateway.address();
    // Requests go on while the file is renamed and opened anew.
    let clients: Vec<_> = (0..4)
        .map(|client| {
            tokio::spawn(async move {
                let mut wire = Wire::connect(address).await;
                for n in 0..250 {
                    wire.get("/", &format!("X-Request-Id: c{client}-{n}.\r\n")).await;
                }
            })
        })
        .collect();
    for n in 0..3 {
        std::fs::rename(&file, rotated(n)).unwrap();
        gateway.signal("USR1");
        gateway.log.find_nth(&["opened anew"], n).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    Wire::connect(address).await.get("/", "X-Request-Id: last.\r\n").await;
    let whole = || -> String {
        (0..3).map(rotated).chain([file.clone()]).map(|f| std::fs::read_to_string(f).unwrap()).collect()
    };
    // Lines are written after the answer, each by the thread that gave it: the last request's need not be the last.
    let written = async {
        loop {
            let all = whole();
            if all.contains("last.") && all.matches('\n').count() >= 1_001 {
                return all;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let all = within("every line", written).await;
    let mut ids: Vec<_> = all.lines().map(|line| fields(line).1["request_id"].clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), all.lines().count()), (1_001, 1_001));
    assert_eq!(gateway.access.all(), Vec::<String>::new(), "nothing on standard output");
}

#[tokio::test]
async fn a_log_that_is_off_writes_nothing() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&format!("{}access_log: off\n", one_upstream(&[backend.address()], ""))).await;
    Wire::connect(gateway.address()).await.get("/", "").await;
    gateway.metric_becomes("longhaul_requests_total{code=\"2xx\",upstream=\"u\"}", 1.0).await;
    assert_eq!(gateway.access.all(), Vec::<String>::new());
}

#[tokio::test]
async fn a_tunnels_two_lines_tell_of_one_tunnel() {
    let echo = Echo::start().await;
    let config = one_upstream(&[echo.address()], "    affinity: [client_ip: {}]\n");
    let gateway = Gateway::start(&config).await;
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    socket.next().await;
    socket.send("hello".into()).await.unwrap();
    socket.next().await;
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    let (_, opened) = fields(&gateway.access.find(&[" tunnel_open "]).await);
    let (_, ended) = fields(&gateway.access.find(&[" tunnel_end "]).await);
    for name in ["request_id", "client", "peer", "route", "upstream", "backend", "key_source", "key"] {
        assert_eq!(opened[name], ended[name], "{name}");
    }
    assert_eq!(opened["key_source"], "client_ip");
    assert_eq!((ended["messages_from_client"].as_str(), ended["messages_from_backend"].as_str()), ("1", "2"));
    assert_eq!((ended["by"].as_str(), ended["reason"].as_str()), ("client", "client_close"));
}
