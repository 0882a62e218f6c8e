//! Limits of open tunnels, on the gateway's own clock; unit tests with a clock of their own cover the details.

use crate::support::within;
use crate::wire::{Frame, From, Manual, Wire, all_ended, close, frame, gateway, has, text, tunnel};

/// Reads and answers the gateway's Close frame on both sides; then both see the end.
async fn closes(client: &mut Wire, server: &mut Wire, code: u16, word: &str) {
    assert_eq!(client.frame().await, Frame::close_to_client(code, word));
    assert_eq!(server.frame().await, Frame::close_to_backend(code, word));
    client.send(close(From::Client, code)).await;
    server.send(close(From::Backend, code)).await;
    assert_eq!(client.rest().await, b"");
    assert_eq!(server.rest().await, b"");
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_with_1001_both_ways() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { idle: 1s }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    closes(&mut client, &mut server, 1001, "idle").await;
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["close_code=1001", "by=gateway", "reason=idle", "bytes_from_client=0", "bytes_from_backend=0"]);
}

#[tokio::test]
async fn a_frame_under_way_is_ended_before_the_close() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { idle: 3s }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let message = text(From::Client, "begun before, ended after");
    client.send(&message[..10]).await;
    assert_eq!(client.frame().await, Frame::close_to_client(1001, "idle"));
    client.send(&message[10..]).await;
    assert_eq!(server.exactly(message.len()).await, message);
    assert_eq!(server.frame().await, Frame::close_to_backend(1001, "idle"));
    client.send(close(From::Client, 1001)).await;
    server.send(close(From::Backend, 1001)).await;
    server.gone().await;
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=idle", "messages_from_client=1"]);
}

#[tokio::test]
async fn sides_that_do_not_answer_the_close_are_cut_off() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { idle: 3s }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let begun = text(From::Backend, "never to be ended");
    server.send(&begun[..6]).await;
    assert_eq!(client.rest().await, begun[..6], "no Close inside a frame, but the end all the same");
    assert_eq!(server.frame().await, Frame::close_to_backend(1001, "idle"));
    server.gone().await;
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=idle", "close_code=1001"]);
}

#[tokio::test]
async fn max_age_closes_a_tunnel_that_is_never_idle() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { max_age: 1s }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let busy = async {
        loop {
            client.send(text(From::Client, "busy")).await;
            let next = server.frame().await;
            if next.first == 0x88 {
                return next;
            }
        }
    };
    assert_eq!(within("a Close frame", busy).await, Frame::close_to_backend(1001, "max_age"));
    assert_eq!(client.frame().await, Frame::close_to_client(1001, "max_age"));
    drop((client, server));
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=max_age", "by=gateway", "close_code=1001"]);
}

#[tokio::test]
async fn a_silent_side_is_pinged_for_as_long_as_it_answers() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { ping: 3s }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let payload = b"longhaul".to_vec();
    let mut pings = [0, 0];
    while pings.into_iter().min() < Some(2) {
        tokio::select! {
            got = client.frame() => if got.first == 0x89 {
                assert_eq!(got, Frame { first: 0x89, masked: false, payload: payload.clone() });
                client.send(frame(From::Client, 0x8A, &payload)).await;
                pings[0] += 1;
            },
            got = server.frame() => if got.first == 0x89 {
                assert_eq!(got, Frame { first: 0x89, masked: true, payload: payload.clone() });
                server.send(frame(From::Backend, 0x8A, &payload)).await;
                pings[1] += 1;
            },
        }
    }
    // The backend goes on answering, the client does not any more.
    let answering = async {
        loop {
            match server.frame().await {
                ping if ping.first == 0x89 => server.send(frame(From::Backend, 0x8A, &payload)).await,
                pong if pong.first == 0x8A => {}
                other => return other,
            }
        }
    };
    assert_eq!(within("a Close frame", answering).await, Frame::close_to_backend(1001, "ping_timeout"));
    drop((client, server));
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=ping_timeout", "by=gateway", "close_code=1001"]);
}

/// Sends to the client, which reads nothing, until the tunnel is gone.
async fn flood(server: &mut Wire) {
    let message = frame(From::Backend, 0x82, &[7; 64 * 1024]);
    let sent = async { while server.try_send(&message).await.is_ok() {} };
    within("the end of the tunnel", sent).await;
}

#[tokio::test]
async fn a_side_that_takes_nothing_ends_its_tunnel_as_stalled() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { stall: 1s, tcp_user_timeout: off }\n").await;
    let (_client, mut server) = tunnel(&gateway, &mut backend).await;
    flood(&mut server).await;
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["reason=stalled", "by=client", "close_code=1001"]);
}

#[tokio::test]
async fn a_side_that_the_system_gives_up_was_stalled_if_it_was_alive() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { stall: off, tcp_user_timeout: 2s }\n").await;
    let (_client, mut server) = tunnel(&gateway, &mut backend).await;
    flood(&mut server).await;
    has(&all_ended(&gateway, backend.address(), 1).await, &["reason=stalled", "by=client"]);
}

#[tokio::test]
async fn a_message_above_the_limit_is_answered_1009_and_never_reaches_the_backend() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { max_message: 1KiB }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let fits = frame(From::Client, 0x82, &[1; 1024]);
    client.send(&fits).await;
    assert_eq!(server.exactly(fits.len()).await, fits);
    client.send(frame(From::Client, 0x82, &[2; 1025])).await;
    closes(&mut client, &mut server, 1009, "message_too_big").await;
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["close_code=1009", "by=gateway", "reason=message_too_big", "messages_from_client=1"]);
}

#[tokio::test]
async fn a_fragmented_message_counts_as_a_whole_wherever_its_headers_are_split() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    tunnel: { max_message: 1KiB }\n").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    let first = frame(From::Backend, 0x02, &[1; 1000]);
    let second = frame(From::Backend, 0x80, &[1; 25]);
    server.send(&first).await;
    server.send(&second[..1]).await;
    assert_eq!(client.exactly(first.len() + 1).await, [&first[..], &second[..1]].concat());
    server.send(&second[1..]).await;
    assert_eq!(server.frame().await, Frame::close_to_backend(1009, "message_too_big"), "the sender is told");
    server.send(close(From::Backend, 1009)).await;
    client.send(close(From::Client, 1009)).await;
    assert_eq!(client.rest().await, b"", "behind the begun header nothing can be said");
    has(&all_ended(&gateway, backend.address(), 1).await, &["close_code=1009", "messages_from_backend=0"]);
}
