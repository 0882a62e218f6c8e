//! Promises of settings to the types that read them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::*;
use crate::config::{self, KnownHooks};

fn settings(text: &str) -> Settings {
    Settings::parse(text).unwrap()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    settings(text).read().map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>()).unwrap()
}

/// The problems of `text` as a `T`.
fn said<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> Vec<String> {
    settings(text).read::<T>().unwrap_err().iter().map(Problem::to_string).collect()
}

#[derive(Debug, PartialEq, Deserialize)]
struct Keys {
    file: String,
    #[serde(default, alias = "count")]
    number: u8,
}

#[test]
fn settings_go_from_thread_to_thread() {
    fn goes<T: Send + Sync + Clone + 'static>(_: T) {}
    goes(Settings::empty());
}

#[test]
fn no_settings_are_a_mapping_without_keys() {
    for empty in [Settings::empty(), settings(""), settings("# nothing"), settings("{}"), settings("~")] {
        assert_eq!(empty, Settings::default());
        assert_eq!(empty.read(), Ok(()));
        assert_eq!(empty.read(), Ok(HashMap::<String, String>::new()));
        let [missing] = &empty.read::<Keys>().unwrap_err()[..] else { panic!("one key is required") };
        assert_eq!((missing.path.as_str(), missing.message.as_str()), ("file", "missing"));
    }
}

#[test]
fn a_text_that_is_no_yaml_is_refused() {
    let problems = Settings::parse("a: [").unwrap_err();
    assert_eq!(problems.iter().len(), 1);
}

#[test]
fn a_key_may_have_another_name() {
    assert_eq!(read::<Keys>("{ file: a, count: 3 }"), Keys { file: "a".into(), number: 3 });
    let twice = said::<Keys>("{ file: a, count: 3, number: 4 }");
    assert_eq!(twice, ["1:1: `number` is given twice, perhaps by another name of it"]);
}

#[test]
fn texts_take_every_scalar_as_it_is_written() {
    let texts: Vec<String> = read("[abc, 007, 1.50, true, '', \"~\", 0x1F, 2026-01-01]");
    assert_eq!(texts, ["abc", "007", "1.50", "true", "", "~", "0x1F", "2026-01-01"]);
}

#[test]
fn what_serde_takes_as_it_comes_is_typed_by_the_core_schema() {
    let text = "[1, -1, 0x10, 1.5, 'true', True, ~, no, 007, 18446744073709551615, { 1: a }, [], .5e1]";
    let typed = json!([1, -1, 16, 1.5, "true", true, null, "no", "007", u64::MAX, { "1": "a" }, [], 5.0]);
    assert_eq!(read::<Json>(text), typed);
}

#[test]
fn whole_numbers_keep_within_their_types() {
    assert_eq!(
        read::<(i64, u64, i128, u128)>(&format!("[{}, {}, {}, {}]", i64::MIN, u64::MAX, i128::MIN, u128::MAX)),
        (i64::MIN, u64::MAX, i128::MIN, u128::MAX)
    );
    assert_eq!(read::<Vec<u8>>("[-0, +255, 0xff, 0o17]"), [0, 255, 255, 15]);
    let beyond = said::<i64>("9223372036854775808");
    let bounds = "a whole number from -9223372036854775808 to 9223372036854775807";
    assert_eq!(beyond, [format!("1:1: `9223372036854775808` is out of bounds\n  expected: {bounds}")]);
    assert_eq!(said::<u8>("0x100"), ["1:1: `0x100` is out of bounds\n  expected: a whole number from 0 to 255"]);
}

#[test]
fn nothing_is_none_and_anything_else_is_some() {
    let options: Vec<Option<String>> = read("[~, '~', a]");
    assert_eq!(options, [None, Some("~".into()), Some("a".into())]);
}

#[test]
fn every_value_that_does_not_fit_is_told_at_once() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is never read whole")]
    struct Both {
        keys: Vec<Keys>,
        pair: (u8, bool),
    }
    let text = "keys:\n  - file: [a]\n    nummer: 1\n  - { file: a, number: x }\n  - 7\npair: [1000, maybe]\n";
    let places: Vec<_> =
        settings(text).read::<Both>().unwrap_err().into_iter().map(|it| (it.line, it.column, it.path)).collect();
    let expected = [
        (2, 11, "keys[0].file"),
        (3, 5, "keys[0].nummer"),
        (4, 24, "keys[1].number"),
        (5, 5, "keys[2]"),
        (6, 8, "pair[0]"),
        (6, 14, "pair[1]"),
    ];
    assert_eq!(places, expected.map(|(line, column, path)| (line, column, path.to_owned())));
}

/// A type with a rule of its own: one of two keys is required.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
#[expect(dead_code, reason = "it is never read whole")]
struct OneOf(Written);

#[derive(Debug, Deserialize)]
struct Written {
    file: Option<Keys>,
    text: Option<String>,
}

impl TryFrom<Written> for OneOf {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.file.is_some() == written.text.is_some() {
            return Err("\u{1b}[1mneither or both\n  expected: one of file, text\n  add one of them".into());
        }
        Ok(Self(written))
    }
}

#[test]
fn the_words_of_a_type_are_told_at_the_innermost_value_without_what_a_terminal_obeys() {
    let told = "1:10: inner: \\u{1b}[1mneither or both\n  expected: one of file, text\n  add one of them";
    assert_eq!(said::<BTreeMap<String, OneOf>>("{ inner: {} }"), [told]);
}

#[test]
fn a_type_that_was_shown_less_than_was_written_is_not_believed() {
    let problems = said::<OneOf>("{ file: { file: [] } }");
    assert_eq!(problems, ["1:17: file.file: a list does not fit here\n  expected: a string"]);
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    limits: Limits,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Limits {
    every: Option<Period>,
    most: Option<u8>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Tagged {
    Fixed { number: u8 },
}

#[test]
fn what_serde_keeps_to_itself_is_read_and_told_at_the_mapping_it_stands_in() {
    let flat = read::<Flat>("{ name: a, every: 5m, passed: over }");
    let limits = Limits { every: Some(Period(Duration::from_secs(300))), most: None };
    assert_eq!(flat, Flat { name: "a".into(), limits });
    let number = "1:1: integer `5` does not fit here\n  expected: a duration from 0s to 365d, such as `5m`";
    assert_eq!(said::<Flat>("{ name: a, every: 5 }"), [number]);
    assert_eq!(said::<Flat>("{ name: a, most: x }"), ["1:1: string \"x\" does not fit here\n  expected: u8"]);

    assert_eq!(read::<Tagged>("{ kind: fixed, number: 3 }"), Tagged::Fixed { number: 3 });
    let unknown = "1:16: nummer: unknown key\n  expected: `number`\n  did you mean `number`?";
    assert_eq!(said::<Tagged>("{ kind: fixed, nummer: 3 }"), [unknown]);
    let kind = "1:9: kind: `fxed` is not known here\n  expected: `fixed`\n  did you mean `fixed`?";
    assert_eq!(said::<Tagged>("{ kind: fxed }"), [kind]);
}

#[test]
fn quantities_are_read_from_other_formats_too() {
    let size: (Size, Cidr) = serde_json::from_str(r#"["64KiB", "10.0.0.0/8"]"#).unwrap();
    assert_eq!(size, (Size(65_536), Cidr("10.0.0.0/8".parse().unwrap())));
    let error = serde_json::from_str::<Period>("\"soon\"").unwrap_err().to_string();
    assert!(error.starts_with("`soon` is not a duration\n  expected: a duration from 0s to 365d"), "{error}");
    let wrong = "1:1: a list does not fit here\n  expected: a duration from 0s to 365d, such as `5m`";
    assert_eq!(said::<Period>("[]"), [wrong]);
}

#[test]
fn equal_is_what_means_the_same() {
    let one = "a: text # a comment\nb: [1, { c: ~ }]\n";
    assert_eq!(settings(one), settings("{ b: [1, { 'c': ~ }], a: \"text\" }"));
    let others = [
        "{ b: ['1', { c: ~ }], a: text }",
        "{ b: [{ c: ~ }, 1], a: text }",
        "{ a: text }",
        "[a, b]",
        "{ a: text, b: 1 }",
    ];
    for other in others {
        assert_ne!(settings(one), settings(other));
    }
}

#[test]
fn what_shows_later_is_told_where_it_was_written() {
    let text = "listeners: [{ address: 127.0.0.1:0 }]
upstreams: { chat: { backends: [127.0.0.1:9001] } }
routes:
  - upstream: chat
    hooks:
      - hook: keys
        with:
          keys:
            - file: one.pem
            - file: two.pem
      - keys
";
    struct Any;
    impl KnownHooks for Any {
        fn names(&self) -> Vec<&str> {
            vec!["keys"]
        }
        fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
            Ok(())
        }
    }
    let config = config::parse(text, &Any).unwrap().config;
    let [written, left_out] = config.routes[0].hooks.as_slice() else { panic!("two hooks") };
    let told = |settings: &Settings, field| settings.problem(field, "no such file\n").to_string();
    let with = "routes[0].hooks[0].with";
    assert_eq!(told(&written.settings, "keys[1].file"), format!("10:21: {with}.keys[1].file: no such file\\n"));
    assert_eq!(told(&written.settings, "keys[2].file"), format!("9:13: {with}.keys[2].file: no such file\\n"));
    assert_eq!(told(&written.settings, ""), format!("8:11: {with}: no such file\\n"));
    assert_eq!(told(&left_out.settings, "keys"), "11:9: routes[0].hooks[1].with.keys: no such file\\n");
    assert_eq!(told(&settings("{ a: b }"), "a"), "1:6: a: no such file\\n");
}

#[test]
fn an_alias_is_what_it_stands_for() {
    let both: BTreeMap<String, Vec<Keys>> = read("a: &a [{ file: x }]\nb: *a\n");
    assert_eq!(both["a"], both["b"]);
}

#[test]
fn of_many_wrong_values_the_first_are_told() {
    let wrong = |count: usize| said::<Vec<u8>>(&format!("[{}]", "x, ".repeat(count))).len();
    assert_eq!((wrong(20), wrong(100), wrong(1_000_000)), (20, 32, 1));
}

/// A long text repeated by aliases would cost a type that keeps copies all memory there is.
#[test]
fn a_text_cannot_be_repeated_beyond_all_memory() {
    let text = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1_000));
    let problems = Settings::parse(&text).unwrap_err().to_string();
    assert!(problems.contains("too many values, those repeated by aliases included"), "{problems}");
}

fn json_values() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[ -~äö€\n\t]{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map("[a-z0-9: ]{0,6}", inner, 0..6)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    /// JSON is YAML (YAML 1.2.2 §1.2).
    #[test]
    fn json_is_read_as_what_it_is(value in json_values()) {
        let read = settings(&value.to_string()).read::<Json>();
        let expected = if value.is_null() { json!({}) } else { value };
        prop_assert_eq!(read, Ok(expected));
    }
}
