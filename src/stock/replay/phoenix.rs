//! Rules for Phoenix channels, version 2 of their messages: `[join_ref, ref, topic, event, payload]`.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::memory::{Keep, MemoryNote, MessageKey};
use crate::hook::Direction;

/// Adds to `notes` what a message means: a topic is kept from its join until it is left or closed.
pub(super) fn read(direction: Direction, payload: &[u8], notes: &mut Vec<MemoryNote>) {
    let Ok((_, number, topic, event, _)) = serde_json::from_slice::<Array<'_, IgnoredAny>>(payload) else { return };
    let number = number.map(|Text(number)| MessageKey::new(REPLY, &number));
    let topic = MessageKey::new(TOPIC, &topic.0);
    match (direction, &*event.0) {
        (Direction::ToBackend, "phx_join") => {
            notes.push(MemoryNote::Keep(Keep { key: topic, answer: number, greets: false }))
        }
        (Direction::ToBackend, "phx_leave") | (Direction::ToClient, "phx_close" | "phx_error") => {
            notes.push(MemoryNote::Forget(topic));
        }
        (Direction::ToClient, "phx_reply") => {
            let is_refused =
                serde_json::from_slice::<Array<'_, Reply<'_>>>(payload).is_ok_and(|it| it.4.status.0 != "ok");
            notes.extend(number.map(if is_refused { MemoryNote::Refusal } else { MemoryNote::Answer }));
        }
        _ => {}
    }
}

type Array<'m, P> = (IgnoredAny, Option<Text<'m>>, Text<'m>, Text<'m>, P);

#[derive(Deserialize)]
struct Text<'m>(#[serde(borrow)] Cow<'m, str>);

#[derive(Deserialize)]
struct Reply<'m> {
    #[serde(borrow)]
    status: Text<'m>,
}

const TOPIC: usize = 0;
const REPLY: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(direction: Direction, text: &str) -> Vec<MemoryNote> {
        let mut notes = Vec::new();
        read(direction, text.as_bytes(), &mut notes);
        notes
    }

    #[test]
    fn a_topic_is_kept_from_its_join_until_its_end() {
        let (topic, reply) = (MessageKey::new(TOPIC, "room:\"1\""), MessageKey::new(REPLY, "4"));
        let keep = MemoryNote::Keep(Keep { key: topic.clone(), answer: Some(reply.clone()), greets: false });
        assert_eq!(notes(Direction::ToBackend, r#"["4","4","room:\"1\"","phx_join",{}]"#), [keep]);
        let reply_with =
            |status: &str| format!(r#"["4","4","room","phx_reply",{{"response":{{}},"status":"{status}"}}]"#);
        assert_eq!(notes(Direction::ToClient, &reply_with("ok")), [MemoryNote::Answer(reply.clone())]);
        assert_eq!(notes(Direction::ToClient, &reply_with("error")), [MemoryNote::Refusal(reply)]);
        let over = [MemoryNote::Forget(topic)];
        assert_eq!(notes(Direction::ToBackend, r#"["4","5","room:\"1\"","phx_leave",{}]"#), over);
        assert_eq!(notes(Direction::ToClient, r#"["4",null,"room:\"1\"","phx_error",{}]"#), over);
    }

    #[test]
    fn everything_else_means_nothing() {
        for text in
            [r#"[null,"6","phoenix","heartbeat",{}]"#, r#"{"event":"phx_join"}"#, "[", r#"["4","4","a","phx_join"]"#]
        {
            assert_eq!(notes(Direction::ToBackend, text), [], "{text}");
        }
    }
}
