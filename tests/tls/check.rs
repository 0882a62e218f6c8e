//! `longhaul check` on certificates: which names each covers, and which hosts of routes none covers.

use std::process::Command;

use crate::support::certificates::Authority;
use crate::support::folder;

#[test]
fn check_lists_the_names_of_certificates_and_the_hosts_that_none_covers() {
    let dir = folder(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:8443\n    tls:\n      certificates:\n        \
         - { cert: '{dir}/a.pem', key: '{dir}/a.key' }\n        - { cert: '{dir}/b.pem', key: '{dir}/b.key' }\n\
         routes:\n  - { host: a.test, upstream: u }\n  - { host: x.wild.test, upstream: u }\n  \
         - { host: \"*.wild.test\", upstream: u }\n  - { host: a.b.wild.test, upstream: u }\n  \
         - { host: \"*.other.test\", upstream: u }\n  - { host: none.test, upstream: u }\n  \
         - { host: none.test, path: /again, upstream: u }\n  - { upstream: u }\n\
         upstreams: { u: { backends: [127.0.0.1:9001] } }\n",
    );
    let authority = Authority::new("Test Authority");
    authority.issue(&["a.test", "127.0.0.1"]).write(dir.path(), "a");
    authority.issue(&["*.wild.test"]).write(dir.path(), "b");
    let mut check = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    let output = check.arg("check").arg("-c").arg(dir.path().join("longhaul.yaml")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("a.pem covers a.test, 127.0.0.1; valid until ") && said.contains("Z, the default\n"),
        "{said}"
    );
    assert!(said.contains("b.pem covers *.wild.test; valid until "), "{said}");
    let uncovered: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("no certificate covers ")).collect();
    let hosts: Vec<_> = uncovered.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(hosts, ["a.b.wild.test", "*.other.test", "none.test"], "{said}");
}
