//! Files and answers without a gateway: what `where` and `check` say of members.

use std::fs;
use std::process::Command;

use crate::lab::config;
use crate::support::folder;

#[test]
fn where_and_check_read_the_file_of_members() {
    let dir = folder(&config("{ file: \"{dir}/members.yaml\" }", ""));
    let (conf, members) = (dir.path().join("longhaul.yaml"), dir.path().join("members.yaml"));
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_longhaul")).args(arguments).arg("-c").arg(&conf).output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    };
    fs::write(&members, "- { name: shard-0, address: 127.0.0.1:9001 }\n").unwrap();
    let found = run(&["where", "--ip", "203.0.113.7", "--path", "/?k=1"]);
    assert!(found.contains("shard-0 (127.0.0.1:9001)"), "{found}");
    assert!(!run(&["check"]).contains("warning"));
    fs::write(&members, "- { name: shard-0 }\n").unwrap();
    let said = run(&["check"]);
    let place = format!("warning: the members of a: {}:1:3: [0].address: missing", members.display());
    assert!(said.contains(&place), "{said}");
    for pipe in [&members, &conf] {
        fs::remove_file(pipe).unwrap();
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        let said = run(&["check"]);
        assert!(said.contains(&format!("{}: cannot be read: not a regular file", pipe.display())), "{said}");
    }
}
