//! The first minutes: `init` writes a file, `check` sums one up, completions and man pages name every command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use longhaul::config;

fn longhaul(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Lines of `check` behind its first one.
fn summary(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("longhaul.yaml"), text).unwrap();
    let output = longhaul(dir.path(), &["check", "-c", "longhaul.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    stdout(&output).lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn options_make_a_file_that_passes_check_and_that_nothing_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let wanted =
        ["init", "--listen", "127.0.0.1:8081", "--backend", "127.0.0.1:9001,[::1]:9002", "--affinity", "session=sid"];
    let output = longhaul(dir.path(), &wanted);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
    assert!(stdout(&output).contains("longhaul check -c longhaul.yaml"), "{output:?}");
    let written = fs::read_to_string(dir.path().join("longhaul.yaml")).unwrap();

    let check = longhaul(dir.path(), &["check", "-c", "longhaul.yaml"]);
    assert_eq!((check.status.code(), &*stderr(&check)), (Some(0), ""));
    let said = stdout(&check);
    assert!(said.starts_with("longhaul.yaml: ok (1 listener, 1 route, 1 upstream, 2 backends)\n"), "{said}");
    assert!(said.contains("clients kept by cookie sid, else client address"), "{said}");

    let again = longhaul(dir.path(), &["init", "--backend", "127.0.0.1:9003"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("longhaul.yaml is there already"), "{again:?}");
    assert_eq!(fs::read_to_string(dir.path().join("longhaul.yaml")).unwrap(), written);
    // Nor is a link that leads nowhere.
    std::os::unix::fs::symlink("nowhere", dir.path().join("link.yaml")).unwrap();
    let linked = longhaul(dir.path(), &["init", "--backend", "127.0.0.1:9003", "-o", "link.yaml"]);
    assert_eq!(linked.status.code(), Some(1), "{linked:?}");
    assert!(!dir.path().join("nowhere").exists());

    let printed = longhaul(dir.path(), &[&wanted[..], &["--output", "-"]].concat());
    assert_eq!((printed.status.code(), stdout(&printed)), (Some(0), written));
}

#[test]
fn without_a_terminal_what_is_missing_is_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, hint) in [
        (&["init"][..], "there is no terminal to ask on; name the backends with `--backend ADDRESS`"),
        (&["init", "--listen", "127.0.0.1:80"], "--backend ADDRESS"),
        (&["init", "--backend", "127.0.0.1"], "--backend 127.0.0.1: "),
        (&["init", "--backend", "127.0.0.1:1", "--listen", "80"], "--listen 80: "),
        (&["init", "--backend", "127.0.0.1:1", "--affinity", "luck"], "expected: issue_cookie, "),
    ] {
        let output = longhaul(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let nowhere = longhaul(dir.path(), &["init", "--backend", "127.0.0.1:1", "-o", "no/such/folder.yaml"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("no/such/folder.yaml: cannot be written: "), "{nowhere:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Runs a command on a terminal of its own, types, and returns all that the terminal showed with the exit code.
fn on_a_terminal(folder: &Path, command: &str, typed: &str) -> (String, Option<i32>) {
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", command, "/dev/null"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept open to the end: `script` ends the terminal with its input.
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    let mut shown = String::new();
    script.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    (shown, script.wait().unwrap().code())
}

#[test]
fn three_answers_on_a_terminal_make_a_file_and_a_wrong_one_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let init = format!("{} init", env!("CARGO_BIN_EXE_longhaul"));
    let typed = "\nnowhere\n127.0.0.1:9001 127.0.0.1:9002\nclient_ip\n";
    let (shown, code) = on_a_terminal(dir.path(), &init, typed);
    assert_eq!(code, Some(0), "{shown}");
    for part in ["1. Which address", "2. Where are your backends", "nowhere: ", "3. What keeps a client", "is written"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let check = longhaul(dir.path(), &["check", "-c", "longhaul.yaml"]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let said = stdout(&check);
    assert!(
        said.contains("listeners: 0.0.0.0:8080\n") && said.contains("2 backends, clients kept by client address"),
        "{said}"
    );

    // Ctrl-D.
    let (shown, code) = on_a_terminal(dir.path(), &format!("{init} -o other.yaml"), "\n\u{4}");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("the answers ended; nothing was written"), "{shown}");
    assert!(!dir.path().join("other.yaml").exists());
}

#[test]
fn check_sums_a_file_up_in_three_lines() {
    let bare = "listeners: [{ address: 0.0.0.0:8080 }]\nroutes: [{ upstream: u }]\n\
                upstreams: { u: { backends: [127.0.0.1:1], health: off } }\n";
    assert_eq!(
        summary(bare),
        [
            "listeners: 0.0.0.0:8080",
            "routes: * / to u (1 backend, clients go where there is least, not checked)",
            "not protected: no TLS on 0.0.0.0:8080 (listeners.tls); no limit of one client's tunnels or handshakes \
             (limits.per_client); no health checks of u (upstreams.*.health); no limit of messages' size in u \
             (upstreams.*.tunnel.max_message); no limit of tunnels to a backend of u (upstreams.*.limits, admission)",
        ]
    );
    let guarded = "\
listeners: [{ address: 127.0.0.1:8080 }, { address: 0.0.0.0:80, redirect: https }]
limits: { per_client: { tunnels: 5 } }
metrics: { address: 127.0.0.1:9100 }
routes: [{ host: a.test, path: /ws, upstream: u }, { upstream: u, affinity: [header: x] }]
upstreams:
  u:
    affinity: [cookie: id, client_ip]
    backends: [127.0.0.1:1, 127.0.0.1:2]
    health: { check: websocket, path: /ws }
    tunnel: { max_message: 1MiB }
    admission: { handshakes: 5/s }
";
    assert_eq!(
        summary(guarded),
        [
            "listeners: 127.0.0.1:8080, 0.0.0.0:80 sends to https; metrics on 127.0.0.1:9100",
            "routes: a.test /ws to u (2 backends, clients kept by cookie id, else client address, checked by \
             websocket), * / to u",
            "not protected: nothing that check looks at",
        ]
    );
    let open = "admin: { address: 127.0.0.1:9099 }\nmetrics: { address: 0.0.0.0:9100 }\ntrusted_proxies: [0.0.0.0/0]\n";
    let line = summary(&format!("{bare}{open}")).pop().unwrap();
    for part in [
        "X-Forwarded-For is believed from everybody (trusted_proxies)",
        "metrics open to whoever reaches 0.0.0.0:9100 (metrics.address)",
        "admin API open to whoever reaches 127.0.0.1:9099 (admin.token_file)",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_line_of_the_summary_stays_short_where_there_are_many() {
    let routes: String = (0..100).map(|n| format!("  - {{ host: h{n}.test, upstream: u }}\n")).collect();
    let (listeners, upstreams) =
        ("listeners: [{ address: 127.0.0.1:8080 }]", "upstreams: { u: { backends: [127.0.0.1:1] } }");
    let text = format!("{listeners}\nroutes:\n{routes}{upstreams}\n");
    let lines = summary(&text);
    assert!(lines[1].ends_with(", h7.test / to u and 92 more"), "{}", lines[1]);
}

/// Names of the commands that `--help` lists, as `drain backend` for a command of a command.
fn commands(of: &[&str]) -> Vec<String> {
    let help = stdout(&longhaul(Path::new("/"), &[of, &["--help"]].concat()));
    let Some((_, listed)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names
        .flat_map(|name| {
            let path = [of, &[name]].concat();
            [vec![path.join(" ")], commands(&path)].concat()
        })
        .collect()
}

#[test]
fn completions_and_man_pages_name_every_command_and_their_options() {
    let dir = tempfile::tempdir().unwrap();
    let output = longhaul(dir.path(), &["generate", "out"]);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
    let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name)).unwrap();
    let commands = commands(&[]);
    assert!(commands.len() >= 14 && commands.iter().any(|one| one == "drain backend"), "{commands:?}");
    let (bash, zsh, fish) =
        (read("completions/longhaul.bash"), read("completions/_longhaul"), read("completions/longhaul.fish"));
    for command in &commands {
        let page = read(&format!("man/longhaul-{}.1", command.replace(' ', "-")));
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".TH longhaul"), "{command}: {page}");
        let word = command.rsplit(' ').next().unwrap();
        for script in [&bash, &zsh, &fish] {
            assert!(script.contains(word), "{command}");
        }
    }
    let page = read("man/longhaul.1");
    for part in ["longhaul\\-check(1)", "\\-\\-conf", "Exit codes: 0 done, 1 failed"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

/// Words that Bash offers at the end of a line.
fn offered(script: &Path, line: &str) -> String {
    let words = line.split(' ').collect::<Vec<_>>();
    let (last, before) = (words.len() - 1, words.len().saturating_sub(2));
    let program = format!(
        ". {}; COMP_WORDS=({}); COMP_CWORD={last}; _longhaul longhaul '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
        words[last],
        words[before],
    );
    let output = Command::new("bash").args(["--norc", "-c", &program]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    stdout(&output)
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(longhaul(dir.path(), &["generate", "."]).status.code(), Some(0));
    let script = dir.path().join("completions/longhaul.bash");
    assert_eq!(offered(&script, "longhaul tun").trim(), "tunnels");
    assert!(offered(&script, "longhaul init --").contains("--affinity"));
    assert!(offered(&script, "longhaul drain backend --o").contains("--over"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let output = longhaul(dir.path(), &["generate", "file"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("longhaul: file: cannot be written: "), "{output:?}");
}

#[test]
fn the_file_that_packages_install_is_one_without_a_fault() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/longhaul.yaml");
    let loaded = config::load(&path, &config::NoHooks).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_configuration_in_the_manifests_for_kubernetes_is_one_without_a_fault() {
    for name in ["deployment.yaml", "statefulset.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/kubernetes").join(name);
        let text = fs::read_to_string(path).unwrap();
        let objects = serde_yaml::Deserializer::from_str(&text);
        let objects = objects.map(|object| <serde_yaml::Value as serde::Deserialize>::deserialize(object).unwrap());
        let files: Vec<String> = objects
            .filter_map(|object| object.get("data")?.get("longhaul.yaml")?.as_str().map(str::to_owned))
            .collect();
        let [file] = files.as_slice() else { panic!("{name} has {} configurations", files.len()) };
        let loaded = config::parse(file, &config::NoHooks).unwrap();
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    }
}
