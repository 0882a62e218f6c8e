//! Random text and mutated sources: a list of problems, or a file that the configuration's own parser takes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use longhaul::config::{KnownHooks, Problem, Settings};
use longhaul::convert::{ConvertError, Files, SourceFormat, convert};
use proptest::prelude::*;
use proptest::sample;

/// A folder in memory.
struct Folder(BTreeMap<PathBuf, String>);

impl Files for Folder {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn matching(&self, _: &Path) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name != "NONE").then(|| "1".to_owned())
    }
}

/// The stock hooks by name, whose settings are not looked at.
struct Names;

impl KnownHooks for Names {
    fn names(&self) -> Vec<&str> {
        vec!["headers", "ip_filter", "rate_limit"]
    }

    fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
        Ok(())
    }
}

/// Converts a text as each of the three; panics where the result is none that the gateway takes. Returns how many were
/// converted.
fn convertible(text: &str) -> usize {
    let files = Folder(BTreeMap::from([(PathBuf::from("main"), text.to_owned())]));
    let mut count = 0;
    for kind in [SourceFormat::Nginx, SourceFormat::Haproxy, SourceFormat::Envoy] {
        match convert(Path::new("main"), Some(kind), &files, &Names) {
            Ok(converted) => {
                let refused = converted.refused.map(|problems| problems.in_file("result").to_string());
                assert_eq!(refused, None, "{kind:?} of {text}\nbecame {}", converted.text);
                count += 1;
            }
            Err(ConvertError::Refused(problems)) => {
                let lines = text.lines().count().max(1) + 1;
                assert!(!problems.is_empty());
                assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.place.line)), "{problems:?}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    count
}

fn originals() -> &'static [String] {
    static READ: OnceLock<Vec<String>> = OnceLock::new();
    READ.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        crate::sources().iter().map(|source| std::fs::read_to_string(root.join(source)).unwrap()).collect()
    })
}

/// Pieces that mean something to one of the three.
const PIECES: [&str; 40] = [
    "{",
    "}",
    ";",
    "\"",
    "'",
    "\\",
    "#",
    "$",
    "${",
    "%[",
    "\n",
    " ",
    "server ",
    "server {",
    "upstream u {",
    "listen ",
    "location / {",
    "proxy_pass http://",
    "frontend f\n",
    "backend b\n",
    "  bind ",
    " if ",
    "0",
    "99999999999",
    "-1",
    "http {",
    "weight=0",
    "10.0.0.1:80",
    "[::1]:1",
    "*.a.b",
    "/../",
    "é",
    "\u{0}",
    "hash ",
    " consistent",
    "0s",
    "include main;",
    "- ",
    ": ",
    "0.0.0.0:80",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_converted_or_refused(text in proptest::collection::vec(sample::select(&PIECES[..]), 0..60)) {
        convertible(&text.concat());
    }

    #[test]
    fn a_mutated_source_is_converted_or_refused(
        original in 0..originals().len(),
        changes in proptest::collection::vec((any::<sample::Index>(), 0_usize..6, sample::select(&PIECES[..])), 1..5),
    ) {
        let mut letters: Vec<char> = originals()[original].chars().collect();
        for (at, cut, piece) in changes {
            let at = at.index(letters.len() + 1);
            let end = (at + cut).min(letters.len());
            letters.splice(at..end, piece.chars());
        }
        convertible(&letters.into_iter().collect::<String>());
    }

    #[test]
    fn a_source_without_some_of_its_words_is_converted_or_refused(
        original in 0..originals().len(),
        dropped in proptest::collection::vec(any::<sample::Index>(), 1..6),
        swapped in any::<(sample::Index, sample::Index)>(),
    ) {
        let mut words: Vec<&str> = originals()[original].split_inclusive(char::is_whitespace).collect();
        let (one, two) = (swapped.0.index(words.len()), swapped.1.index(words.len()));
        words.swap(one, two);
        for index in dropped {
            words.remove(index.index(words.len()));
        }
        convertible(&words.concat());
    }
}

#[test]
fn the_sources_themselves_are_converted() {
    let converted = originals().iter().filter(|text| convertible(text) > 0).count();
    // Those that read other files, or the environment, find none here, or others.
    assert!(converted + 4 >= originals().len(), "{converted} of {}", originals().len());
}
