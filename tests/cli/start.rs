//! Starts that fail: an address, a log or a predecessor that cannot be had.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::{CONFIG, file, longhaul, stderr, until};
use crate::support::Lines;

#[test]
fn an_address_that_cannot_be_had_is_named_and_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let foreign = "192.0.2.1:8080".parse().unwrap();
    for (address, hint) in [(taken, "another process listens there"), (foreign, "is not one of this machine's")] {
        let listener = CONFIG.replace("127.0.0.1:0", &address.to_string());
        let metrics = format!("{CONFIG}metrics: {{ address: \"{address}\" }}\n");
        for config in [listener, metrics] {
            let _holder = TcpListener::bind(address);
            let (_dir, path) = file(&config);
            let output = longhaul(&["-c", &path]);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(&format!("longhaul: cannot listen on {address}: ")) && said.contains(hint), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}

#[test]
fn every_address_that_cannot_be_had_is_named_in_one_run() {
    let holders = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = holders.each_ref().map(|holder| holder.local_addr().unwrap());
    let listeners = CONFIG.replace("127.0.0.1:0", &format!("{first}\n  - address: {second}"));
    let (_dir, path) = file(&format!("{listeners}metrics: {{ address: \"192.0.2.1:8080\" }}\n"));
    let output = longhaul(&["-c", &path]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, address) in lines.iter().zip([first.to_string(), second.to_string(), "192.0.2.1:8080".into()]) {
        assert!(line.contains(&format!("cannot listen on {address}: ")), "{said}");
    }
}

#[test]
fn an_access_log_that_cannot_be_written_is_named_and_exits_1() {
    let (_dir, path) = file(&format!("{CONFIG}access_log: {{ to: \"{{dir}}/missing/access.log\" }}\n"));
    let output = longhaul(&["-c", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/missing/access.log: No such file or directory"), "{output:?}");
}

#[tokio::test]
async fn an_upgrade_of_nobody_gives_up_and_exits_1() {
    let (_dir, path) = file(&format!("{CONFIG}upgrade_sock: \"{{dir}}/upgrade.sock\"\n"));
    let started = Command::new(env!("CARGO_BIN_EXE_longhaul")).args(["-u", "-c", &path]).stderr(Stdio::piped()).spawn();
    let mut started = started.unwrap();
    let log = Lines::of(started.stderr.take().unwrap());
    let code = until("the command's end", || started.try_wait().unwrap()).await;
    assert_eq!(code.code(), Some(1));
    log.find(&["longhaul: cannot take over from the gateway at ", "/upgrade.sock: "]).await;
    assert_eq!(log.count(&["listening on"]), 0);
}
