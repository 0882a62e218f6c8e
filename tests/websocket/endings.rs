//! How tunnels end, what each side is told, and that nothing of them is left.

use crate::wire::{Frame, From, Manual, Wire, all_ended, close, frame, gateway, has, switching, text, tunnel, upgrade};

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
    while tokio::io::AsyncWriteExt::write_all(&mut server.stream, &text(From::Backend, "news")).await.is_ok() {
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
        // Whether the 101 could still be written is the kernel's word; either way there is one account of it.
        let accounts = async {
            while gateway.access.count(&[" tunnel_end "]) + gateway.access.count(&[" request ", "status=499"]) == 0 {
                tokio::task::yield_now().await;
            }
        };
        crate::support::within("a line in the access log", accounts).await;
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
    assert_eq!(gateway.metric("longhaul_tunnels_opened_total{upstream=\"u\"}").await, 2.0);
    for reason in ["backend_gone", "client_gone"] {
        let name = format!("longhaul_tunnels_ended_total{{reason=\"{reason}\",upstream=\"u\"}}");
        assert_eq!(gateway.metric(&name).await, 1.0, "{reason}");
    }
}
