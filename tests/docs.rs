//! The documentation is true: its configurations are read by the parser, its links lead somewhere, and its lists of
//! fields, commands and exit codes are those of the code.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use longhaul::config;

#[path = "support/certificates.rs"]
#[allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "every test binary uses a part of it")]
mod certificates;

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
fn check_has_nothing_to_say_of_any_file_in_the_guide_to_discovery() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &str| fs::write(at(name), text).expect("the file can be written");
    write("etcd-ca.pem", &certificates::Authority::new("etcd").pem);
    write("etcd-password", "secret\n");
    fs::set_permissions(at("etcd-password"), fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let page = fs::read_to_string(root().join("docs/discovery.md")).expect("the page can be read");
    let here = |text: &str| text.replace("/etc/longhaul", &dir.path().display().to_string());
    // Members in a file, in each form, and as Nomad's template makes them.
    let own = blocks(&page, "yaml file").remove(0).1;
    let members = here("discover: { file: /etc/longhaul/members.yaml }\n");
    let mut checked: Vec<_> =
        [own.clone(), blocks(&page, "json").remove(0).1, made_by_nomad(&page, 0), made_by_nomad(&page, 2)]
            .map(|file| (file, members.clone()))
            .into();
    let whole = ["yaml", "yaml (files)"].iter().flat_map(|language| blocks(&page, language));
    checked.extend(
        whole.map(|(_, block)| (own.clone(), here(&block).replace("/local", &dir.path().display().to_string()))),
    );
    assert!(checked.len() >= 15, "only {} were found: has the way they are written changed?", checked.len());
    for (file, block) in checked {
        write("members.yaml", &file);
        let configuration =
            completed(&block).unwrap_or_else(|| panic!("neither a file nor a part of an upstream: {block}"));
        write("longhaul.yaml", &configuration);
        let run = Command::new(env!("CARGO_BIN_EXE_longhaul")).arg("check").arg("-c").arg(at("longhaul.yaml")).output();
        let run = run.expect("the program can be run");
        let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(run.status.success() && !said.contains("warning"), "{said}\n{configuration}\n{file}");
    }
}

/// The file that the template of the recipe for Nomad makes of so many allocations.
fn made_by_nomad(page: &str, allocations: usize) -> String {
    let blocks = blocks(page, "hcl");
    let (_, block) = blocks.iter().find(|(_, block)| block.starts_with("template {")).expect("it has a template");
    let (_, rest) = block.split_once("<<EOT\n{{ range nomadService \"chat\" }}").expect("it goes through the services");
    let (each, rest) = rest.split_once("{{ else }}").expect("it says what is without any");
    let (none, rest) = rest.split_once("{{ end }}").expect("it ends");
    let one = |number: usize| {
        let each = each.replace("{{ index .Tags 0 }}", &format!("shard-{number}"));
        each.replace("{{ .Address }}", "10.0.0.11").replace("{{ .Port }}", &(9001 + number).to_string())
    };
    let made: String = (0..allocations).map(one).collect();
    let made = if allocations == 0 { none } else { &made };
    assert!(!made.contains("{{"), "{made}");
    format!("{made}{}", rest.split_once("EOT").expect("the text ends").0)
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

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    let others = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"];
    let others = others.map(|page| root().join(page));
    for page in pages().into_iter().chain(pages_in("docs/hooks")).chain(others) {
        let text = fs::read_to_string(&page).expect("the page can be read");
        for link in links(&text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name("").join(path) };
            checked += 1;
            if !target.exists() {
                wrong.push(format!("{}: {link}: there is no such file", page.display()));
            } else if !anchor.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let headings = headings(&fs::read_to_string(&target).expect("the page can be read"));
                if !headings.contains(anchor) {
                    wrong.push(format!("{}: {link}: there is no such heading", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 200, "only {checked} links were found: has the way they are written changed?");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let contents = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("the page can be read");
    let listed: BTreeSet<PathBuf> = links(&contents).iter().map(|link| root().join("docs").join(link)).collect();
    let written: BTreeSet<PathBuf> = pages_in("docs").into_iter().chain(pages_in("docs/hooks")).collect();
    let missing: Vec<_> = written.difference(&listed).filter(|page| !page.ends_with("SUMMARY.md")).collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

#[test]
fn the_fields_of_the_access_log_are_those_of_the_code() {
    let mut written: BTreeSet<String> = ["time", "event"].map(str::to_owned).into();
    for file in ["src/gateway/request/log.rs", "src/gateway/refusal.rs", "src/tunnel/record.rs"] {
        let code = fs::read_to_string(root().join(file)).expect("the file can be read");
        for call in [".text(\"", ".word(\"", ".address(\"", ".socket_address(\"", ".maybe(\"", ".number(\""] {
            written.extend(code.split(call).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    assert_eq!(first_cells("docs/access-log.md", "| field |"), written);
}

#[test]
fn the_commands_and_exit_codes_are_those_of_the_program() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(arguments).output().expect("the program can be run")
    };
    let help = String::from_utf8(run(&["--help"]).stdout).expect("help is text");
    let listed =
        help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("it lists commands");
    let listed = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let listed: BTreeSet<String> = listed.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
    assert_eq!(first_cells("docs/commands.md", "| command |"), listed);

    let page = fs::read_to_string(root().join("docs/commands.md")).expect("the page can be read");
    let example = root().join("conf/minimal.yaml");
    let example = example.to_str().expect("the path is text");
    for (arguments, code) in [
        (&["check", "-c", example][..], 0),
        (&["status", "--socket", "/nonexistent/control.sock"], 1),
        (&["check", "-c", "/nonexistent/longhaul.yaml"], 2),
        (&["nonsense"], 2),
        (&[], 2),
    ] {
        assert_eq!(run(arguments).status.code(), Some(code), "{arguments:?}");
        assert!(page.contains(&format!("\n| {code} | ")) && help.contains(&format!("{code} ")), "{code}");
    }
}

/// The names in backticks in the first cells of the table that begins with this line.
fn first_cells(page: &str, head: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(page)).expect("the page can be read");
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1)).map(|cell| cell.trim().to_owned());
    cells.filter_map(|cell| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned())).collect()
}

/// The links of a page that lead to files or headings, code left out.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence && !line.starts_with("    ")
    });
    let targets = prose.flat_map(|line| line.split("](").skip(1)).filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains(':')).map(str::to_owned).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let anchor = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    lines.map(anchor).collect()
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
    blocks(text, "yaml")
}

/// The blocks fenced as exactly this language, each with the line it begins on.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut other = false;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, block)), None) => *block += &format!("{line}\n"),
            (None, Some(_)) if other => other = false,
            (None, Some(fenced)) if fenced == language => open = Some((index + 2, String::new())),
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
        "absent",
        "affinity",
        "backends",
        "balance_factor",
        "discover",
        "health",
        "fail_open",
        "on_change",
        "drain_window",
        "rehome",
        "resolve",
        "tries",
        "timeouts",
        "tunnel",
    ];
    if upstream_keys.iter().any(|key| has(key)) {
        let indented: String = block.lines().map(|line| format!("    {line}\n")).collect();
        let backends = if has("backends") || has("discover") { "" } else { "    backends: [127.0.0.1:9001]\n" };
        return Some(format!("{LISTENERS}{ROUTES}upstreams:\n  chat:\n{indented}{backends}"));
    }
    let top_keys = [
        "version",
        "listeners",
        "trusted_proxies",
        "metrics",
        "admin",
        "access_log",
        "tracing",
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
