//! The drain of the process: readiness, new clients during grace, closing of tunnels, and its end.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{Control, closed, config, echoes, longhaul, open, probe, refuses};
use crate::support::{Backend, Echo, Gateway, Wire, within};

const DRAIN: &str = r#"{"version":1,"command":"drain"}"#;

#[tokio::test]
async fn during_grace_it_is_not_ready_and_still_takes_what_comes() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ grace: 1h }", &[echo.address()])).await;
    assert_eq!((probe(&gateway, "/ready").await, probe(&gateway, "/live").await), (200, 200));

    let mut drain = Control::ask(&gateway, DRAIN).await;
    let progress = drain.next().await;
    assert_eq!((&progress["reply"], &progress["phase"]), (&"progress".into(), &"grace".into()));
    assert_eq!((probe(&gateway, "/ready").await, probe(&gateway, "/live").await), (503, 200));
    let (mut socket, _) = open(&gateway, "a").await;
    assert!(echoes(&mut socket).await);

    // The second signal ends the process at once.
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    let mut last = drain.next().await;
    while last["reply"] == "progress" {
        last = drain.next().await;
    }
    assert_eq!(last["reply"], "failed");
    assert!(last["message"].as_str().unwrap().contains("told again to end: 1 tunnel "), "{last}");
    gateway.access.find(&["tunnel_end", "reason=shutdown", "close_code=1006"]).await;
}

#[tokio::test]
async fn an_ordinary_end_is_quiet() {
    for signal in ["INT", "TERM"] {
        let echo = Echo::start().await;
        let mut gateway = Gateway::start(&config("{ window: 0s }", &[echo.address()])).await;
        let (_socket, _) = open(&gateway, "a").await;
        gateway.signal(signal);
        assert_eq!(gateway.ended().await, Some(0), "{signal}");
        assert_eq!(gateway.log.count(&["ERROR"]), 0, "{signal}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once_be_it_term_or_int() {
    for second in ["TERM", "INT"] {
        let echo = Echo::start().await;
        let mut gateway = Gateway::start(&config("{ window: 1d }", &[echo.address()])).await;
        let (_socket, _) = open(&gateway, "a").await;
        gateway.signal("TERM");
        gateway.log.find(&["draining: 1 tunnel "]).await;
        gateway.signal(second);
        assert_eq!(gateway.ended().await, Some(0), "{second}");
    }
}

#[tokio::test]
async fn after_grace_the_listeners_close_and_the_process_ends_with_its_last_tunnel() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ window: 1d }", &[echo.address()])).await;
    let (mut first, _) = open(&gateway, "a").await;
    let (mut second, _) = open(&gateway, "b").await;
    gateway.signal("TERM");
    refuses(&gateway).await;
    assert_eq!((probe(&gateway, "/ready").await, probe(&gateway, "/live").await), (503, 200));
    let status = longhaul(&gateway, &["status", "--json"]).await.json();
    assert_eq!((&status["phase"], &status["tunnels"]), (&"closing".into(), &2.into()));

    // Neither tunnel has been closed yet: the window is a day long.
    assert!(echoes(&mut first).await && echoes(&mut second).await);
    first.close(None).await.unwrap();
    while first.next().await.is_some() {}
    assert!(echoes(&mut second).await);
    second.close(None).await.unwrap();
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn both_sides_get_the_configured_code() {
    for code in [1001, 1012, 1013] {
        let (seen, mut codes) = mpsc::unbounded_channel();
        let backend = Backend::start(move |stream| {
            let seen = seen.clone();
            async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                socket.send("up".into()).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Close(Some(frame)) = message {
                        seen.send(u16::from(frame.code)).unwrap();
                    }
                }
            }
        })
        .await;
        let mut gateway = Gateway::start(&config(&format!("{{ window: 0s, code: {code} }}"), &[backend.address])).await;
        let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
        socket.next().await.unwrap().unwrap();
        gateway.signal("TERM");
        assert_eq!(closed(&mut socket).await.0, code);
        assert_eq!(codes.recv().await, Some(code));
        assert_eq!(gateway.ended().await, Some(0));
        gateway.access.find(&["tunnel_end", "reason=shutdown", &format!("close_code={code}"), "by=gateway"]).await;
    }
}

#[tokio::test]
async fn tunnels_are_closed_one_by_one_over_the_window() {
    const TUNNELS: usize = 200;
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ window: 20s }", &[echo.address()])).await;
    let mut open_tunnels = Vec::new();
    for key in 0..TUNNELS {
        let (mut socket, _) = open(&gateway, &key.to_string()).await;
        open_tunnels.push(tokio::spawn(async move { closed(&mut socket).await.0 }));
    }
    let mut drain = Control::ask(&gateway, DRAIN).await;
    let mut seen = Vec::new();
    // Three different numbers, each strictly between all and none: neither one burst nor two.
    while seen.len() < 3 {
        let progress = drain.next().await;
        assert_eq!(progress["reply"], "progress", "after {seen:?}");
        let left = progress["tunnels"].as_u64().unwrap() as usize;
        assert!(seen.last().is_none_or(|before| left <= *before));
        if left > 0 && left < TUNNELS && seen.last() != Some(&left) {
            seen.push(left);
        }
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    let mut said_goodbye = 0;
    for tunnel in open_tunnels {
        // The tunnels whose turn had not come were cut off.
        said_goodbye += usize::from(tunnel.await.is_ok_and(|code| code == 1001));
    }
    assert!(said_goodbye >= TUNNELS - seen[2], "{said_goodbye} Close frames, {seen:?} left");
}

#[tokio::test]
async fn bytes_in_flight_arrive_before_the_close_frame() {
    const SIZE: usize = 8 << 20;
    let backend = Backend::start(|stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.send("up".into()).await.unwrap();
        // More than all buffers on the way hold, and the client does not read: the frame is on its way for long.
        let _ = socket.send(vec![b'x'; SIZE].into()).await;
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[backend.address])).await;
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let way = "longhaul_tunnel_bytes_total{direction=\"to_client\",upstream=\"u\"}";
    within("the message to be on its way", async { while gateway.metric(way).await < 100_000.0 {} }).await;
    gateway.signal("TERM");
    refuses(&gateway).await;
    let (code, before) = closed(&mut socket).await;
    assert_eq!(code, 1001);
    assert_eq!(before.iter().map(|message| message.len()).collect::<Vec<_>>(), [SIZE]);
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn a_request_under_way_is_answered_whole() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let backend = Backend::start(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
            told.notified().await;
            stream.write_all(b"5\r\n last\r\n0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[backend.address])).await;
    let mut answer = reqwest::get(format!("http://{}/", gateway.address())).await.unwrap();
    let mut body = answer.chunk().await.unwrap().unwrap().to_vec();
    gateway.signal("TERM");
    refuses(&gateway).await;
    let status = longhaul(&gateway, &["status", "--json"]).await.json();
    assert_eq!((&status["phase"], &status["requests"]), (&"closing".into(), &1.into()));
    go.notify_one();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    assert_eq!(body, b"first last");
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(gateway.log.count(&["cut off"]), 0);
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_head_finishes_it_and_is_answered() {
    let backend = Backend::start(move |mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole").await.unwrap();
    })
    .await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[backend.address])).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    // The answer shows that the client before this one was accepted.
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.text(), "whole");
    gateway.signal("TERM");
    refuses(&gateway).await;
    client.send("st: lab\r\n").await;
    let status = longhaul(&gateway, &["status", "--json"]).await.json();
    assert_eq!((&status["phase"], &status["requests"]), (&"closing".into(), &1.into()));
    client.send("\r\n").await;
    assert_eq!(client.answer().await.text(), "whole");
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(gateway.log.count(&["cut off"]), 0);
}

#[tokio::test]
async fn a_tunnel_whose_handshake_was_under_way_is_closed_too() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let backend = Backend::start(move |stream| {
        let told = Arc::clone(&told);
        async move {
            told.notified().await;
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        }
    })
    .await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[backend.address])).await;
    let url = format!("ws://{}/", gateway.address());
    let client = tokio::spawn(async move { connect_async(url).await.unwrap().0 });
    gateway
        .metric_becomes(&format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", backend.address), 1.0)
        .await;
    gateway.signal("TERM");
    refuses(&gateway).await;
    go.notify_one();
    let mut socket = client.await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 1001);
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn the_command_shows_how_far_it_is_and_ends_with_the_gateway() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[echo.address()])).await;
    let (mut socket, _) = open(&gateway, "a").await;
    let client = tokio::spawn(async move { closed(&mut socket).await.0 });
    let said = longhaul(&gateway, &["drain"]).await;
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert!(said.out.contains("1 tunnel and 0 requests left"), "{said:?}");
    assert!(said.out.ends_with("nothing is left to serve; the gateway ends\n"), "{said:?}");
    assert_eq!(client.await.unwrap(), 1001);
    assert_eq!(gateway.ended().await, Some(0));
    assert!(!crate::lab::control_socket(&gateway).exists());
}

#[tokio::test]
async fn the_command_speaks_json() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[echo.address()])).await;
    let said = longhaul(&gateway, &["drain", "--json"]).await;
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, steps) = lines.split_last().unwrap();
    assert_eq!((said.code, &last["reply"]), (Some(0), &"done".into()));
    assert!(steps.iter().all(|step| step["reply"] == "progress" && step["tunnels"] == 0), "{said:?}");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn while_it_drains_it_follows_no_other_command_and_more_may_watch() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ grace: 1h }", &[echo.address()])).await;
    let begun = longhaul(&gateway, &["drain", "--no-wait"]).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let seconds = begun.out.split("listeners close in ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(seconds.is_some_and(|seconds: u64| (3_000..=3_600).contains(&seconds)), "{begun:?}");
    let mut watcher = Control::ask(&gateway, DRAIN).await;
    assert_eq!(watcher.next().await["phase"], "grace");
    let refused = longhaul(&gateway, &["drain", "backend", &format!("u/{}", echo.address())]).await;
    assert_eq!((refused.code, &*refused.err), (Some(1), "longhaul: the gateway is draining, and ends\n"));
    let status = longhaul(&gateway, &["status"]).await;
    assert!(status.out.starts_with("state        draining: not ready any more, still accepting\n"), "{status:?}");
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_cut_off() {
    let backend = Backend::start(|mut stream| async move {
        let mut request = [0; 4096];
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    // Ten seconds are added to grace and window.
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[backend.address])).await;
    let request = tokio::spawn(reqwest::get(format!("http://{}/", gateway.address())));
    gateway
        .metric_becomes(&format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", backend.address), 1.0)
        .await;
    let said = longhaul(&gateway, &["drain"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.err, "longhaul: the deadline has come: 0 tunnels and 1 request are cut off\n");
    assert_eq!(gateway.ended().await, Some(0));
    within("the request's end", request).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_client_that_never_answers_its_close_frame_holds_nothing_up() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{ window: 0s }", &[echo.address()])).await;
    // Opened, and never read again.
    let (_socket, _) = open(&gateway, "a").await;
    let said = longhaul(&gateway, &["drain"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(gateway.log.count(&["deadline"]), 0);
}
