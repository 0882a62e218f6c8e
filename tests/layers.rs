//! The shape of the source: imports point down, no code is `unsafe`, files stay short.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "layers/architecture.rs"]
mod architecture;
#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/prose.rs"]
mod prose;
#[path = "layers/source.rs"]
mod source;
#[path = "layers/types.rs"]
mod types;

use std::collections::BTreeSet;

use source::{files, is_test, module, without_comments, without_tests};

/// The layers from the bottom. Modules of a layer do not know each other, and know all of the layers below.
const LAYERS: [&[&str]; 7] = [
    &[
        "config",
        "ws",
        "http1",
        "proxy_protocol",
        "socket",
        "tls",
        "metrics",
        "access_log",
        "diagnostics",
        "log_writer",
        "base64_text",
        "slots",
        "causes",
        "counted",
        "unix_socket",
        "trace",
    ],
    &["admission", "client", "route", "affinity", "upstream", "dial", "hook", "convert"],
    &["tunnel", "health", "stock"],
    &["snapshot", "discovery"],
    &["gateway", "reload", "drain", "status"],
    &["listen", "control", "admin", "handover"],
    &["server", "cli", "demo", "builder"],
];

/// Modules with a place that are still to be built.
const TO_COME: [&str; 0] = [];

/// Neighbours that know each other all the same, and why.
const NEIGHBOURS: [(&str, &str); 23] = [
    // The API takes the same commands as the control socket, to the same desk.
    ("admin", "control"),
    // The files that it names are checked by the code that uses them.
    ("config", "tls"),
    // The version of the header that backends are sent is a value of the configuration.
    ("config", "proxy_protocol"),
    // Its settings are values of the configuration.
    ("access_log", "config"),
    ("trace", "config"),
    // Lines have addresses as everything else writes them.
    ("access_log", "socket"),
    // Sentences count things.
    ("config", "counted"),
    ("access_log", "counted"),
    ("diagnostics", "counted"),
    // Why spans were not sent is told with its causes.
    ("trace", "causes"),
    // The context of a trace is a field of the head that backends get.
    ("http1", "trace"),
    // The two logs write by the same thread-and-buffer.
    ("access_log", "log_writer"),
    ("diagnostics", "log_writer"),
    // Failed handshakes are counted by their reason.
    ("metrics", "tls"),
    // Bytes and messages are counted by the side that sent them.
    ("metrics", "ws"),
    // Kept bytes of a message are text in a passport.
    ("ws", "base64_text"),
    ("tls", "base64_text"),
    // A handshake is a matter of header fields.
    ("ws", "http1"),
    // The commands run what they are named for.
    ("cli", "server"),
    ("cli", "demo"),
    // The command line with a program's own hooks.
    ("builder", "cli"),
    ("builder", "server"),
    // The binary's only module of ours.
    ("main", "builder"),
];

/// Files, or whole modules, that know Pingora's types. `lib.rs` passes the crate on to authors of hooks.
/// Requests and answers as hooks see them are views of Pingora's, and lend them to hooks that need more.
const PINGORA: [&str; 8] = [
    "gateway",
    "listen",
    "server",
    "config",
    "lib.rs",
    "hook/request.rs",
    "hook/response.rs",
    "hook/testing/request.rs",
];

/// Of code before a file's tests: neither blank nor comments.
const MAX_LINES: usize = 400;

/// Lines of a function, from its signature to its closing brace.
const MAX_FUNCTION: usize = 50;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of the top level that a text names: `crate::a::…`, `crate::{a::…, b}`, `longhaul::a::…`, and `super::…`
/// where that leaves the module (`outside` being how many `super::` lead to the top).
fn named(text: &str, outside: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let climb = "super::".repeat(outside);
    let roots = ["crate::", "longhaul::"].into_iter().chain((outside > 0).then_some(climb.as_str()));
    for root in roots {
        for (at, _) in text.match_indices(root) {
            let begins = text[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            if begins {
                let rest = &text[at + root.len()..];
                names.extend(match rest.strip_prefix('{') {
                    Some(group) => first_of_each(group),
                    None => vec![word(rest)],
                });
            }
        }
    }
    names.remove("");
    names
}

/// The first word of each entry of a braced group, nested groups skipped.
fn first_of_each(group: &str) -> Vec<String> {
    let (mut depth, mut entries, mut entry) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => entries.push(std::mem::take(&mut entry)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                entry.push(c);
            }
        }
    }
    entries.push(entry);
    entries.iter().map(|entry| word(entry.trim())).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_module_has_its_place_in_a_layer() {
    let modules: BTreeSet<String> =
        files().keys().map(|file| module(file).to_owned()).filter(|name| name != "lib" && name != "main").collect();
    let placed: BTreeSet<String> = LAYERS.concat().into_iter().map(str::to_owned).collect();
    let to_come = TO_COME.map(str::to_owned).into_iter().filter(|name| !modules.contains(name)).collect();
    let placed_now: BTreeSet<String> = placed.difference(&to_come).cloned().collect();
    assert_eq!(modules, placed_now, "left: the modules of src; right: those that LAYERS places");
    assert_eq!(placed.len(), LAYERS.concat().len(), "a module is placed once");
}

#[test]
fn imports_point_down() {
    let modules: BTreeSet<&str> = LAYERS.concat().into_iter().collect();
    let mut wrong = Vec::new();
    for (file, text) in files().iter().filter(|(file, _)| *file != "lib.rs") {
        let importer = module(file);
        let outside = file.split('/').count() - usize::from(file.ends_with("/mod.rs"));
        for imported in named(&without_comments(text), outside) {
            let known = modules.contains(imported.as_str());
            let down = known && layer(&imported) < layer(importer);
            let neighbour = NEIGHBOURS.contains(&(importer, imported.as_str()));
            // At the top level itself `super` leads nowhere else, and items inside a module have small initials too.
            if imported != importer && !down && !neighbour && known {
                wrong.push(format!("{file} imports {imported}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_test_of_imports_sees_every_way_to_write_one() {
    let names = |text, outside| named(text, outside).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("use crate::ws::Frame;", 1), "ws");
    assert_eq!(names("use crate::{config::{self, Config}, ws, tunnel::Side};", 1), "config tunnel ws");
    assert_eq!(names("fn f() -> crate::server::Server {", 1), "server");
    assert_eq!(names("use super::super::gateway::Ctx;", 2), "gateway");
    assert_eq!(names("use super::record::Line;", 2), "");
    assert_eq!(names("use other_crate::ws;", 1), "");
    assert_eq!(names("pub(crate) fn f() {}", 1), "");
}

#[test]
fn the_types_of_pingora_stay_in_their_rooms() {
    let knows = |text: &str| {
        let text = without_comments(&without_tests(text));
        let is_crate = |word: &str| word == "pingora" || word.starts_with("pingora_");
        let paths =
            text.split("::").filter_map(|before| before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next());
        paths.into_iter().any(is_crate)
    };
    let allowed = |file: &str| PINGORA.iter().any(|room| *room == file || *room == module(file));
    let files = files().into_iter().filter(|(file, text)| !is_test(file) && !allowed(file) && knows(text));
    assert_eq!(files.map(|(file, _)| file).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn one_file_holds_unsafe_code() {
    let is_unsafe = |text: &str| {
        let text = without_comments(text);
        text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    let with: Vec<String> = files().into_iter().filter(|(_, text)| is_unsafe(text)).map(|(file, _)| file).collect();
    // It gives the kernel the addresses of bytes to be sent.
    assert_eq!(with, ["tunnel/sends/ring.rs"]);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (file, text) in files() {
        assert!(text.starts_with("//! "), "{file} does not begin with a sentence about itself");
        let text = without_tests(&text);
        let code = text.lines().map(str::trim);
        let code = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        assert!(is_test(&file) || code <= MAX_LINES, "{file} has {code} lines of code before its tests");
    }
}

/// The functions of a file and their lines, by the indentation that rustfmt gives to the closing brace.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let words: Vec<&str> =
            code.split(' ').take_while(|word| !word.contains('(') || word.starts_with("pub(")).collect();
        let name = code.split("fn ").nth(1).filter(|_| words.contains(&"fn")).map(word);
        let Some(name) = name.filter(|_| !code.starts_with("//") && !line.ends_with([';', '}'])) else { continue };
        let end = lines[number..].iter().position(|line| line.strip_prefix(indent) == Some("}"));
        found.extend(end.map(|length| (name, length + 1)));
    }
    found
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for (file, text) in files() {
        let long_ones = functions(&text).into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION);
        long.extend(long_ones.map(|(name, lines)| format!("{file}: {name} has {lines} lines")));
    }
    assert!(long.is_empty(), "{} functions have more than {MAX_FUNCTION} lines:\n{}", long.len(), long.join("\n"));
}

#[test]
fn the_test_of_functions_sees_every_way_to_write_one() {
    let lines =
        |text: &str| functions(text).into_iter().map(|(name, lines)| format!("{name} {lines}")).collect::<Vec<_>>();
    assert_eq!(lines("fn a() {\n    b();\n}\n"), ["a 3"]);
    assert_eq!(lines("    pub(super) async fn a(\n        x: u8,\n    ) -> u8 {\n        x\n    }\n"), ["a 5"]);
    assert_eq!(lines("fn a() {}\ntrait T {\n    fn b();\n}\n// the fn of\nlet x = f(fn_of);\n"), Vec::<String>::new());
}

#[test]
fn no_module_is_named_for_nothing() {
    for file in files().keys() {
        let vague = ["utils", "util", "common", "helpers", "helper", "manager", "misc"];
        assert!(file.split('/').all(|part| !vague.contains(&part.trim_end_matches(".rs"))), "{file}");
    }
}
