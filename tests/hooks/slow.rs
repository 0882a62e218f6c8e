//! Slow hooks: they hold up their own tunnel and no other.

use tokio::io::AsyncWriteExt;

use crate::talk::{BOTH, Ends, Talk, other};
use crate::wire::{self, From, frame};

/// A tunnel whose hook is asked about a message from one side, and waits.
async fn waiting(talk: &mut Talk, from: From, behind: &[u8]) -> Ends {
    let before = talk.gateway.log.count(&["x waits"]);
    let (client, server) = talk.open("/async", "").await;
    let mut ends = Ends(client, server);
    ends.send(from, [wire::text(from, "wait here"), behind.to_vec()].concat()).await;
    talk.gateway.log.find_nth(&["x waits"], before).await;
    ends
}

#[tokio::test]
async fn a_hook_that_waits_holds_up_no_other_tunnel_of_its_worker() {
    let mut talk = Talk::start().await;
    for from in BOTH {
        let mut slow = waiting(&mut talk, from, &wire::text(from, "behind")).await;
        for path in ["/async", "/sync", "/plain"] {
            let (client, server) = talk.open(path, "").await;
            let mut ends = Ends(client, server);
            for from in BOTH {
                ends.say(from, "meanwhile").await;
                ends.expect(other(from), 0x81, "meanwhile").await;
            }
        }
        talk.release("/async").await;
        slow.expect(other(from), 0x81, "wait here").await;
        slow.expect(other(from), 0x81, "behind").await;
    }
}

#[tokio::test]
async fn pings_pass_a_hook_that_is_asked_about_the_other_direction() {
    let mut talk = Talk::start().await;
    for from in BOTH {
        let mut ends = waiting(&mut talk, from, &frame(from, 0x89, b"behind it")).await;
        let to = other(from);
        ends.send(to, [frame(to, 0x89, b"one"), frame(to, 0x8A, b"two")].concat()).await;
        ends.expect(from, 0x89, "one").await;
        ends.expect(from, 0x8A, "two").await;
        // A Ping between the fragments of a message passes, and the message waits its turn.
        ends.send(to, [frame(to, 0x01, b"half, "), frame(to, 0x89, b"three")].concat()).await;
        ends.expect(from, 0x89, "three").await;
        ends.send(to, [frame(to, 0x80, b"whole"), frame(to, 0x89, b"four")].concat()).await;
        talk.release("/async").await;
        ends.expect(to, 0x81, "wait here").await;
        ends.expect(to, 0x89, "behind it").await;
        ends.expect(from, 0x81, "half, whole").await;
        ends.expect(from, 0x89, "four").await;
    }
}

#[tokio::test]
async fn a_sender_whose_hook_waits_is_not_read_and_loses_nothing() {
    let mut talk = Talk::start().await;
    for from in BOTH {
        let mut ends = waiting(&mut talk, from, b"").await;
        let message = frame(from, 0x82, &[b'm'; 60_000]);
        let all = message.repeat(MESSAGES);
        let mut accepted = 0;
        let (other_client, other_server) = talk.open("/async", "").await;
        let mut meanwhile = Ends(other_client, other_server);
        {
            let sender = ends.of(from);
            let flood = async {
                while accepted < all.len() {
                    accepted += sender.stream.write(&all[accepted..]).await.unwrap();
                }
            };
            // Many turns of the worker and of the sender.
            let turns = async {
                for _ in 0..2_000 {
                    meanwhile.say(From::Client, "turn").await;
                    meanwhile.expect(From::Backend, 0x81, "turn").await;
                }
            };
            tokio::select! {
                () = flood => panic!("all of {} bytes were taken", all.len()),
                () = turns => {}
            }
        }
        // Upper bound: the buffers of both sockets and one chunk of the gateway's.
        assert!(accepted < 32 << 20, "{accepted} bytes were taken");
        talk.release("/async").await;
        let Ends(client, server) = ends;
        let (mut sender, mut receiver) = if from == From::Client { (client, server) } else { (server, client) };
        let rest = tokio::spawn(async move {
            sender.send(&all[accepted..]).await;
            sender
        });
        assert_eq!(receiver.frame().await.payload, b"wait here");
        for _ in 0..MESSAGES {
            let frame = receiver.frame().await;
            assert!(frame.first == 0x82 && frame.payload == [b'm'; 60_000]);
        }
        rest.await.unwrap();
    }
}

/// 60 MB: more than the buffers of a connection take.
const MESSAGES: usize = 1_000;

#[tokio::test]
async fn a_side_that_goes_while_a_hook_waits_ends_the_tunnel_once() {
    let mut talk = Talk::start().await;
    for (gone, reason) in [(From::Client, "client_gone"), (From::Backend, "backend_gone")] {
        let Ends(client, server) = waiting(&mut talk, From::Client, b"").await;
        let (gone, mut left) = if gone == From::Client { (client, server) } else { (server, client) };
        gone.reset();
        talk.release("/async").await;
        left.gone().await;
        let line = format!("x was closed: {reason} 1006, ");
        talk.gateway.log.find(&[&line, " seen 1, "]).await;
        assert_eq!(talk.gateway.log.count(&[&line, " seen 1, "]), 1);
    }
}

#[tokio::test]
async fn what_came_before_the_end_of_a_stream_passes_when_the_hook_is_done() {
    let mut talk = Talk::start().await;
    for from in BOTH {
        let mut ends = waiting(&mut talk, from, &[wire::text(from, "behind"), wire::close(from, 4000)].concat()).await;
        ends.of(from).finish().await;
        talk.release("/async").await;
        let to = other(from);
        ends.expect(to, 0x81, "wait here").await;
        ends.expect(to, 0x81, "behind").await;
        ends.expect(to, 0x88, 4000_u16.to_be_bytes()).await;
        assert_eq!(ends.of(to).rest().await, b"");
    }
}

#[tokio::test]
async fn messages_of_both_directions_wait_until_the_tunnel_was_opened() {
    let mut talk = Talk::start().await;
    let (client, server) = talk.open("/async", "X-Open: wait welcome\r\n").await;
    let mut ends = Ends(client, server);
    talk.gateway.log.find(&["x waits"]).await;
    for from in BOTH {
        ends.send(from, [frame(from, 0x89, b"ping"), wire::text(from, "early")].concat()).await;
    }
    talk.release("/async").await;
    for to in BOTH {
        ends.expect(to, 0x81, "welcome").await;
        ends.expect(to, 0x89, "ping").await;
        ends.expect(to, 0x81, "early").await;
    }
}
