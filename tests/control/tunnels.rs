//! Open tunnels as an operator holds them: listed, found by a filter, closed, and located before they open.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{Control, Said, Socket, closed, config, echoes, longhaul, open};
use crate::support::{Echo, Gateway};

/// The tunnels of a list, each a line of JSON.
fn rows(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn list(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let said = longhaul(gateway, &[&["tunnels", "--json"], arguments].concat()).await;
    (said.code, rows(&said))
}

/// The number of open tunnels that the filter in `arguments` selects.
async fn count(gateway: &Gateway, arguments: &[&str]) -> usize {
    list(gateway, arguments).await.1.len()
}

/// The id of the tunnel with this key.
async fn id_of(gateway: &Gateway, key: &str) -> String {
    let (code, rows) = list(gateway, &["--key", key]).await;
    assert_eq!((code, rows.len()), (Some(0), 1), "{key}: {rows:?}");
    rows[0]["id"].as_str().unwrap().to_owned()
}

/// A gateway before two echoes, by a route with a hook and one without.
async fn gateway(one: &Echo, other: &Echo) -> Gateway {
    let hook = "routes:\n  - path: /guarded\n    upstream: u\n    \
                hooks: [{ hook: ip_filter, with: { allow: [127.0.0.0/8] } }]\n";
    Gateway::start(&config("{}", &[one.address(), other.address()]).replace("routes:\n", hook)).await
}

#[tokio::test]
async fn the_list_agrees_with_the_facts_and_with_the_access_log() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = gateway(&one, &other).await;
    let mut tunnels = Vec::new();
    for key in 0..10 {
        tunnels.push(open(&gateway, &key.to_string()).await);
    }
    assert!(echoes(&mut tunnels[3].0).await);
    let (code, rows) = list(&gateway, &[]).await;
    assert_eq!((code, rows.len()), (Some(0), 10));
    for (key, (socket, at)) in tunnels.iter().enumerate() {
        let id = id_of(&gateway, &key.to_string()).await;
        let row = rows.iter().find(|row| row["id"] == *id).unwrap();
        let peer = match socket.get_ref() {
            tokio_tungstenite::MaybeTlsStream::Plain(stream) => stream.local_addr().unwrap().to_string(),
            _ => unreachable!("nobody speaks TLS"),
        };
        let log = gateway.access.find(&["tunnel_open", &format!("tunnel={id}")]).await;
        for (field, value) in
            [("backend", at.to_string()), ("peer", peer), ("upstream", "u".into()), ("client", "127.0.0.1".into())]
        {
            assert_eq!(row[field], *value, "{row}");
            assert!(log.contains(&format!("{field}={value}")), "{field}: {log}");
        }
        for field in ["request_id", "key", "key_source"] {
            assert!(log.contains(&format!("{field}={}", row[field].as_str().unwrap())), "{field}: {log}");
        }
        assert_eq!((&row["route"], &row["key_source"]), (&json!("* /"), &json!("query")));
        assert_eq!((&row["tls"], &row["hooks"]), (&json!({ "client": false, "backend": false }), &json!([])));
        assert_eq!((&row["generation"], &row["ends"], &row["rates"]), (&json!(1), &Value::Null, &Value::Null));
        // The echo's address, and what it was sent, with headers of two bytes and a mask of four.
        let (sent, echoed) = if key == 3 { (2 + 4 + 5, 2 + 5) } else { (0, 0) };
        assert_eq!(row["bytes_from_client"], sent);
        assert_eq!(row["bytes_from_backend"], 2 + at.to_string().len() + echoed);
        assert_eq!(
            (row["messages_from_client"].as_u64(), row["messages_from_backend"].as_u64()),
            if key == 3 { (Some(1), Some(2)) } else { (Some(0), Some(1)) }
        );
    }
    let text = longhaul(&gateway, &["tunnels", "--key", "3"]).await;
    assert!(text.out.starts_with("ID ") && text.out.lines().count() == 2, "{text:?}");
    assert_eq!(text.err, "1 of 10 open tunnels\n");
}

#[tokio::test]
async fn every_filter_finds_its_own_and_nothing_else() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = gateway(&one, &other).await;
    let mut tunnels = Vec::new();
    for key in 0..20 {
        tunnels.push(open(&gateway, &key.to_string()).await);
    }
    let url = format!("ws://{}/guarded?key=0", gateway.address());
    let (mut guarded, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    // Only a message shows that a tunnel is open: the 101 is sent before that.
    futures_util::StreamExt::next(&mut guarded).await.unwrap().unwrap();
    let of_one = tunnels.iter().filter(|(_, at)| *at == one.address()).count();
    let open = 21;
    for (arguments, expected) in [
        (&["--upstream", "u"][..], open),
        (&["--route", "* /"], 20),
        (&["--route", "* /guarded"], 1),
        (&["--hook", "ip_filter"], 1),
        (&["--client", "127.0.0.0/8"], open),
        (&["--client", "127.0.0.1"], open),
        (&["--older", "0s"], open),
        (&["--key", "7"], 1),
        (&["--route", "* /", "--backend", &one.address().to_string()], of_one),
        (&["--route", "* /", "--backend", &format!("u/{}", one.address())], of_one),
        (&["--limit", "3"], 3),
        (&["--sort", "age", "--limit", "3"], 3),
        (&["--sort", "bytes"], open),
    ] {
        assert_eq!(count(&gateway, arguments).await, expected, "{arguments:?}");
    }
    for nothing in [
        &["--upstream", "v"][..],
        &["--backend", "127.0.0.1:9"],
        &["--backend", &format!("v/{}", one.address())],
        &["--route", "*"],
        &["--client", "127.0.0.2"],
        &["--key", "77"],
        &["--older", "1h"],
        &["--idle", "1h"],
        &["--hook", "jwt"],
        &["--key", "7", "--older", "1h"],
        &["0123456789abcdef"],
    ] {
        assert_eq!(list(&gateway, nothing).await, (Some(1), Vec::new()), "{nothing:?}");
    }
    drop(guarded);
}

#[tokio::test]
async fn the_talkers_come_first_with_their_rates() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let (_quiet, _) = open(&gateway, "quiet").await;
    let (mut loud, _) = open(&gateway, "loud").await;
    let talk = async { while echoes(&mut loud).await {} };
    let looks = async {
        // The client may have been held up for all of the time that was looked at.
        let rates = loop {
            let rates = list(&gateway, &["--sort", "rate", "--rate", "200ms"]).await.1;
            if rates[0]["rates"]["from_client"] != 0 {
                break rates;
            }
        };
        let messages = list(&gateway, &["--sort", "messages", "--limit", "1"]).await.1;
        (rates, messages)
    };
    let (rates, messages) = tokio::select! {
        looks = looks => looks,
        () = talk => panic!("the tunnel ended"),
    };
    let loud = id_of(&gateway, "loud").await;
    assert_eq!((&rates[0]["id"], &messages[0]["id"]), (&json!(loud), &json!(loud)));
    assert!(rates[0]["rates"]["from_client"].as_u64().unwrap() > 0, "{rates:?}");
    assert_eq!(rates[1]["rates"], json!({ "from_client": 0, "from_backend": 0 }));
}

#[tokio::test]
async fn one_is_closed_by_its_id_with_the_operators_words_and_the_others_stay() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let (mut meant, _) = open(&gateway, "meant").await;
    let (mut other, _) = open(&gateway, "other").await;
    let id = id_of(&gateway, "meant").await;
    let client = tokio::spawn(async move {
        match meant_close(&mut meant).await {
            Some(frame) => (u16::from(frame.code), frame.reason.to_string()),
            None => panic!("a Close frame has a code"),
        }
    });
    let said = longhaul(&gateway, &["close", &id, "--code", "4001", "--reason", "signed in elsewhere"]).await;
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert_eq!(said.out, format!("closing 1 tunnel with code 4001\n  u/{}: 1 tunnel\n", echo.address()));
    assert_eq!(client.await.unwrap(), (4001, "signed in elsewhere".into()));
    let tunnel = format!("tunnel={id}");
    gateway.access.find(&["tunnel_end", &tunnel, "reason=operator_closed", "close_code=4001", "by=gateway"]).await;
    let line = gateway.log.find(&["by the control socket, asked for", &id, "which was done"]).await;
    assert!(line.contains("user ") && line.contains("closing 1 tunnel with code 4001"), "{line}");
    gateway.metric_becomes("longhaul_tunnel_close_codes_total{by=\"gateway\",code=\"4xxx\",upstream=\"u\"}", 1.0).await;
    assert!(echoes(&mut other).await);
    assert_eq!(count(&gateway, &[]).await, 1);
    let again = longhaul(&gateway, &["close", &id]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains(&format!("no tunnel has the id {id}")), "{again:?}");
}

async fn meant_close(socket: &mut Socket) -> Option<tokio_tungstenite::tungstenite::protocol::CloseFrame> {
    use futures_util::StreamExt;
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => {
                while socket.next().await.is_some() {}
                return frame;
            }
            Some(Ok(_)) => {}
            other => panic!("no Close frame, but {other:?}"),
        }
    }
}

#[tokio::test]
async fn those_of_a_backend_are_closed_over_a_time_after_a_rehearsal() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = Gateway::start(&config("{}", &[one.address(), other.address()])).await;
    let (mut meant, mut kept) = (Vec::new(), Vec::new());
    for key in 0..40 {
        let (socket, at) = open(&gateway, &key.to_string()).await;
        if at == one.address() { meant.push(socket) } else { kept.push(socket) }
    }
    assert!(!meant.is_empty() && !kept.is_empty());
    let backend = one.address().to_string();
    let rehearsed = longhaul(&gateway, &["close", "--backend", &backend, "--dry-run", "--json"]).await.json();
    let details = &rehearsed["details"];
    assert_eq!((&details["matched"], &details["closing"]), (&json!(meant.len()), &json!(0)), "{rehearsed}");
    assert_eq!(details["by_backend"], json!({ format!("u/{backend}"): meant.len() }));
    assert_eq!(gateway.log.count(&["asked for"]), 0, "a rehearsal changes nothing");
    assert_eq!(count(&gateway, &[]).await, 40);

    let count_of = meant.len();
    let clients: Vec<_> =
        meant.into_iter().map(|mut socket| tokio::spawn(async move { closed(&mut socket).await.0 })).collect();
    let said = longhaul(&gateway, &["close", "--backend", &backend, "--over", "300ms"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with(&format!("closing {count_of} tunnels over 300ms with code 1012\n")), "{said:?}");
    for client in clients {
        assert_eq!(client.await.unwrap(), 1012);
    }
    for socket in &mut kept {
        assert!(echoes(socket).await);
    }
}

#[tokio::test]
async fn an_end_to_come_is_shown_and_a_second_command_may_bring_it_nearer() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let (mut socket, _) = open(&gateway, "a").await;
    let said = longhaul(&gateway, &["close", "--all", "--over", "1d"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let ends = list(&gateway, &[]).await.1[0]["ends"].clone();
    assert_eq!(ends["reason"], "operator_closed");
    assert!((1..=86_400_000).contains(&ends["in_ms"].as_u64().unwrap()), "{ends}");
    assert!(echoes(&mut socket).await);
    let client = tokio::spawn(async move { closed(&mut socket).await.0 });
    let said = longhaul(&gateway, &["close", "--key", "a", "--code", "1001"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(client.await.unwrap(), 1001);
}

#[tokio::test]
async fn what_cannot_be_closed_is_refused_and_nothing_is() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let (mut socket, _) = open(&gateway, "a").await;
    let long = "x".repeat(124);
    for (arguments, code, part) in [
        (&[][..], 2, "name an id or a filter"),
        (&["--all", "--key", "a"], 2, "give one of them"),
        (&["--all", "--code", "1005"], 2, "code 1005 may not be sent"),
        (&["--all", "--code", "2999"], 2, "RFC 6455 §7.4"),
        (&["--all", "--code", "70000"], 2, "70000"),
        (&["--all", "--reason", &long], 2, "the reason has 124 bytes"),
        (&["--all", "--over", "2d"], 2, "a day is the longest time"),
        (&["--client", "nobody"], 2, "`nobody` is no address"),
        (&["--client", "127.0.0.1/8"], 2, "write `127.0.0.0/8` for the network"),
        (&["--backend", "u"], 1, "no tunnel leads to a backend `u`"),
        (&["4711"], 2, "it has 16 hexadecimal digits"),
        (&["0123456789abcdef"], 1, "no tunnel has the id 0123456789abcdef"),
        (&["--key", "b"], 1, "no tunnel matches: nothing is closed"),
        (&["--upstream", "chat"], 1, "the configuration has none of that name"),
        (&["--backend", "u/127.0.0.1:9"], 1, "and the configuration has none of that name"),
        (&["--route", "/ws"], 1, "write it as `host path`"),
    ] {
        let said = longhaul(&gateway, &[&["close"], arguments].concat()).await;
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.err.contains(part), "{arguments:?}: {said:?}");
        // A list says the same of the same filter.
        if part.contains("the configuration has none") || part.contains("no tunnel has the id") || part.contains("/8") {
            let listed = longhaul(&gateway, &[&["tunnels"], arguments].concat()).await;
            assert_eq!(listed.code, Some(code), "{arguments:?}: {listed:?}");
            assert!(listed.err.contains(part), "{arguments:?}: {listed:?}");
        }
    }
    assert!(echoes(&mut socket).await);
}

#[tokio::test]
async fn a_field_that_is_misspelt_widens_no_command() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let (mut socket, _) = open(&gateway, "a").await;
    for request in [
        r#"{"version":1,"command":"close","filter":{"upstream":"u","idel_ms":1000}}"#,
        r#"{"version":1,"command":"close","all":true,"dryrun":true}"#,
        r#"{"version":1,"command":"tunnels","filtre":{}}"#,
    ] {
        let answer = Control::ask(&gateway, request).await.next().await;
        assert_eq!((&answer["reply"], &answer["failure"]), (&json!("failed"), &json!("bad_request")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("unknown field"), "{answer}");
    }
    assert!(echoes(&mut socket).await);
}

#[tokio::test]
async fn without_tunnels_the_list_is_empty_and_that_is_no_failure() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let said = longhaul(&gateway, &["tunnels"]).await;
    assert_eq!((said.code, &*said.out, &*said.err), (Some(0), "", "no tunnel is open\n"));
}

#[tokio::test]
async fn a_running_gateway_says_where_a_request_would_go_now() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = gateway(&one, &other).await;
    let (_socket, home) = open(&gateway, "room").await;
    let elsewhere = if home == one.address() { other.address() } else { one.address() };
    let ask = ["where", "--running", "--ip", "203.0.113.7", "--path", "/?key=room"];
    let asked = async |more: &[&str]| longhaul(&gateway, &[&ask, more].concat()).await;
    let located = asked(&["--json"]).await.json();
    assert_eq!((&located["backend"], &located["key"]), (&json!(home.to_string()), &json!("room")));
    assert_eq!((&located["live"]["picked"], &located["live"]["generation"]), (&json!("ring"), &json!(1)));
    assert_eq!(located["then"], json!([elsewhere.to_string()]));

    let drained = longhaul(&gateway, &["drain", "backend", &format!("u/{home}"), "--over", "1d", "--no-wait"]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let located = asked(&["--json"]).await.json();
    assert_eq!(
        (&located["backend"], &located["live"]["picked"]),
        (&json!(elsewhere.to_string()), &json!("next_on_ring"))
    );
    assert_eq!(
        located["live"]["backends"][0],
        json!({ "backend": home.to_string(), "hindrance": "draining", "tunnels": 1 })
    );
    let text = asked(&[]).await;
    assert_eq!(text.code, Some(0));
    assert!(text.out.contains(&format!("backend   {elsewhere} now (next_on_ring), 0 tunnels\n")), "{text:?}");
    assert!(text.out.contains(&format!("then      {home}, draining, 1 tunnel\n")), "{text:?}");

    longhaul(&gateway, &["drain", "backend", &format!("u/{elsewhere}"), "--over", "1d", "--no-wait"]).await;
    let text = asked(&[]).await;
    assert_eq!(text.code, Some(1), "{text:?}");
    assert!(text.out.contains("none can be picked now: answered 503\n"), "{text:?}");
    let keyless = longhaul(&gateway, &["where", "--running", "--ip", "203.0.113.7", "--host", "a b"]).await;
    assert_eq!(keyless.code, Some(1), "{keyless:?}");
    assert!(keyless.out.contains("refused   400: "), "{keyless:?}");
}

#[tokio::test]
async fn where_says_what_a_handshake_would_meet_at_the_limits() {
    let echo = Echo::start().await;
    for (limits, code, said, name) in [
        ("    limits: { per_key: 1 }\n", 1, "a handshake would be answered 429", "key_full"),
        ("    limits: { tunnels: 1 }\n", 1, "a handshake would be answered 503", "full"),
        ("    limits: { tunnels: 1 }\n    admission: { wait: 1m }\n", 0, "a handshake would wait", "waits"),
    ] {
        let yaml = config("{}", &[echo.address()]).replace("    affinity:", &format!("{limits}    affinity:"));
        let gateway = Gateway::start(&yaml).await;
        let ask = ["where", "--running", "--ip", "203.0.113.7", "--path", "/?key=room"];
        let free = longhaul(&gateway, &ask).await;
        assert_eq!((free.code, free.out.contains("handshake")), (Some(0), false), "{free:?}");
        let _socket = open(&gateway, "room").await;
        let text = longhaul(&gateway, &ask).await;
        assert_eq!(text.code, Some(code), "{text:?}");
        assert!(text.out.contains(&format!("handshake {said}")), "{text:?}");
        let json = longhaul(&gateway, &[&ask[..], &["--json"]].concat()).await.json();
        assert_eq!(json["live"]["handshake"], json!(name), "{json}");
        // A look counts nothing.
        assert_eq!(longhaul(&gateway, &ask).await.out, text.out);
    }
}

#[tokio::test]
async fn where_says_that_the_gateway_drains() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{ window: 1h }", &[echo.address()])).await;
    let _socket = open(&gateway, "room").await;
    let drained = longhaul(&gateway, &["drain", "--no-wait"]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let said = longhaul(&gateway, &["where", "--running", "--ip", "203.0.113.7", "--path", "/?key=room"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("draining  the gateway drains, and takes nothing new\n"), "{said:?}");
}
