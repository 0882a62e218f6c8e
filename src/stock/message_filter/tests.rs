//! Which messages `message_filter` lets pass, and what it makes of them.

#[cfg(feature = "json-schema")]
use std::fs;

use proptest::prelude::*;

use crate::hook::testing::Harness;

use super::*;

fn harness(with: &str) -> Harness {
    Harness::new::<MessageFilter>(with).unwrap()
}

/// Fate of each message of a client, in a tunnel of its own.
async fn judged(harness: &Harness, message: Message) -> Verdict {
    harness.open().await.unwrap().message(Direction::ToBackend, message).await.unwrap()
}

async fn said(with: &str, text: &str) -> Verdict {
    judged(&harness(with), Message::text(text)).await
}

fn code(verdict: &Verdict) -> Option<u16> {
    match verdict {
        Verdict::Close { code, .. } => Some(*code),
        _ => None,
    }
}

#[tokio::test]
async fn messages_pass_up_to_their_size() {
    assert_eq!(said("max_size: 5B", "12345").await, Verdict::Pass);
    assert_eq!(said("max_size: 5B", "123456").await, Verdict::close(1009, "the message is too long"));
}

#[tokio::test]
async fn messages_pass_by_their_type() {
    for (types, of_text, of_binary) in [("text", None, Some(1003)), ("binary", Some(1003), None)] {
        let harness = harness(&format!("types: [{types}]"));
        assert_eq!(code(&judged(&harness, Message::text("a")).await), of_text);
        assert_eq!(code(&judged(&harness, Message::binary("a")).await), of_binary);
    }
}

#[tokio::test]
async fn messages_that_are_no_json_are_refused() {
    for (text, refused) in [
        ("{\"a\": [1, 2.5e3, null, \"\\u00e4\"]}", None),
        ("\"text\"", None),
        (" 1 ", None),
        ("", Some(1007)),
        ("{\"a\": 1} {}", Some(1007)),
        ("{a: 1}", Some(1007)),
        ("[1,]", Some(1007)),
    ] {
        assert_eq!(code(&said("json: required", text).await), refused, "{text}");
    }
    assert_eq!(judged(&harness("json: required"), Message::binary("[1]")).await, Verdict::Pass);
}

#[cfg(feature = "json-schema")]
#[tokio::test]
async fn messages_that_do_not_fit_the_schema_are_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    let schema = r##"{
        "type": "object",
        "required": ["type", "room"],
        "properties": {
            "type": { "enum": ["join", "say"] },
            "room": { "$ref": "#/$defs/name" },
            "text": { "type": "string", "maxLength": 10 }
        },
        "additionalProperties": false,
        "$defs": { "name": { "type": "string", "pattern": "^[a-z]+$" } }
    }"##;
    fs::write(&file, schema).unwrap();
    let with = format!("schema_file: {}", file.display());
    for (text, verdict) in [
        (r#"{"type": "say", "room": "a", "text": "hi"}"#, Verdict::Pass),
        (r#"{"type": "say"}"#, Verdict::close(1008, "the message does not fit the schema")),
        (r#"{"type": "say", "room": "A"}"#, Verdict::close(1008, "the message does not fit the schema at /room")),
        (r#"{"type": "say", "room": "a", "x": 1}"#, Verdict::close(1008, "the message does not fit the schema")),
        ("[]", Verdict::close(1008, "the message does not fit the schema")),
        ("say", Verdict::close(1007, "the message is not JSON")),
    ] {
        assert_eq!(said(&with, text).await, verdict, "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(code(&said(&with, &deep).await), Some(1007), "what is nested too deep is refused, not followed");
}

#[tokio::test]
async fn messages_with_a_denied_pattern_are_refused() {
    let with = r"deny: ['(?i)\bsecret\b', '\d{16}']";
    assert_eq!(said(with, "no secrets here, 123").await, Verdict::Pass);
    for text in ["my SECRET", "card 1234567812345678"] {
        assert_eq!(said(with, text).await, Verdict::close(1008, "the message is not acceptable"));
    }
}

#[tokio::test]
async fn what_is_searched_does_not_hide_in_binary_messages_unless_they_are_named() {
    for with in ["deny: [secret]", "replace: [{ pattern: secret, with: '***' }]"] {
        assert_eq!(code(&judged(&harness(with), Message::binary("secret")).await), Some(1003), "{with}");
        let named = harness(&format!("{{ {with}, types: [text, binary] }}"));
        assert_eq!(judged(&named, Message::binary("secret")).await, Verdict::Pass);
    }
}

#[tokio::test]
async fn patterns_are_replaced_one_after_the_other() {
    let with = r"replace: [{ pattern: '(\w+)@(\w+\.\w+)', with: '$1@***' }, { pattern: bob, with: 'äöü' }]";
    assert_eq!(
        said(with, "write to bob@example.org, bob").await,
        Verdict::Replace(Message::text("write to äöü@***, äöü"))
    );
    assert_eq!(said(with, "nothing here").await, Verdict::Pass);
    assert_eq!(
        said("replace: [{ pattern: '\\s*$', with: '' }]", "ends ").await,
        Verdict::Replace(Message::text("ends"))
    );
    assert_eq!(said("replace: [{ pattern: 'x*', with: '-' }]", "ä").await, Verdict::Replace(Message::text("-ä-")));
}

#[tokio::test]
async fn a_message_does_not_grow_without_end() {
    let with = format!("replace: [{{ pattern: 'a{{1000}}', with: '{}' }}]", "$0".repeat(100));
    assert_eq!(said(&with, &"a".repeat(1_000_000)).await, Verdict::close(1009, "the message became too long"));
}

#[tokio::test]
async fn long_messages_are_judged_as_short_ones() {
    for length in [LONGEST_AT_ONCE, LONGEST_AT_ONCE + 1, 1 << 20] {
        let text = "a".repeat(length - 1);
        assert_eq!(said("deny: [b]", &format!("{text}a")).await, Verdict::Pass);
        assert_eq!(code(&said("deny: [b]", &format!("{text}b")).await), Some(1008));
    }
}

#[tokio::test]
async fn a_violation_closes_drops_or_is_replied_to() {
    for (with, verdict) in [
        ("{ max_size: 1B, code: 4000 }", Verdict::close(4000, "the message is too long")),
        ("{ max_size: 1B, on_violation: drop }", Verdict::Drop),
        ("{ max_size: 1B, on_violation: { reply: 'too long' } }", Verdict::Reply(Message::text("too long"))),
    ] {
        assert_eq!(said(with, "ab").await, verdict);
    }
}

#[test]
fn only_the_direction_that_is_asked_for_is_seen() {
    for (with, seen) in [
        ("max_size: 1B", Messages::TO_BACKEND),
        ("{ max_size: 1B, direction: to_client }", Messages::TO_CLIENT),
        ("{ types: [text], direction: both }", Messages::BOTH),
        ("json: required", Messages::TO_BACKEND.awaited()),
        ("{ deny: [a], direction: both }", Messages::BOTH.awaited()),
    ] {
        assert_eq!(harness(with).messages(), seen, "{with}");
    }
}

#[test]
fn settings_that_make_no_sense_are_told_with_their_place() {
    for (with, complaint) in [
        ("{}", "1:1: every message would pass"),
        ("types: [text, binary]", "1:1: every message would pass"),
        ("types: []", "1:8: types: no message could ever pass"),
        ("types: [json]", "expected: one of text, binary"),
        ("{ types: [binary], deny: [a] }", "`deny` and `replace` are about text messages"),
        ("deny: [a, '(']", "1:11: deny[1]: it is not a regular expression: unclosed group"),
        ("deny: ['(a)\\1']", "deny[0]: it is not a regular expression: backreferences are not supported"),
        ("deny: ['a*']", "1:8: deny[0]: it is found in every text"),
        ("replace: [{ pattern: '[', with: '' }]", "1:22: replace[0].pattern: it is not a regular expression"),
        ("deny: ['(\\w{1000}){1000}']", "it is not a regular expression"),
        ("{ json: required, on_violation: refuse }", "expected: one of close, drop, reply"),
        ("{ json: required, on_violation: reply }", "`reply` needs a value"),
        ("{ json: required, code: 1002 }", "1:25: code: 1002 is not a code to close with"),
        ("{ json: required, code: 4000, on_violation: drop }", "a code goes with `on_violation: close` alone"),
        ("schema_file: /nowhere/schema.json", "schema_file: "),
        ("max_sise: 1B", "did you mean `max_size`?"),
    ] {
        let said = Harness::new::<MessageFilter>(with).unwrap_err().to_string();
        assert!(said.contains(complaint), "{with}\n{said}");
    }
}

#[cfg(feature = "json-schema")]
#[test]
fn a_file_that_is_no_schema_is_refused_and_nothing_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    for (schema, complaint) in [
        ("{", "is not JSON"),
        (r#"{ "type": "text" }"#, "is not a schema, at `/type`"),
        (r#"{ "pattern": "(?=a)b" }"#, "is not a schema"),
        (r#"{ "$ref": "https://example.com/schema.json" }"#, "is not a schema"),
        (r#"{ "$ref": "file:///etc/passwd" }"#, "is not a schema"),
    ] {
        let file = folder.path().join("schema.json");
        fs::write(&file, schema).unwrap();
        let said = Harness::new::<MessageFilter>(&format!("schema_file: {}", file.display())).unwrap_err().to_string();
        assert!(said.contains("1:14: schema_file: ") && said.contains(complaint), "{schema}\n{said}");
    }
}

proptest! {
    // Each case makes four hooks.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replacing_is_what_the_crate_regex_says_it_is(text in "[a-cä ]{0,20}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (pattern, with) in [("a(b?)", "<$1>"), ("b*", "-"), ("ä|c$", ""), (r"\b", "|")] {
            let with_settings = format!("replace: [{{ pattern: '{pattern}', with: '{with}' }}]");
            let replaced = regex::Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
            match runtime.block_on(said(&with_settings, &text)) {
                Verdict::Pass => prop_assert_eq!(&replaced, &text),
                Verdict::Replace(message) => prop_assert_eq!(message.as_text(), Some(replaced.as_str())),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
