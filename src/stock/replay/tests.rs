//! Messages that `replay` keeps, repeats and swallows.

use proptest::prelude::*;

use crate::hook::testing::{Harness, Sent, Stopped, TestTunnel};
use crate::hook::{Item, Loss, Reattach};

use super::*;

mod ready;

const GRAPHQL: &str = "protocol: graphql-ws";

/// A tunnel and its hooks.
struct Talk {
    harness: Harness,
    tunnel: TestTunnel,
}

async fn open(with: &str) -> Talk {
    let harness = Harness::new::<Replay>(with).unwrap();
    let tunnel = harness.open().await.unwrap();
    Talk { harness, tunnel }
}

/// Messages of the client's pass, whatever they are.
async fn says(talk: &mut Talk, texts: &[&str]) {
    for text in texts {
        let verdict = talk.tunnel.message(Direction::ToBackend, Message::text(*text)).await;
        assert_eq!(verdict, Ok(Verdict::Pass), "{text}");
    }
}

/// Tells whether the client gets what its backend says.
async fn hears(talk: &mut Talk, text: &str) -> bool {
    match talk.tunnel.message(Direction::ToClient, Message::text(text)).await.unwrap() {
        Verdict::Pass => true,
        Verdict::Drop => false,
        other => panic!("{other:?}"),
    }
}

/// Texts that the next backend is sent first, while the gateway still has `held` messages of the client's.
async fn repeated(talk: &mut Talk, held: u64) -> Vec<String> {
    let change = talk.tunnel.reattach(Reattach::new(1, Loss::Leaving, held)).await.unwrap();
    assert_eq!((change.refusal(), change.holds_client()), (None, false));
    let texts = change.messages().iter().map(|(direction, message)| {
        assert_eq!(*direction, Direction::ToBackend);
        message.as_text().unwrap().to_owned()
    });
    texts.collect()
}

/// The same for a protocol with a greeting: the rest follows the `answer` to it, which the client gets or not.
async fn greeted(talk: &mut Talk, held: u64, answer: &str, reaches: bool) -> Vec<String> {
    let change = talk.tunnel.reattach(Reattach::new(1, Loss::Leaving, held)).await.unwrap();
    assert_eq!((change.refusal(), change.holds_client()), (None, true));
    assert_eq!(talk.harness.sent(), [], "nothing follows before the answer");
    assert_eq!(hears(talk, answer).await, reaches);
    let sent = talk.harness.sent();
    let [Sent { item: Item::GoOn(rest), .. }] = &sent[..] else { panic!("{sent:?}") };
    let greeting = change.messages().iter().map(|(_, message)| message);
    greeting.chain(rest).map(|message| message.as_text().unwrap().to_owned()).collect()
}

const INIT: &str = r#"{"type":"connection_init","payload":{"token":"t"}}"#;
const ACK: &str = r#"{"type":"connection_ack"}"#;

fn subscribe(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"subscribe","payload":{{"query":"subscription {{ greetings }}"}}}}"#)
}

fn complete(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"complete"}}"#)
}

#[tokio::test]
async fn the_greeting_and_open_subscriptions_are_repeated_and_the_answer_reaches_the_client_once() {
    let mut talk = open(GRAPHQL).await;
    let subscriptions = ["1", "2", "3"].map(subscribe);
    says(&mut talk, &[INIT]).await;
    assert!(hears(&mut talk, ACK).await);
    says(&mut talk, &subscriptions.each_ref().map(String::as_str)).await;
    says(&mut talk, &[&complete("2")]).await;
    assert!(hears(&mut talk, &complete("3")).await);
    for _ in 0..3 {
        assert_eq!(greeted(&mut talk, 0, ACK, false).await, [INIT.to_owned(), subscriptions[0].clone()]);
        assert!(hears(&mut talk, r#"{"id":"1","type":"next","payload":{}}"#).await);
    }
}

#[tokio::test]
async fn an_answer_that_the_client_has_not_had_passes() {
    let mut talk = open(GRAPHQL).await;
    says(&mut talk, &[INIT]).await;
    assert_eq!(greeted(&mut talk, 0, ACK, true).await, [INIT]);
    assert_eq!(greeted(&mut talk, 0, ACK, false).await, [INIT]);
}

#[tokio::test]
async fn what_the_gateway_still_has_is_not_sent_twice() {
    let mut talk = open(GRAPHQL).await;
    let last = subscribe("1");
    says(&mut talk, &[INIT, &last]).await;
    assert_eq!(greeted(&mut talk, 1, ACK, true).await, [INIT]);
    assert_eq!(greeted(&mut talk, 0, ACK, false).await, [INIT.to_owned(), last]);
    assert_eq!(repeated(&mut talk, 9).await, [""; 0]);
}

#[tokio::test]
async fn the_first_messages_are_repeated_whatever_they_say() {
    let mut talk = open("{ first: 2, first_answers: 1 }").await;
    says(&mut talk, &["login ada", "room 7", "hello"]).await;
    assert!(hears(&mut talk, "welcome").await);
    assert!(hears(&mut talk, "news").await);
    assert_eq!(greeted(&mut talk, 0, "welcome back", false).await, ["login ada", "room 7"]);
    assert!(hears(&mut talk, "news").await);
}

#[tokio::test]
async fn rules_of_ones_own_go_by_any_field() {
    let with = "{ first: 1, json: { type: op, id: args.channel, keep: [{ types: [join, watch], until: [part], \
                answers: [joined] }] } }";
    let mut talk = open(with).await;
    let join = |channel: &str| format!(r#"{{"op":"join","args":{{"channel":{channel}}}}}"#);
    says(&mut talk, &[r#"{"op":"join"}"#, &join("1"), &join("\"1\""), &join("2"), &join("2")]).await;
    says(&mut talk, &[r#"{"op":"part","args":{"channel":2}}"#]).await;
    assert!(hears(&mut talk, r#"{"op":"joined","args":{"channel":1}}"#).await);
    assert_eq!(repeated(&mut talk, 0).await, [r#"{"op":"join"}"#.to_owned(), join("1"), join("\"1\"")]);
    assert!(hears(&mut talk, r#"{"op":"joined","args":{"channel":"1"}}"#).await);
    assert!(!hears(&mut talk, r#"{"args":{"channel":1},"op":"joined"}"#).await);
}

#[tokio::test]
async fn a_tunnel_that_exceeds_a_bound_goes_on_and_is_not_carried_to_another_backend() {
    for with in ["{ protocol: graphql-ws, max_size: 1KiB }", "{ protocol: graphql-ws, max_messages: 4 }"] {
        let mut talk = open(with).await;
        says(&mut talk, &[INIT]).await;
        for number in 0..20 {
            says(&mut talk, &[&subscribe(&number.to_string())]).await;
        }
        assert!(hears(&mut talk, ACK).await);
        let full = "what is to be kept exceeds the bound";
        assert_eq!(talk.tunnel.log().unwrap(), [("replay_off", full.to_owned())], "{with}");
        let refused = talk.tunnel.reattach(Reattach::new(1, Loss::Crash, 0)).await.unwrap();
        assert_eq!(refused.refusal(), Some(full));
        assert_eq!(talk.tunnel.message(Direction::ToClient, Message::text(ACK)).await, Err(Stopped::Ended));
    }
}

#[tokio::test]
async fn a_message_that_is_sent_anew_needs_no_more_room() {
    let mut talk = open("{ protocol: graphql-ws, max_messages: 1 }").await;
    for _ in 0..100 {
        says(&mut talk, &[INIT]).await;
    }
    assert_eq!(greeted(&mut talk, 0, ACK, true).await, [INIT]);
}

#[tokio::test]
async fn what_is_kept_moves_to_another_process() {
    let mut talk = open(GRAPHQL).await;
    says(&mut talk, &[INIT, &subscribe("ä")]).await;
    assert!(hears(&mut talk, ACK).await);
    assert_eq!(greeted(&mut talk, 0, ACK, false).await.len(), 2);
    let harness = Harness::new::<Replay>(GRAPHQL).unwrap();
    let tunnel = talk.tunnel.hand_over(&harness).unwrap();
    let mut moved = Talk { harness, tunnel };
    assert_eq!(greeted(&mut moved, 0, ACK, false).await, [INIT.to_owned(), subscribe("ä")]);
}

#[test]
fn settings_that_make_no_sense_are_told() {
    for (with, told) in [
        ("{}", "nothing would be kept: give `protocol`, `first` or `json`"),
        ("{ protocol: mqtt, first: 1 }", "protocol: it brings its rules"),
        ("{ protocol: mqttt }", "protocol"),
        ("first_answers: 1", "nothing would be kept"),
        ("{ first_answers: 1, json: { keep: [{ types: [a] }] } }", "first_answers: nothing is answered"),
        ("first: 65", "first: it is at most 64"),
        ("{ first: 1, max_size: 1MiB }", "max_size: it is 1KiB to 128KiB"),
        ("{ first: 1, max_messages: 0 }", "max_messages: it is 1 to 4096"),
        ("json: { keep: [] }", "json.keep: it has 1 to 64 rules"),
        ("json: { keep: [{ types: [] }] }", "json.keep[0].types: nothing would be kept by it"),
        ("json: { keep: [{ types: [a], greets: true }] }", "json.keep[0].greets: nothing answers it"),
        ("json: { type: a..b, keep: [{ types: [a] }] }", "json.type: it names a field"),
        ("json: { id: type, keep: [{ types: [a] }] }", "json.id: it is the field with the type"),
        ("json: { keep: [{ typs: [a] }] }", "did you mean `types`?"),
    ] {
        let problems = Harness::new::<Replay>(with).unwrap_err().to_string();
        assert!(problems.contains(told), "{with}: {problems}");
    }
}

/// A step of a conversation.
#[derive(Clone, Debug)]
enum Step {
    Subscribe(u8),
    /// By the client or the server.
    Complete(u8, Direction),
    Chat,
    Reattach,
}

fn step() -> impl Strategy<Value = Step> {
    let direction = prop_oneof![Just(Direction::ToBackend), Just(Direction::ToClient)];
    prop_oneof![
        (0..6_u8).prop_map(Step::Subscribe),
        (0..6_u8, direction).prop_map(|(id, by)| Step::Complete(id, by)),
        Just(Step::Chat),
        Just(Step::Reattach),
    ]
}

proptest! {
    /// Whatever is subscribed to and completed, the next server knows what the client believes, and no greeting is
    /// answered twice.
    #[test]
    fn the_next_backend_knows_what_the_client_believes(steps in prop::collection::vec(step(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut talk = open(GRAPHQL).await;
            let mut open_ones: Vec<u8> = Vec::new();
            says(&mut talk, &[INIT]).await;
            assert!(hears(&mut talk, ACK).await);
            for step in steps {
                match step {
                    Step::Subscribe(id) if open_ones.contains(&id) => {}
                    Step::Subscribe(id) => {
                        says(&mut talk, &[&subscribe(&id.to_string())]).await;
                        open_ones.push(id);
                    }
                    Step::Complete(id, by) => {
                        let verdict = talk.tunnel.message(by, Message::text(complete(&id.to_string()))).await;
                        assert_eq!(verdict, Ok(Verdict::Pass));
                        open_ones.retain(|known| *known != id);
                    }
                    Step::Chat => says(&mut talk, &[r#"{"type":"ping"}"#]).await,
                    Step::Reattach => {
                        let known = open_ones.iter().map(|id| subscribe(&id.to_string()));
                        let expected: Vec<String> = [INIT.to_owned()].into_iter().chain(known).collect();
                        assert_eq!(greeted(&mut talk, 0, ACK, false).await, expected);
                    }
                }
            }
        });
    }

    /// Any bytes pass through any rules unharmed.
    #[test]
    fn bytes_that_fit_no_rule_pass(
        with in prop::sample::select(vec![GRAPHQL, "protocol: stomp", "protocol: phoenix", "first: 3"]),
        messages in prop::collection::vec((any::<bool>(), "\\PC{0,40}"), 0..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut talk = open(with).await;
            for (to_client, text) in messages {
                let direction = if to_client { Direction::ToClient } else { Direction::ToBackend };
                assert_eq!(talk.tunnel.message(direction, Message::text(text)).await, Ok(Verdict::Pass));
            }
            talk.tunnel.reattach(Reattach::new(1, Loss::Crash, 0)).await.unwrap();
        });
    }
}
