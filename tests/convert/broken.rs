//! Sources with problems, and wrong usage: exit codes, words, and what is left on the disk.

use std::path::Path;

use crate::{longhaul, text};

/// Writes files into a folder, converts the first one, and returns the exit code and what was said, without the folder.
fn converted(files: &[(&str, &str)], more: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let main = dir.path().join(files[0].0);
    let output = longhaul(&[&["convert", main.to_str().unwrap()], more].concat());
    let said = text(&output.stderr).replace(&format!("{}/", dir.path().display()), "");
    (output.status.code().unwrap(), said)
}

#[test]
fn every_problem_of_nginx_is_named_with_its_place() {
    let main = "http {\n  include a.conf;\n  include missing.conf;\n  server {\n    listen 80\n  }\n";
    let (code, said) = converted(&[("n.conf", main), ("a.conf", "upstream a { server 'x; }\n")], &[]);
    assert_eq!(code, 2);
    for part in [
        "n.conf:1: the block `http` is not closed\n  expected: `}` before the end of the file",
        "n.conf:5: `}` behind `listen`\n  expected: `;` at the directive's end",
        "n.conf: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn files_that_include_each_other_end() {
    let files = [("n.conf", "http { include a.conf; }\n"), ("a.conf", "\ninclude n.conf;\n")];
    let (code, said) = converted(&files, &[]);
    assert_eq!((code, said.contains("a.conf:2: `n.conf` includes itself")), (2, true), "{said}");
    // A glob that takes in the file that it stands in.
    let (code, said) = converted(&[("n.conf", "http { include *.conf; }\n")], &[]);
    assert_eq!((code, said.contains("n.conf:1: `n.conf` includes itself")), (2, true), "{said}");
    let (code, said) = converted(&[("n.conf", "http { include missing.conf; }\n")], &[]);
    assert_eq!((code, said.contains("n.conf:1: `missing.conf` cannot be read: ")), (2, true), "{said}");
}

#[test]
fn every_problem_of_haproxy_is_named_with_its_place() {
    let main = "timeout connect 1s\nfrontend\n  bind :80\n  default_backend nobody\nfrontend b\n  bind 'x\n.if 1\n";
    let (code, said) = converted(&[("h.cfg", main)], &["--from", "haproxy"]);
    assert_eq!(code, 2);
    for part in [
        "h.cfg:1: `timeout` outside of a section",
        "h.cfg:2: `frontend` without a name",
        "h.cfg:4: `nobody` is no backend of the file",
        "h.cfg:6: a quote is not closed",
        "h.cfg:7: `.if` is not evaluated",
        "h.cfg: 5 problems",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn every_problem_of_envoy_is_named_with_its_place() {
    for (text, part) in [
        ("static_resources:\n  listeners: [\n", "e.yaml:3: "),
        ("static_resources: []\n", "e.yaml:1: the file has no `static_resources`"),
        ("static_resources: {}\n", "e.yaml:1: nothing in the files becomes a listener"),
        ("a: 1\n", "e.yaml:1: the file has no `static_resources`"),
    ] {
        let (code, said) = converted(&[("e.yaml", text)], &["--from", "envoy"]);
        assert!(code == 2 && said.contains(part), "{part}: {code} {said}");
    }
}

#[test]
fn a_source_that_is_no_utf_8_is_told_with_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.conf");
    std::fs::write(&path, b"# gateway\n# f\xfcr alle\n").unwrap();
    let output = longhaul(&["convert", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be read: line 2 is not UTF-8: save the file as UTF-8"), "{output:?}");
}

#[test]
fn lines_without_an_equivalent_are_told_of() {
    let envoy = std::fs::read_to_string("tests/convert/envoy/ring_hash.yaml").unwrap();
    let retries = "            retry_policy: { retry_on: 5xx }\n                            idle_timeout: 86400s\n";
    let envoy = envoy.replace("            idle_timeout: 86400s\n", retries);
    let haproxy = std::fs::read_to_string("tests/convert/haproxy/websocket_basic.cfg").unwrap();
    let haproxy = haproxy.replace("timeout queue 30s", "timeout quue 30s");
    for (name, source, part) in [
        ("e.yaml", envoy, "`retry_policy:`: left out: a handshake is sent to `tries` backends"),
        ("h.cfg", haproxy, "`timeout quue 30s`: left out: no equivalent"),
    ] {
        let (code, said) = converted(&[(name, &source)], &[]);
        assert!(code == 0 && said.contains(part), "{part}: {code} {said}");
    }
}

#[test]
fn wrong_usage_says_what_to_do() {
    let (code, said) = converted(&[("x.txt", "hello world\n")], &[]);
    assert!(code == 2 && said.contains("name the program with `--from`"), "{code} {said}");
    let output = longhaul(&["convert", "no/such/file.conf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no/such/file.conf cannot be read: "), "{output:?}");
    for arguments in [&["convert"][..], &["convert", "x", "--force"], &["convert", "x", "--from", "apache"]] {
        assert_eq!(longhaul(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let (code, said) = converted(&[("n.conf", "http { server { listen 80; return 200; } }\n")], &[]);
    assert!(code == 2 && said.contains("nothing in the files becomes a route to a backend"), "{code} {said}");
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let source = "tests/convert/nginx/ip_hash.conf";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("longhaul.yaml");
    let name = path.to_str().unwrap();
    std::fs::write(&path, "mine").unwrap();
    let output = longhaul(&["convert", source, "-o", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is there already; `--force` replaces it"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let output = longhaul(&["convert", source, "-o", name, "--force"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert/nginx/ip_hash.expected");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), std::fs::read_to_string(expected).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let to_output = longhaul(&["convert", source, "-o", "-"]);
    assert_eq!(text(&to_output.stdout), std::fs::read_to_string(&path).unwrap(), "{to_output:?}");
    let nowhere = dir.path().join("none/longhaul.yaml");
    let output = longhaul(&["convert", source, "-o", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn what_a_source_says_cannot_leave_its_comment() {
    let main = "http { server { listen 80; proxy_set_header Host $host; 'a\nevil: true' \"b\u{7}`\u{1b}[2J\"; \
                location / { proxy_pass http://127.0.0.1:1; } } }\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.conf");
    std::fs::write(&path, main).unwrap();
    let output = longhaul(&["convert", "--from", "nginx", path.to_str().unwrap()]);
    let (yaml, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    for text in [&yaml, &said] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }
    // Header values may be secrets.
    let secret = "frontend f\n  mode http\n  bind :80\n  default_backend b\nbackend b\n  mode http\n  \
                  http-request set-header Authorization \"Basic c2VjcmV0\" if { path /x }\n  server s 127.0.0.1:1\n";
    let (code, said) = converted(&[("h.cfg", secret)], &[]);
    assert!(code == 0 && said.contains("set-header Authorization") && !said.contains("c2VjcmV0"), "{code} {said}");
}
