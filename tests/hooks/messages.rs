//! Verdicts on messages: every one of them, in either direction, by hooks of either kind.

use crate::talk::{BOTH, Ends, Talk, other};
use crate::wire::{self, From, frame};

/// Reads one whole message.
const FIN: u8 = 0x80;

#[tokio::test]
async fn every_verdict_is_carried_out_in_either_direction_for_text_and_binary() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async", "/strip"] {
        let (client, server) = talk.open(path, "").await;
        let mut ends = Ends(client, server);
        for from in BOTH {
            for kind in [1, 2] {
                let to = other(from);
                let say = |text: &str| frame(from, FIN | kind, text.as_bytes());
                ends.send(from, say("as it is")).await;
                ends.expect(to, FIN | kind, "as it is").await;
                ends.send(from, say("replace something else")).await;
                ends.expect(to, FIN | kind, "something else").await;
                ends.send(from, say("other kind")).await;
                ends.expect(to, FIN | (3 - kind), "kind").await;
                ends.send(from, [say("drop"), say("reply to you"), say("behind")].concat()).await;
                ends.expect(from, FIN | kind, "to you").await;
                ends.expect(to, FIN | kind, "behind").await;
                ends.send(from, say("replace")).await;
                ends.expect(to, FIN | kind, "").await;
            }
        }
    }
    for (verdict, count) in [("replace", 36.0), ("drop", 12.0), ("reply", 12.0)] {
        let line = format!("longhaul_hook_verdicts_total{{hook=\"talking\",phase=\"message\",verdict=\"{verdict}\"}}");
        talk.gateway.metric_becomes(&line, count).await;
    }
}

#[tokio::test]
async fn a_hook_closes_a_tunnel_with_a_code_and_a_reason_both_ways() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        for from in BOTH {
            for (told, code, reason) in [
                ("close 4001 token expired", 4001, "token expired"),
                ("close 1000", 1000, ""),
                ("close 1006 x", 1011, "x"),
            ] {
                let (client, server) = talk.open(path, "").await;
                let mut ends = Ends(client, server);
                ends.send(
                    from,
                    [wire::text(from, "before"), wire::text(from, told), wire::text(from, "after")].concat(),
                )
                .await;
                ends.expect(other(from), 0x81, "before").await;
                ends.expect_close(code, reason).await;
            }
        }
    }
    talk.gateway.access.find_nth(&["tunnel_end", "close_code=4001 by=gateway reason=hook_closed seen=2"], 3).await;
    // Two paths, two directions, three closes.
    talk.gateway.access.find_nth(&["tunnel_end"], 11).await;
    assert_eq!(talk.gateway.access.count(&["reason=hook_closed"]), 12);
}

#[tokio::test]
async fn a_hook_that_ends_its_tunnel_from_within_does_so_behind_what_has_passed() {
    let mut talk = Talk::start().await;
    for from in BOTH {
        let (client, server) = talk.open("/sync", "").await;
        let mut ends = Ends(client, server);
        ends.send(from, [wire::text(from, "before"), wire::text(from, "end")].concat()).await;
        ends.expect(other(from), 0x81, "before").await;
        ends.expect_close(4002, "by the tunnel").await;
    }
}

#[tokio::test]
async fn messages_pass_the_hooks_in_order_and_back_in_the_reverse_order() {
    let mut talk = Talk::start().await;
    let (client, server) = talk.open("/both", "").await;
    let mut ends = Ends(client, server);
    ends.say(From::Client, "sign").await;
    ends.expect(From::Backend, 0x81, "sign one two").await;
    ends.say(From::Backend, "sign").await;
    ends.expect(From::Client, 0x81, "sign two one").await;
    // No other hook sees the reply of a hook.
    ends.say(From::Client, "who").await;
    ends.expect(From::Client, 0x81, "one").await;
    ends.say(From::Backend, "who").await;
    ends.expect(From::Backend, 0x81, "two").await;
}

#[tokio::test]
async fn only_the_direction_that_a_hook_wants_to_see_is_shown_to_it() {
    let mut talk = Talk::start().await;
    for (path, seen) in [("/up", Some(From::Client)), ("/down", Some(From::Backend)), ("/unseen", None)] {
        let (client, server) = talk.open(path, "").await;
        let mut ends = Ends(client, server);
        for from in BOTH {
            ends.say(from, "sign").await;
            ends.expect(other(from), 0x81, if seen == Some(from) { "sign x" } else { "sign" }).await;
        }
    }
}

#[tokio::test]
async fn many_messages_in_one_chunk_keep_their_order() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async", "/both"] {
        let (client, server) = talk.open(path, "").await;
        let mut ends = Ends(client, server);
        for from in BOTH {
            let all = (0..500).map(|number| match number % 3 {
                0 => format!("replace n{number}"),
                1 => "drop".to_owned(),
                _ => format!("n{number}"),
            });
            ends.send(from, all.flat_map(|text| wire::text(from, &text)).collect::<Vec<_>>()).await;
            for number in (0..500).filter(|number| number % 3 != 1) {
                ends.expect(other(from), 0x81, format!("n{number}")).await;
            }
        }
    }
}

#[tokio::test]
async fn control_frames_between_fragments_pass_at_once_and_fragments_come_as_one_message() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        let (client, server) = talk.open(path, "").await;
        let mut ends = Ends(client, server);
        for from in BOTH {
            let to = other(from);
            ends.send(from, frame(from, 0x01, b"replace one")).await;
            ends.send(from, frame(from, 0x89, b"ping")).await;
            // The frame arrives before the message has ended.
            ends.expect(to, 0x89, "ping").await;
            ends.send(from, [frame(from, 0x00, b", two"), frame(from, 0x8A, b"pong")].concat()).await;
            ends.expect(to, 0x8A, "pong").await;
            ends.send(from, frame(from, 0x80, b", three")).await;
            ends.expect(to, 0x81, "one, two, three").await;
        }
    }
}

#[tokio::test]
async fn what_a_call_sends_goes_out_in_order_before_what_it_decides() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        let (client, server) = talk.open(path, "").await;
        let mut ends = Ends(client, server);
        for from in BOTH {
            let to = other(from);
            ends.say(from, "tell one tell two reply three").await;
            for text in ["one", "two", "three"] {
                ends.expect(from, 0x81, text).await;
            }
            ends.expect(to, 0x81, "one").await;
            ends.expect(to, 0x81, "two").await;
            // What came in the same packet before and after the call stays there.
            let packet = ["before", "tell one replace two", "after"].map(|text| wire::text(from, text)).concat();
            ends.send(from, packet).await;
            for text in ["before", "one", "two", "after"] {
                ends.expect(to, 0x81, text).await;
            }
            ends.expect(from, 0x81, "one").await;
            ends.say(from, "tell one drop").await;
            ends.expect(to, 0x81, "one").await;
            ends.expect(from, 0x81, "one").await;
        }
    }
}

#[tokio::test]
async fn what_a_call_sends_before_it_closes_the_tunnel_arrives_before_the_close_frame() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        for from in BOTH {
            for (say, reason) in [("tell one close 4001 bye", "4001 bye"), ("tell one end", "4002 by the tunnel")] {
                let (client, server) = talk.open(path, "").await;
                let mut ends = Ends(client, server);
                ends.say(from, say).await;
                for who in BOTH {
                    ends.expect(who, 0x81, "one").await;
                }
                let (code, reason) = reason.split_once(' ').unwrap();
                ends.expect_close(code.parse().unwrap(), reason).await;
            }
        }
    }
}

#[tokio::test]
async fn a_verdict_that_replies_and_closes_does_both_in_this_order() {
    let mut talk = Talk::start().await;
    for path in ["/sync", "/async"] {
        for from in BOTH {
            let (client, server) = talk.open(path, "").await;
            let mut ends = Ends(client, server);
            ends.say(from, "farewell 4004 that was enough").await;
            ends.expect(from, 0x81, "that was enough").await;
            ends.expect_close(4004, "farewell").await;
        }
    }
    let counted = "longhaul_hook_verdicts_total{hook=\"talking\",phase=\"message\",verdict=\"reply_and_close\"}";
    talk.gateway.metric_becomes(counted, 4.0).await;
}

#[tokio::test]
async fn what_a_call_sent_before_it_waits_arrives_while_it_waits() {
    let mut talk = Talk::start().await;
    let (client, server) = talk.open("/async", "").await;
    let mut ends = Ends(client, server);
    ends.say(From::Client, "hint").await;
    ends.expect(From::Client, 0x81, "a hint").await;
    talk.release("/async").await;
    ends.expect(From::Client, 0x81, "another").await;
    ends.expect(From::Client, 0x81, "done").await;
}
