//! The names of types: a name stands for one idea, so it is defined once.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{files, is_test, without_tests};
use super::word;

/// Rooms whose types are named for something that exists elsewhere under the same name.
const ROOMS: [&str; 3] = [
    // A value of the file is named for its key, and so is the part of the gateway that the key configures.
    "config/model/",
    // The same file, as the conversion writes it.
    "convert/model.rs",
    // A backend with clients: another program than the gateway.
    "demo/",
];

/// Names that are the same word by right.
const SAME_WORD: [&str; 4] = [
    // Every stock hook has a context, `Hook::Context`; `hook/erased.rs` has it without its type.
    "Context",  // The gateway as a program embeds it, and as Pingora calls it.
    "Gateway",  // Every stock hook has settings, `Hook::Settings`; `config` reads them all.
    "Settings", // A tunnel as hooks see it, and as its worker has it.
    "Tunnel",
];

/// The type that a line defines for more than its own file.
fn defined(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => rest,
    };
    let rest = rest.strip_prefix(' ')?;
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    kinds.iter().find_map(|kind| rest.strip_prefix(kind)).map(word)
}

/// The files that define each name. A type that is private to its file is nobody else's word.
fn definitions(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<&str>> {
    let mut definitions: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let files = files.iter().filter(|(file, _)| !is_test(file) && !ROOMS.iter().any(|room| file.starts_with(room)));
    for (file, text) in files {
        for name in without_tests(text).lines().filter_map(defined) {
            definitions.entry(name).or_default().insert(file);
        }
    }
    definitions
}

#[test]
fn a_name_stands_for_one_type() {
    let files = files();
    let mut twice = definitions(&files);
    twice.retain(|_, files| files.len() > 1);
    let by_right: Vec<&str> = twice.keys().map(String::as_str).filter(|name| SAME_WORD.contains(name)).collect();
    assert_eq!(by_right, SAME_WORD, "SAME_WORD lists names that are defined more than once, in order");
    twice.retain(|name, _| !SAME_WORD.contains(&name.as_str()));
    assert_eq!(twice, BTreeMap::new(), "another idea needs another name; the same idea needs one type");
}

#[test]
fn the_test_of_names_sees_every_way_to_define_a_type() {
    let names = |text: &str| text.lines().filter_map(defined).collect::<Vec<_>>().join(" ");
    assert_eq!(names("pub struct A<'a> {\npub(super) enum B {\n    pub(in crate::c) trait C: D {"), "A B C");
    assert_eq!(names("pub type A = B;\npub(crate) union C {"), "A C");
    assert_eq!(names("struct A;\n// pub struct B\npub fn c() {\npub const D: E = F;\npublic struct G"), "");
}
