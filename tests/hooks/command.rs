//! The command line of a gateway of one's own: `check` and `where` know its hooks.

use std::process::{Command, Output};

use crate::lab::config;
use crate::support::hooked;

fn run(command: &str, yaml: &str, arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("longhaul.yaml");
    std::fs::write(&file, yaml).unwrap();
    Command::new(hooked()).args([command, "-c"]).arg(file).args(arguments).output().unwrap()
}

fn yaml() -> String {
    let backend = "127.0.0.1:9".parse().unwrap();
    config("x", &[backend], backend)
}

#[test]
fn check_says_where_in_the_file_a_hook_does_not_like_its_settings() {
    let output = run("check", &yaml(), &[]);
    assert!(output.status.success(), "{output:?}");
    let wrong = yaml()
        .replace("name: b, label: x", "name: 'b b', label: x")
        .replace("name: a, label: x", "name: a, lable: x")
        .replace("/plain, upstream: u", "/plain, upstream: u, hooks: [actnig]");
    let output = run("check", &wrong, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for parts in [
        ["longhaul.yaml:7:", "routes[0].hooks[0]", "no hook `actnig`"],
        ["longhaul.yaml:9:", "routes[1].hooks[0].with.lable", "unknown key"],
        ["longhaul.yaml:9:", "routes[1].hooks[1].with.name", "a name has no blanks"],
    ] {
        assert!(text.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {text}");
    }
}

#[test]
fn where_names_the_hooks_that_may_decide_otherwise() {
    let text = |path| String::from_utf8(run("where", &yaml(), &["--ip", "127.0.0.1", "--path", path]).stdout).unwrap();
    assert!(
        text("/").contains("\nhooks     acting, acting: they may answer, or choose another key, upstream or backend\n")
    );
    assert!(!text("/plain").contains("hooks"));
    let output = run("where", &yaml(), &["--ip", "127.0.0.1", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["hooks"], serde_json::json!(["acting", "acting"]));
}
