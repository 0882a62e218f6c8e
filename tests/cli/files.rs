//! Files: checks of them, and every problem named.

use super::{CONFIG, file, longhaul, stderr, stdout};

#[test]
fn a_good_file_passes_every_way_of_checking_it() {
    let (_dir, path) = file(CONFIG);
    for arguments in [&["check", "-c", &path][..], &["check", "--conf", &path], &["-t", "-c", &path]] {
        let output = longhaul(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let said = stdout(&output);
        let begin =
            format!("{path}: ok (1 listener, 1 route, 1 upstream, 1 backend)\nlisteners: 127.0.0.1:0\nroutes: ");
        assert!(said.starts_with(&begin) && said.lines().count() == 4, "{said}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_check_says_which_members_it_cannot_count() {
    let (_dir, path) = file(&CONFIG.replace("[127.0.0.1:9]", "[localhost:9]"));
    let output = longhaul(&["check", "-c", &path]);
    let said = stdout(&output);
    assert!(said.contains("; 1 upstream with members looked up while it runs)\n"), "{output:?}");
}

#[test]
fn a_second_port_and_a_nul_are_named_as_such() {
    for (text, part) in [
        (CONFIG.replace("127.0.0.1:9]", "chat.example.com:80:80]"), "`chat.example.com:80` has a port already"),
        (CONFIG.replace("health: off", "health: off\0"), "remove the NUL"),
    ] {
        let (_dir, path) = file(&text);
        let output = longhaul(&["check", "-c", &path]);
        assert!(output.status.code() == Some(2) && stderr(&output).contains(part), "{part}: {output:?}");
    }
}

#[test]
fn every_command_that_reads_a_bad_file_names_its_problems_and_exits_2() {
    let (_dir, path) = file(&CONFIG.replace("upstream: u", "upstream: v").replace("127.0.0.1:9", "127.0.0.1:99999"));
    for arguments in [
        &["check", "-c", &path][..],
        &["-t", "-c", &path],
        &["-c", &path],
        &["where", "-c", &path, "--ip", "127.0.0.1"],
    ] {
        let output = longhaul(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let said = stderr(&output);
        assert!(said.contains(&format!("{path}:5:")) && said.contains(&format!("{path}:8:")), "{said}");
        assert!(said.ends_with("longhaul.yaml: 2 problems\n"), "{said}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_exits_2() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.yaml");
    for path in [missing.to_str().unwrap(), dir.path().to_str().unwrap()] {
        for arguments in [&["check", "-c", path][..], &["-c", path]] {
            let output = longhaul(arguments);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            assert!(stderr(&output).contains(path), "{output:?}");
        }
    }
}

#[test]
fn where_finds_no_route_and_exits_1() {
    let (_dir, path) = file(&CONFIG.replace("- upstream", "- host: a.test\n    upstream"));
    let output = longhaul(&["where", "-c", &path, "--ip", "192.0.2.1", "--host", "b.test"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "client    192.0.2.1\nroute     none matches: answered 404\n");
    let output = longhaul(&["where", "-c", &path, "--ip", "192.0.2.1", "--host", "a.test"]);
    assert_eq!(output.status.code(), Some(0));
}
