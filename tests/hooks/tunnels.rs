//! A tunnel's beginning and end as hooks see them, and what reaches it from outside.

use crate::support::within;
use crate::talk::{BOTH, Ends, Talk, other};
use crate::wire::{self, From, Wire};

/// A tunnel through which two messages of the client's and one of the backend's have passed.
async fn used(talk: &mut Talk, path: &str, name: &str) -> Ends {
    let (client, server) = talk.open(path, &format!("X-Request-Id: {name}.\r\n")).await;
    let mut ends = Ends(client, server);
    for from in [From::Client, From::Backend, From::Client] {
        ends.say(from, "hello").await;
        ends.expect(other(from), 0x81, "hello").await;
    }
    ends
}

#[tokio::test]
async fn a_hook_that_opens_a_tunnel_speaks_first() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async", "/unseen"] {
        let (client, server) = talk.open(path, "X-Open: welcome to all\r\n").await;
        let mut ends = Ends(client, server);
        for to in BOTH {
            ends.expect(to, 0x81, "to all").await;
        }
    }
}

#[tokio::test]
async fn a_hook_that_closes_a_tunnel_while_it_opens_does_so_with_its_own_code() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async", "/unseen"] {
        let (client, server) = talk.open(path, "X-Open: close not now\r\n").await;
        Ends(client, server).expect_close(4003, "not now").await;
    }
    talk.gateway.access.find_nth(&["tunnel_end", "close_code=4003 by=gateway reason=hook_closed"], 2).await;
}

#[tokio::test]
async fn hooks_are_told_of_every_end_once_with_its_reason_and_counts() {
    let mut talk = Talk::start().await;
    let mut told = Vec::new();
    for path in ["/sync", "/async", "/unseen"] {
        for (who, reason) in [(From::Client, "client_close"), (From::Backend, "backend_close")] {
            let mut ends = used(&mut talk, path, reason).await;
            for who in [who, other(who)] {
                ends.send(who, wire::close(who, 4000)).await;
                ends.expect(other(who), 0x88, 4000_u16.to_be_bytes()).await;
            }
            told.push((format!("{reason} 4000, 2 up, 1 down"), reason));
        }
        for (who, reason) in [(From::Client, "client_gone"), (From::Backend, "backend_gone")] {
            let Ends(client, server) = used(&mut talk, path, reason).await;
            let (gone, mut left) = if who == From::Client { (client, server) } else { (server, client) };
            gone.reset();
            left.gone().await;
            told.push((format!("{reason} 1006, 2 up, 1 down"), reason));
        }
        if path != "/unseen" {
            let mut ends = used(&mut talk, path, "hook_closed").await;
            ends.say(From::Client, "close 4001 enough").await;
            ends.expect_close(4001, "enough").await;
            told.push(("hook_closed 4001, 2 up, 1 down".to_owned(), "hook_closed"));
        }
    }
    let _open = used(&mut talk, "/sync", "shutdown").await;
    told.push(("shutdown 1006, 2 up, 1 down".to_owned(), "shutdown"));
    // Waits for these lines, since the end of the process could cut them off.
    for (index, (line, name)) in told.iter().enumerate().take(told.len() - 1) {
        let before = told[..index].iter().filter(|(this, _)| this == line).count();
        talk.gateway.log.find_nth(&["x was closed: ", line, &format!(" of {name}.")], before).await;
    }
    talk.gateway.signal("INT");
    let lines = talk.gateway.log.to_the_end().await;
    let closed: Vec<_> = lines.iter().filter(|line| line.contains("was closed")).collect();
    assert_eq!(closed.len(), told.len(), "{closed:#?}");
    let (line, name) = &told[told.len() - 1];
    assert!(closed.iter().any(|this| this.contains(line) && this.contains(name)), "{closed:#?}");
    talk.gateway.access.to_the_end().await;
    assert_eq!(talk.gateway.access.count(&["tunnel_end"]), told.len());
}

#[tokio::test]
async fn hooks_are_told_of_tunnels_that_end_because_nothing_comes() {
    let mut talk = Talk::start_with("x", "    tunnel: { idle: 1s }\n").await;
    for path in ["/sync", "/async", "/unseen"] {
        let (client, server) = talk.open(path, "X-Request-Id: idle.\r\n").await;
        Ends(client, server).expect_close(1001, "idle").await;
    }
    talk.gateway.log.find_nth(&["x was closed: idle 1001, 0 up, 0 down, seen 0, of idle."], 2).await;
}

#[tokio::test]
async fn what_a_hook_adds_stands_at_the_end_of_the_tunnels_line() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async", "/both"] {
        let mut ends = used(&mut talk, path, "me").await;
        ends.send(From::Client, wire::close(From::Client, 1000)).await;
        ends.send(From::Backend, wire::close(From::Backend, 1000)).await;
    }
    talk.gateway.access.find_nth(&["tunnel_end request_id=me. ", " reason=client_close seen=3"], 2).await;
    let both = talk.gateway.access.find(&["tunnel_end", "route=\"* /both\""]).await;
    assert!(both.ends_with(" reason=client_close seen=3 seen=3"), "{both}");
}

/// Makes a hook act on tunnels, and returns the number of tunnels it acted on.
async fn push(through: &mut Wire, what: &str) -> usize {
    through.send(wire::text(From::Client, &format!("push {what}"))).await;
    let text = String::from_utf8(through.frame().await.payload).unwrap();
    text.strip_prefix("pushed to ").unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn tunnels_are_reached_from_outside_by_id_key_and_route_and_all_together() {
    let mut talk = Talk::start().await;
    let (mut pusher, _server) = talk.open("/up", "").await;
    let mut tunnels = Vec::new();
    for (path, key) in [("/sync", "k1"), ("/sync", "k2"), ("/async", "k1"), ("/unseen", "k2"), ("/plain", "k1")] {
        let (client, server) = talk.open(path, &format!("X-Key: {key}\r\n")).await;
        let mut ends = Ends(client, server);
        // Only a message shows that a tunnel is open: the 101 is sent before that.
        ends.say(From::Client, "hello").await;
        ends.expect(From::Backend, 0x81, "hello").await;
        tunnels.push(ends);
    }
    tunnels[0].say(From::Client, "id").await;
    let id = String::from_utf8(tunnels[0].0.frame().await.payload).unwrap();

    assert_eq!(push(&mut pusher, &format!("id {id} by id")).await, 1);
    tunnels[0].expect(From::Client, 0x81, "by id").await;
    assert_eq!(push(&mut pusher, "id 0000000000000000 by id").await, 0);

    assert_eq!(push(&mut pusher, "key k1 up by key").await, 2);
    for index in [0, 2] {
        tunnels[index].expect(From::Backend, 0x81, "by key").await;
    }
    assert_eq!(push(&mut pusher, "key k3 up by key").await, 0);

    assert_eq!(push(&mut pusher, "route /sync by route").await, 2);
    for index in [0, 1] {
        tunnels[index].expect(From::Client, 0x81, "by route").await;
    }
    assert_eq!(push(&mut pusher, "route /plain by route").await, 0, "no hook, nothing to be found by");

    assert_eq!(push(&mut pusher, "all - up everybody").await, 5, "the pusher too");
    for tunnel in &mut tunnels[..4] {
        tunnel.expect(From::Backend, 0x81, "everybody").await;
    }

    assert_eq!(push(&mut pusher, "key k2 kick 4009").await, 2);
    for index in [1, 3] {
        tunnels[index].expect_close(4009, "kicked").await;
    }
    assert_eq!(push(&mut pusher, "key k2 kick 4009").await, 0, "they are gone");
    talk.gateway.access.find_nth(&["tunnel_end", "close_code=4009 by=gateway reason=hook_closed"], 1).await;
}

#[tokio::test]
async fn what_comes_from_outside_waits_for_the_end_of_a_message_that_passes_unseen() {
    let mut talk = Talk::start().await;
    let (mut pusher, _server) = talk.open("/up", "").await;
    let (client, server) = talk.open("/unseen", "X-Key: k\r\n").await;
    let mut ends = Ends(client, server);
    ends.send(From::Backend, wire::frame(From::Backend, 0x01, b"one, ")).await;
    ends.expect(From::Client, 0x01, "one, ").await;
    assert_eq!(push(&mut pusher, "key k between").await, 1);
    ends.send(From::Backend, wire::frame(From::Backend, 0x80, b"two")).await;
    ends.expect(From::Client, 0x80, "two").await;
    ends.expect(From::Client, 0x81, "between").await;
}

#[tokio::test]
async fn a_gateway_that_drains_ends_tunnels_with_hooks_and_tells_them() {
    let mut talk = Talk::start().await;
    let mut ends = used(&mut talk, "/async", "drained").await;
    talk.gateway.signal("TERM");
    ends.expect_close(1001, "shutdown").await;
    talk.gateway.log.find(&["x was closed: shutdown 1001, 2 up, 1 down, seen 3, of drained."]).await;
    assert_eq!(within("the end", talk.gateway.ended()).await, Some(0));
}
