//! The documentation's configurations are real ones: every `yaml` block of it is read by the parser.

use std::fs;
use std::path::{Path, PathBuf};

use longhaul::config;

#[test]
fn every_configuration_in_the_documentation_is_accepted_without_a_warning() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("the page can be read");
        for (line, block) in yaml_blocks(&text) {
            let Some(file) = completed(&block) else { continue };
            checked += 1;
            let place = format!("{}:{line}", page.display());
            match config::parse(&file, &config::NoHooks) {
                Ok(loaded) => wrong.extend(loaded.warnings.iter().map(|warning| format!("{place}: {warning}\n{file}"))),
                Err(problems) => wrong.push(format!("{place}: {problems}\n{file}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 15, "only {checked} blocks were found: has the way they are written changed?");
}

#[test]
fn every_configuration_of_a_hook_that_ships_is_accepted_but_for_files_that_are_not_here() {
    let mut wrong = Vec::new();
    for page in pages_in("docs/hooks") {
        let text = fs::read_to_string(&page).expect("the page can be read");
        let files = yaml_blocks(&text).into_iter().filter_map(|(line, block)| Some((line, completed(&block)?)));
        for (line, file) in files {
            let Err(problems) = config::parse(&file, &longhaul::stock::registry()) else { continue };
            let found = problems.iter().filter(|problem| !problem.message.contains("No such file"));
            wrong.extend(found.map(|problem| format!("{}:{line}: {problem}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_configuration_at_the_top_of_the_readme_has_ten_lines() {
    let text = fs::read_to_string(root().join("README.md")).expect("the page can be read");
    let (_, first) = yaml_blocks(&text).into_iter().next().expect("it has one");
    assert_eq!(first.lines().count(), 10);
}

#[test]
fn the_hook_in_the_readme_is_the_smallest_example() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the page can be read");
    let example = fs::read_to_string(root().join("examples/password.rs")).expect("the example can be read");
    let code = example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
    let code: String = code.map(|line| format!("{line}\n")).collect();
    assert!(readme.contains(&format!("```rust\n{code}```\n")), "{code}");
}

#[test]
fn the_guide_to_hooks_lists_those_that_ship() {
    let guide = fs::read_to_string(root().join("docs/hooks.md")).expect("the page can be read");
    for name in config::KnownHooks::names(&longhaul::stock::registry()) {
        assert!(guide.contains(&format!("[`{name}`](hooks/{name}.md)")), "{name}");
        assert!(root().join(format!("docs/hooks/{name}.md")).exists(), "{name}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = pages_in("docs");
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

fn pages_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("it is a folder");
    let pages = entries.map(|entry| entry.expect("it can be listed").path());
    pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The blocks fenced as exactly `yaml`, each with the line it begins on; `yaml envoy` is another program's.
fn yaml_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut other = false;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, block)), None) => *block += &format!("{line}\n"),
            (None, Some(_)) if other => other = false,
            (None, Some("yaml")) => open = Some((index + 2, String::new())),
            (None, Some(_)) => other = true,
            (None, None) => {}
        }
    }
    blocks
}

/// A whole file around a block: what it leaves out of the top level, or of the upstream whose part it is, is added.
///
/// `None` for a block that is neither.
fn completed(block: &str) -> Option<String> {
    let has = |key: &str| block.lines().any(|line| line.starts_with(&format!("{key}:")));
    let upstream_keys = [
        "affinity",
        "backends",
        "balance_factor",
        "health",
        "fail_open",
        "on_change",
        "drain_window",
        "rehome",
        "tries",
        "timeouts",
        "tunnel",
    ];
    if upstream_keys.iter().any(|key| has(key)) {
        let indented: String = block.lines().map(|line| format!("    {line}\n")).collect();
        let backends = if has("backends") { "" } else { "    backends: [127.0.0.1:9001]\n" };
        return Some(format!("{LISTENERS}{ROUTES}upstreams:\n  chat:\n{indented}{backends}"));
    }
    let top_keys = [
        "version",
        "listeners",
        "trusted_proxies",
        "metrics",
        "access_log",
        "watch",
        "control_sock",
        "limits",
        "drain",
        "routes",
        "upstreams",
    ];
    if !top_keys.iter().any(|key| has(key)) {
        return None;
    }
    let missing = [("listeners", LISTENERS), ("routes", ROUTES), ("upstreams", UPSTREAMS)];
    let added: String = missing.into_iter().filter(|(key, _)| !has(key)).map(|(_, text)| text).collect();
    Some(format!("{block}{added}"))
}

const LISTENERS: &str = "listeners: [{ address: 0.0.0.0:8080 }]\n";
const ROUTES: &str = "routes: [{ upstream: chat }]\n";
const UPSTREAMS: &str = "upstreams: { chat: { backends: [127.0.0.1:9001] } }\n";
