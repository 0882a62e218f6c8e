//! The configuration as its users meet it: golden files of all problems, and the files that come with Longhaul.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhaul::config;
use longhaul::config::*;
use proptest::prelude::{any, proptest};
use proptest::sample;
use serde_yaml::Value as Yaml;

#[path = "support/certificates.rs"]
#[allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]
mod certificates;
#[path = "config/files.rs"]
mod files;
#[path = "config/hooks.rs"]
mod hooks;
#[path = "config/values.rs"]
mod values;

fn parse(text: &str) -> Result<Loaded, Problems> {
    config::parse(text, &hooks::Program)
}

fn load(path: &Path) -> Result<Loaded, LoadError> {
    config::load(path, &NoHooks)
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// The problems or warnings of a file named `file`, or `ok`.
fn said_of(read: Result<&Loaded, &Problems>, file: &str) -> String {
    let said = match read {
        Err(problems) => problems.in_file(file).to_string(),
        Ok(Loaded { warnings, .. }) if warnings.is_empty() => format!("{file}: ok"),
        Ok(Loaded { warnings, .. }) => {
            let lines: Vec<_> = warnings.iter().map(|warning| warning.in_file(file).to_string()).collect();
            lines.join("\n")
        }
    };
    said + "\n"
}

fn names_with(extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(golden_folder()).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// `UPDATE_GOLDEN=1 cargo test --test config` writes what is said now beside each file; read the difference before
/// committing it.
#[test]
fn every_golden_file_gets_the_answer_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for name in names_with("yaml") {
        let text = fs::read_to_string(golden_folder().join(format!("{name}.yaml"))).unwrap();
        let said = said_of(parse(&text).as_ref(), &format!("{name}.yaml"));
        let beside = golden_folder().join(format!("{name}.expected"));
        if update {
            fs::write(&beside, &said).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            write!(wrong, "--- {name}: expected\n{expected}--- {name}: said\n{said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_golden_answer_has_its_file() {
    let orphans: Vec<_> = names_with("expected").difference(&names_with("yaml")).cloned().collect();
    assert!(orphans.is_empty(), "without a file: {orphans:?}");
}

fn conf(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)).unwrap()
}

/// conf/longhaul.yaml with the parts that stand there as comments: hooks, of which the gateway itself has none, and
/// files that are not there.
fn annotated() -> String {
    let mut in_part = false;
    let shown = conf("longhaul.yaml").lines().fold(String::new(), |text, line| {
        let begins = matches!(line, "    # hooks:" | "    # tls:")
            || ["  # - address:", "  # token_file:", "  # tls:", "  # export:"]
                .iter()
                .any(|begin| line.starts_with(begin));
        in_part = begins || in_part && (line.starts_with("    #  ") || line.starts_with("  #   "));
        text + &if in_part { line.replacen("# ", "", 1) } else { line.to_owned() } + "\n"
    });
    assert!(shown.contains("\n    hooks:\n") && shown.contains("\n    tls: "), "where are the parts?");
    shown
}

/// One step from a value of a YAML file to one below it.
#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// A key of a file: its path as [`config::keys`] writes it, its path as a problem writes it, and the way to it.
struct Place {
    pattern: String,
    path: String,
    steps: Vec<Step>,
}

/// Every key below `value`, with the paths `pattern` and `path` of `value` itself.
fn places(value: &Yaml, pattern: &str, path: &str, steps: &[Step]) -> Vec<Place> {
    let mut found = Vec::new();
    let below = |step| [steps, &[step]].concat();
    let dotted = |of: &str, key: &str| if of.is_empty() { key.to_owned() } else { format!("{of}.{key}") };
    match value {
        Yaml::Mapping(mapping) => {
            for (key, value) in mapping {
                let key = key.as_str().unwrap();
                let shape = dotted(pattern, if pattern == "upstreams" { "*" } else { key });
                // A route's affinity is an upstream's.
                let shape = shape.replace("routes[].affinity[]", "upstreams.*.affinity[]");
                let (path, steps) = (dotted(path, key), below(Step::Key(key.to_owned())));
                found.extend(places(value, &shape, &path, &steps));
                found.push(Place { pattern: shape, path, steps });
            }
        }
        Yaml::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                found.extend(places(
                    item,
                    &format!("{pattern}[]"),
                    &format!("{path}[{index}]"),
                    &below(Step::Index(index)),
                ));
            }
        }
        _ => {}
    }
    found
}

#[test]
fn the_annotated_configuration_shows_every_key_and_is_sound() {
    for text in [conf("longhaul.yaml"), annotated()] {
        assert_eq!(said_of(parse(&text).as_ref(), "longhaul.yaml"), "longhaul.yaml: ok\n");
    }
    let text = annotated();
    let file: Yaml = serde_yaml::from_str(&text).unwrap();
    let shown: BTreeSet<_> = places(&file, "", "", &[]).into_iter().map(|place| place.pattern).collect();
    let missing: Vec<_> = config::keys().into_iter().filter(|key| !shown.contains(key)).collect();
    assert!(missing.is_empty(), "not in conf/longhaul.yaml: {missing:?}");
}

#[test]
fn the_reference_names_every_key() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let missing: Vec<_> = config::keys().into_iter().filter(|key| !text.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
}

/// A known key that nothing reads would be a setting silently ignored.
#[test]
fn nonsense_under_any_key_is_refused_there() {
    let file: Yaml = serde_yaml::from_str(&annotated()).unwrap();
    let nonsense: Yaml = serde_yaml::from_str("{ nonsense: 1 }").unwrap();
    // Mappings whose keys are names of the user's choice.
    let chosen = ["upstreams", "upstreams.*.health.headers"];
    for place in places(&file, "", "", &[]).into_iter().filter(|place| !chosen.contains(&place.pattern.as_str())) {
        let mut wrong = file.clone();
        let target = place.steps.iter().fold(&mut wrong, |value, step| match step {
            Step::Key(key) => &mut value[key.as_str()],
            Step::Index(index) => &mut value[*index],
        });
        *target = nonsense.clone();
        let problems = parse(&serde_yaml::to_string(&wrong).unwrap()).expect_err(&place.path);
        assert!(problems.iter().any(|problem| problem.path.starts_with(&place.path)), "{}: {problems}", place.path);
    }
}

/// The problems of a route with the hook `origin`, in a program with these hooks.
fn said_of_origin(program: &dyn KnownHooks) -> String {
    let text = conf("minimal.yaml").replace("upstream: chat", "upstream: chat\n    hooks: [origin]");
    config::parse(&text, program)
        .unwrap_err()
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect()
}

#[test]
fn a_program_without_hooks_refuses_every_hook() {
    assert_eq!(said_of_origin(&NoHooks), "routes[0].hooks[0]: there is no hook `origin`");
}

#[test]
fn a_hook_that_refuses_its_settings_without_a_word_is_named() {
    struct Mute;
    impl KnownHooks for Mute {
        fn names(&self) -> Vec<&str> {
            vec!["origin"]
        }
        fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
            Err(Vec::new())
        }
    }
    assert_eq!(said_of_origin(&Mute), "routes[0].hooks[0].with: `origin` refuses its settings");
}

#[test]
fn the_hooks_of_a_route_are_read_in_their_order() {
    let text = fs::read_to_string(golden_folder().join("hooks.yaml")).unwrap();
    let route = parse(&text).unwrap().config.routes.remove(0);
    assert_eq!(route.compression, Compression::Strip);
    let names: Vec<_> = route.hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(names[..5], ["origin", "jwt", "rate_limit", "rate_limit", "headers"]);
    let settings = |text: &str| Settings::parse(text).unwrap();
    assert_eq!((&route.hooks[0].settings, route.hooks[0].timeout), (&Settings::empty(), HookEntry::DEFAULT_TIMEOUT));
    assert_eq!(
        (&route.hooks[3].settings, route.hooks[1].timeout),
        (&settings("messages: 5/s"), Duration::from_secs(2))
    );
}

#[test]
fn a_thousand_routes_and_ten_thousand_backends_are_read() {
    let mut text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes:\n".to_owned();
    for route in 0..1_000 {
        writeln!(text, "  - {{ host: h{route}.example.com, path: /ws, upstream: u{} }}", route % 100).unwrap();
    }
    text.push_str("upstreams:\n");
    for upstream in 0..100 {
        writeln!(text, "  u{upstream}:\n    affinity: [issue_cookie]\n    backends:").unwrap();
        for backend in 0..100 {
            writeln!(text, "      - {{ address: 10.{upstream}.{backend}.1:9001, weight: 2 }}").unwrap();
        }
    }
    let Loaded { config, warnings } = parse(&text).unwrap();
    assert_eq!((config.routes.len(), config.upstreams.len(), warnings.len()), (1_000, 100, 0));
    assert_eq!(config.upstreams.iter().map(|upstream| upstream.backends.len()).sum::<usize>(), 10_000);
}

#[test]
fn beyond_a_thousand_problems_the_rest_is_counted() {
    let mut text = conf("minimal.yaml");
    (0..1_500).for_each(|n| writeln!(text, "unknown{n}: 1").unwrap());
    let problems = parse(&text).unwrap_err();
    assert_eq!((problems.iter().count(), problems.left_out()), (1_000, 500));
    assert!(problems.in_file("f").to_string().ends_with("\nf: and 500 more problems"));
}

#[test]
fn a_file_is_read_from_its_path_and_its_problems_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    assert_eq!(load(&write("good.yaml", conf("minimal.yaml").as_bytes())).unwrap().config.routes.len(), 1);

    let path = write("bad.yaml", b"listners: []\n");
    let said = load(&path).unwrap_err().to_string();
    assert!(said.contains(&format!("{}:1:1: listners: unknown key\n", path.display())), "{said}");

    let path = write("latin1.yaml", b"# ok\nuser: J\xfcrgen\n");
    let said = load(&path).unwrap_err().to_string();
    assert_eq!(said, format!("{}:2:8: not UTF-8\n  save the file as UTF-8", path.display()));

    let path = write("long.yaml", &vec![b'#'; config::MAX_BYTES + 1]);
    assert!(load(&path).unwrap_err().to_string().contains("the file is too long"));

    for path in [folder.path().to_owned(), folder.path().join("none.yaml")] {
        let error = load(&path).unwrap_err();
        assert!(matches!(error, LoadError::Unreadable { .. }));
        assert!(error.to_string().starts_with(&format!("{}: cannot be read: ", path.display())), "{error}");
    }
}

/// A text is read or refused with at least one error, in the order of their positions; it never panics.
fn assert_read_or_refused(text: &str) {
    let problems = match parse(text) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|warning| warning.severity == Severity::Warning));
            loaded.warnings
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.severity == Severity::Error) || problems.left_out() > 0);
            problems.iter().cloned().collect()
        }
    };
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)));
    for problem in &problems {
        let said = problem.in_file("f").to_string();
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}

/// The files of the golden folder and those that come with Longhaul.
fn texts() -> Vec<String> {
    let golden = names_with("yaml").into_iter().filter(|name| name != "billion_laughs");
    let golden = golden.map(|name| fs::read_to_string(golden_folder().join(name + ".yaml")).unwrap());
    golden.chain(["longhaul.yaml", "minimal.yaml"].map(conf)).collect()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        assert_read_or_refused(&text);
    }

    #[test]
    fn any_text_of_yaml_characters_is_read_or_refused(text in "[-a-c0-9:,?*&!|>#'\"%@`{}\\[\\]~. \t\r\n\
        \\\\\u{feff}ü]{0,80}") {
        assert_read_or_refused(&text);
    }

    #[test]
    fn a_changed_file_is_read_or_refused(
        file in sample::select(texts()),
        at in any::<sample::Index>(),
        cut in 0..30_usize,
        put in "[-a-z0-9:*&.,'\"{}\\[\\]/ \n\u{1b}ü]{0,6}",
    ) {
        let mut characters: Vec<char> = file.chars().collect();
        let start = at.index(characters.len() + 1);
        let end = (start + cut).min(characters.len());
        characters.splice(start..end, put.chars());
        assert_read_or_refused(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn a_changed_value_is_read_or_refused(
        file in sample::select(texts()), at in any::<sample::Index>(), value in "\\PC{0,12}"
    ) {
        let colons: Vec<_> = file.match_indices(": ").map(|(index, _)| index + 2).collect();
        let start = if colons.is_empty() { 0 } else { colons[at.index(colons.len())] };
        let end = file[start..].find(['\n', ',', '}']).map_or(file.len(), |length| start + length);
        assert_read_or_refused(&format!("{}{value}{}", &file[..start], &file[end..]));
        assert_read_or_refused(&format!("{}{value:?}{}", &file[..start], &file[end..]));
    }
}
