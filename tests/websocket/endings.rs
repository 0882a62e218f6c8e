//! Ends of tunnels: the words that each side gets, and nothing left behind.

use tokio::io::AsyncWriteExt;

use crate::support::{Gateway, within};
use crate::wire::{
    Frame, From, Manual, Wire, all_ended, close, configuration, frame, gateway, has, switching, text, tunnel, upgrade,
};

#[tokio::test]
async fn a_close_frame_passes_untouched_and_its_code_is_logged() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let goodbye = frame(From::Client, 0x88, &[&4001_u16.to_be_bytes(), "äußerst müde".as_bytes()].concat());
    client.send(&goodbye).await;
    assert_eq!(server.exactly(goodbye.len()).await, goodbye, "the mask too is the client's own");
    let answer = close(From::Backend, 4001);
    server.send(&answer).await;
    server.finish().await;
    assert_eq!(client.rest().await, answer);
    assert_eq!(server.rest().await, b"");
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["close_code=4001", "by=client", "reason=client_close", "messages_from_client=0"]);
    let bytes = format!("bytes_from_client={}", goodbye.len());
    has(&end, &[&bytes, "bytes_from_backend=4", "messages_from_backend=0"]);
    let open = gateway.access.find(&[" tunnel_open "]).await;
    let of = |line: &str, name: &str| line.split(' ').find_map(|part| part.strip_prefix(name).map(str::to_owned));
    for name in ["request_id=", "client=", "peer=", "route=", "upstream=", "backend=", "key_source="] {
        assert!(of(&open, name).is_some() && of(&open, name) == of(&end, name), "{name}: {open} / {end}");
    }
}

#[tokio::test]
async fn a_close_frame_of_the_backends_passes_untouched() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let goodbye = frame(From::Backend, 0x88, &[&3999_u16.to_be_bytes()[..], &[b'x'; 123]].concat());
    server.send(&goodbye).await;
    assert_eq!(client.exactly(goodbye.len()).await, goodbye);
    client.send(close(From::Client, 3999)).await;
    server.frame().await;
    server.finish().await;
    assert_eq!(client.rest().await, b"");
    has(&all_ended(&gateway, backend.address(), 1).await, &["close_code=3999", "by=backend", "reason=backend_close"]);
}

#[tokio::test]
async fn a_backend_lost_at_a_frame_boundary_gives_the_client_1014_and_then_the_end() {
    type Loss = fn(Wire);
    for lose in [drop as Loss, Wire::reset] {
        let mut backend = Manual::start().await;
        let gateway = gateway(&[backend.address()], "").await;
        let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
        server.send(text(From::Backend, "last words")).await;
        assert_eq!(client.frame().await.payload, b"last words");
        lose(server);
        assert_eq!(client.frame().await, Frame::close_to_client(1014, "backend_gone"));
        assert_eq!(client.rest().await, b"");
        drop(client);
        let end = all_ended(&gateway, backend.address(), 1).await;
        has(&end, &["close_code=1006", "by=backend", "reason=backend_gone", "bytes_from_backend=12"]);
    }
}

#[tokio::test]
async fn a_backend_lost_inside_a_frame_gives_the_client_the_bare_end() {
    type Loss = fn(Wire);
    for lose in [drop as Loss, Wire::reset] {
        let mut backend = Manual::start().await;
        let gateway = gateway(&[backend.address()], "").await;
        let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
        let begun = text(From::Backend, "never to be ended");
        server.send(&begun[..7]).await;
        assert_eq!(client.exactly(7).await, begun[..7]);
        lose(server);
        assert_eq!(client.rest().await, b"", "a Close frame here would be read as payload");
        drop(client);
        let end = all_ended(&gateway, backend.address(), 1).await;
        has(&end, &["close_code=1006", "by=backend", "reason=backend_gone", "messages_from_backend=0"]);
    }
}

#[tokio::test]
async fn a_client_that_vanishes_is_the_end_for_the_backend() {
    type Loss = fn(Wire);
    let whole = text(From::Client, "whole");
    for lose in [drop as Loss, Wire::reset] {
        // Between the 101 and the first byte; behind a message; in the middle of one.
        for sent in [&[][..], &whole, &[whole.as_slice(), &whole[..5]].concat()] {
            let mut backend = Manual::start().await;
            let gateway = gateway(&[backend.address()], "").await;
            let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
            client.send(sent).await;
            assert_eq!(server.exactly(sent.len()).await, sent);
            lose(client);
            assert_eq!(server.rest().await, b"");
            drop(server);
            let end = all_ended(&gateway, backend.address(), 1).await;
            let bytes = format!("bytes_from_client={}", sent.len());
            has(&end, &["close_code=1006", "by=client", "reason=client_gone", &bytes]);
        }
    }
}

#[tokio::test]
async fn a_client_that_vanishes_under_a_backend_that_only_sends_is_noticed() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (client, mut server) = tunnel(&gateway, &mut backend).await;
    client.reset();
    let mut sent = 0;
    while server.stream.write_all(&text(From::Backend, "news")).await.is_ok() {
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 10_000_000, "the backend is never told");
    }
    has(&all_ended(&gateway, backend.address(), 1).await, &["by=client", "reason=client_gone"]);
}

#[tokio::test]
async fn a_client_that_vanishes_during_the_handshake_leaves_nothing() {
    type Loss = fn(Wire);
    for lose in [drop as Loss, Wire::reset] {
        let mut backend = Manual::start().await;
        let gateway = gateway(&[backend.address()], "").await;
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("")).await;
        let mut server = backend.next().await;
        server.head().await;
        lose(client);
        server.send(switching("")).await;
        server.gone().await;
        drop(server);
        for gauge in ["longhaul_backend_tunnels", "longhaul_backend_load"] {
            let name = format!("{gauge}{{backend=\"{}\",upstream=\"u\"}}", backend.address());
            gateway.metric_becomes(&name, 0.0).await;
        }
        // The kernel may or may not take the 101; either way the tunnel is logged and counted once.
        let accounts = async {
            while gateway.access.count(&[" tunnel_end "]) + gateway.access.count(&[" request ", "status=499"]) == 0 {
                tokio::task::yield_now().await;
            }
        };
        within("a line in the access log", accounts).await;
        assert_eq!(gateway.access.count(&[" tunnel_open "]), gateway.access.count(&[" tunnel_end "]));
        assert_eq!(gateway.log.count(&["failed with"]), 0, "a client that left is no failure");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_before_its_request_is_whole_reaches_no_backend() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(&upgrade("").as_bytes()[..60]).await;
    drop(client);
    tunnel(&gateway, &mut backend).await;
    assert_eq!(backend.backend.accepted(), 1);
}

#[tokio::test]
async fn both_sides_gone_at_once_leave_nothing() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    for number in 0..20 {
        let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
        client.send(text(From::Client, "crossing")).await;
        server.send(text(From::Backend, "crossing")).await;
        if number % 2 == 0 {
            client.reset();
            server.reset();
        }
    }
    all_ended(&gateway, backend.address(), 20).await;
}

#[tokio::test]
async fn every_reason_is_counted() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, server) = tunnel(&gateway, &mut backend).await;
    drop(server);
    client.gone().await;
    drop(client);
    let (client, mut server) = tunnel(&gateway, &mut backend).await;
    drop(client);
    server.gone().await;
    drop(server);
    all_ended(&gateway, backend.address(), 2).await;
    gateway.metric_becomes("longhaul_tunnels_opened_total{upstream=\"u\"}", 2.0).await;
    for reason in ["backend_gone", "client_gone"] {
        let name = format!("longhaul_tunnels_ended_total{{reason=\"{reason}\",upstream=\"u\"}}");
        gateway.metric_becomes(&name, 1.0).await;
    }
}

#[tokio::test]
async fn the_end_of_the_gateway_closes_tunnels_with_1001() {
    let mut backend = Manual::start().await;
    let yaml = configuration(&[backend.address()], "") + "grace_period_seconds: 1\n";
    let mut gateway = Gateway::start(&yaml).await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    gateway.signal("TERM");
    assert_eq!(client.frame().await, Frame::close_to_client(1001, "shutdown"));
    assert_eq!(server.frame().await, Frame::close_to_backend(1001, "shutdown"));
    client.send(close(From::Client, 1001)).await;
    server.send(close(From::Backend, 1001)).await;
    assert_eq!(client.rest().await, b"");
    assert_eq!(gateway.ended().await, Some(0));
    has(&gateway.access.find(&[" tunnel_end "]).await, &["close_code=1001", "by=gateway", "reason=shutdown"]);
}

#[tokio::test]
async fn a_tunnel_cut_off_by_sigint_is_accounted_for() {
    let mut backend = Manual::start().await;
    let mut gateway = gateway(&[backend.address()], "").await;
    let (mut client, _server) = tunnel(&gateway, &mut backend).await;
    client.send(text(From::Client, "counted")).await;
    gateway.metric_becomes("longhaul_tunnel_messages_total{direction=\"to_backend\",upstream=\"u\"}", 1.0).await;
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
    has(&gateway.access.find(&[" tunnel_end "]).await, &["reason=shutdown", "messages_from_client=1"]);
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_the_user_timeout_is_taken_for_gone() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { tcp_user_timeout: 1s }\n").await;
    let (client, mut server) = tunnel(&gateway, &mut backend).await;
    let message = frame(From::Backend, 0x82, &[0; 65_535]);
    while server.stream.write_all(&message).await.is_ok() {}
    drop(server);
    has(&all_ended(&gateway, backend.address(), 1).await, &["by=client", "reason=client_gone", "close_code=1006"]);
    drop(client);
}

/// Plays one side of a tunnel at random until it leaves.
async fn misbehave(mut side: Wire, from: From, mut dice: impl FnMut(u32) -> u32) {
    loop {
        let length = dice(2100) as usize;
        match dice(8) {
            0 => return side.reset(),
            1 => return,
            2 => return side.gone().await,
            3 if dice(4) == 0 => {
                side.finish().await;
                return side.gone().await;
            }
            4 if side.stream.write_all(&text(from, "cut short")[..5]).await.is_err() => return,
            5 if side.stream.write_all(&close(from, 1000)).await.is_err() => return,
            _ if side.stream.write_all(&frame(from, 0x82, &vec![0; length])).await.is_err() => return,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_300_tunnels_whose_sides_misbehave_at_random_nothing_is_left() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { idle: 2s, ping: 1s, max_message: 2KiB }\n").await;
    let mut sides = tokio::task::JoinSet::new();
    // Numerical Recipes' generator: a fixed sequence, different for each side.
    let dice = |mut state: u32| {
        move |sides: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % sides
        }
    };
    for number in 0..300 {
        let (client, server) = tunnel(&gateway, &mut backend).await;
        sides.spawn(misbehave(client, From::Client, dice(number)));
        sides.spawn(misbehave(server, From::Backend, dice(number + 1000)));
    }
    within("every side's end", sides.join_all()).await;
    all_ended(&gateway, backend.address(), 300).await;
    assert_eq!(gateway.log.count(&["panicked"]), 0);
}
