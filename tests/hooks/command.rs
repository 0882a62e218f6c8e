//! The command line of a gateway of one's own: `check` and `where` know its hooks.

use std::process::{Command, Output};

use crate::lab::config;
use crate::support::{Gateway, Named, hooked};

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
    let alone = yaml().replace("routes:\n", "routes:\n  - { path: /nowhere, hooks: [acting] }\n");
    let text = String::from_utf8(run("where", &alone, &["--ip", "127.0.0.1", "--path", "/nowhere"]).stdout).unwrap();
    assert!(text.ends_with("\nhooks     acting: they answer, or choose an upstream; otherwise 404\n"), "{text}");
}

#[test]
fn the_help_names_the_program_that_has_the_hooks() {
    let said = |arguments: &[&str]| {
        let output = Command::new(hooked()).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for arguments in [&["--help"][..], &["help", "drain"], &["drain", "--help"], &["--version"], &["nonsense"], &[]] {
        let text = said(arguments);
        assert!(text.contains("hooked"), "{arguments:?}: {text}");
        assert!(!text.contains("longhaul drain") && !text.contains("longhaul demo"), "{arguments:?}: {text}");
        assert!(!text.contains("Usage: longhaul"), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn a_command_to_a_running_gateway_makes_no_hooks() {
    let backend = Named::start().await;
    let yaml = config("x", &[backend.address()], backend.address());
    let yaml = yaml.replace("routes:\n", "control_sock: '{dir}/control'\nroutes:\n");
    let gateway = Gateway::start_hooked(&yaml).await;
    let file = gateway.dir.path().join("longhaul.yaml");
    // `new` would refuse these settings, and `check` does.
    let changed = std::fs::read_to_string(&file).unwrap().replace("name: a,", "name: 'a a',");
    std::fs::write(&file, changed).unwrap();
    let run = |command: &str| Command::new(hooked()).arg(command).arg("-c").arg(&file).output().unwrap();
    assert_eq!(run("check").status.code(), Some(2));
    let output = run("status");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(&backend.address().to_string()), "{output:?}");
}
