//! `longhaul upgrade`: the running gateway starts its own successor.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};

use crate::lab::{Lab, blocking, config, get, ready};
use crate::support::{Gateway, PATIENCE, Successor, script, within};
use crate::ws::{Tunnel, all_echo, open_several};

/// Asks the gateway to upgrade, as an operator does.
async fn upgrade(gateway: &Gateway, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.arg("upgrade").args(arguments).arg("--socket").arg(gateway.dir.path().join("control.sock"));
    blocking(move || command.stdin(Stdio::null()).output().unwrap()).await
}

#[tokio::test]
async fn an_upgrade_by_command_moves_every_tunnel_and_ends_the_old_process() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    gateway.log.find(&["control socket at"]).await;
    let mut tunnels = open_several(gateway.address(), 5).await;
    all_echo(&mut tunnels).await;
    let output = upgrade(&gateway, &[]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let successor = Successor::of(&said);
    assert!(said.contains(" has taken over: 5 tunnels moved, 0 stayed, longest pause "), "{said}");
    assert_eq!(gateway.ended().await, Some(0));
    all_echo(&mut tunnels).await;
    assert_eq!(get(gateway.address()).await, lab.address());

    // The successor listens at the same sockets for operators and for its own successor.
    gateway.log.find_nth(&["control socket at"], 1).await;
    let output = upgrade(&gateway, &[]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let _next = Successor::of(&said);
    assert!(said.contains(" has taken over: 5 tunnels moved, 0 stayed"), "{said}");
    all_echo(&mut tunnels).await;
    drop(successor);
}

/// A program that stands in for a new release: it takes the configuration, or not even that, and then does nothing.
fn idle_program(gateway: &Gateway, takes_configuration: bool) -> String {
    let path = gateway.dir.path().join("idle.sh");
    let tested = if takes_configuration { "[ \"$1\" = -t ] && exit 0\n" } else { "" };
    script(&path, &format!("{tested}exec sleep 600\n"));
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn signals_to_end_are_heard_while_the_new_process_starts() {
    for (signal, takes_configuration) in [("TERM", true), ("INT", true), ("TERM", false), ("INT", false)] {
        let lab = Lab::start().await;
        let mut gateway = lab.gateway("").await;
        gateway.log.find(&["control socket at"]).await;
        let program = idle_program(&gateway, takes_configuration);
        let socket = gateway.dir.path().join("control.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["upgrade", "--binary", &program, "--socket"]).arg(socket).stdin(Stdio::null());
        let asked = tokio::spawn(blocking(move || command.output().unwrap()));
        // The program runs: its name is on a command line.
        within("the new program to run", async {
            while !runs(&gateway) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        gateway.signal(signal);
        assert_eq!(gateway.ended().await, Some(0), "{signal}, {takes_configuration}");
        let output = asked.await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("nothing has changed: this process is told to end"), "{said}");
    }
}

/// True when the gateway has a child that is past its start.
fn runs(gateway: &Gateway) -> bool {
    let pid = gateway.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let others = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let children = others
        .fold(children, |all, task| all + &std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children
        .split_whitespace()
        .any(|child| std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "sleep"))
}

#[tokio::test]
async fn a_drained_backend_stays_drained_across_an_upgrade() {
    let (drained, other) = (Lab::start().await, Lab::start().await);
    let yaml = config(&[drained.address(), other.address()], "");
    let mut gateway = ready(Gateway::start(&yaml).await).await;
    gateway.log.find(&["control socket at"]).await;
    let socket = gateway.dir.path().join("control.sock");
    let drain = move |undo: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["drain", "backend", &format!("u/{}", drained.address())]).arg("--socket").arg(&socket);
        command.args(undo.then_some("--undo"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        drained.address()
    };
    let drained = blocking(move || (drain(false), drain)).await;
    let (address, drain) = drained;
    crate::lab::upgrade(&mut gateway).await;
    for _ in 0..8 {
        assert_eq!(get(gateway.address()).await, other.address());
    }
    let metric = format!("longhaul_backend_draining{{backend=\"{address}\",upstream=\"u\"}}");
    assert_eq!(gateway.metric(&metric).await, 1.0);
    gateway.log.find_nth(&["control socket at"], 0).await;
    blocking(move || drain(true)).await;
    assert_eq!(gateway.metric(&metric).await, 0.0);
}

/// systemd follows the process that is the main one from then on (sd_notify(3), `MAINPID`).
#[tokio::test]
async fn the_service_manager_is_told_which_process_is_the_main_one() {
    let lab = Lab::start().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let named = dir.path().join("notify");
    let mut gateway = Gateway::start_with(&lab.config(""), &[("NOTIFY_SOCKET", named.to_str().unwrap())]).await;
    gateway.log.find(&["control socket at"]).await;
    let output = upgrade(&gateway, &[]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let successor = Successor::of(&said);
    assert_eq!(gateway.ended().await, Some(0));
    let told = blocking(move || {
        let mut told = Vec::new();
        while !told.iter().any(|text: &String| text.contains("MAINPID=")) {
            let mut datagram = [0; 4096];
            let length = socket.recv(&mut datagram).unwrap();
            told.push(String::from_utf8_lossy(&datagram[..length]).into_owned());
        }
        told
    })
    .await;
    assert!(told[0].contains("READY=1"), "{told:?}");
    let main = format!("MAINPID={}", successor.0.as_raw_nonzero());
    assert!(told.iter().any(|text| text.lines().any(|line| line == main)), "{told:?}");
}

#[tokio::test]
async fn an_upgrade_that_cannot_be_says_why_and_changes_nothing() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    gateway.log.find(&["control socket at"]).await;
    let mut tunnel = Tunnel::open(gateway.address(), "/echo").await;
    let file = gateway.dir.path().join("longhaul.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    // The program passes the test of the configuration, and ends at once when it is to take over.
    let dies = gateway.dir.path().join("dies");
    script(&dies, "[ \"$1\" = -t ]\n");
    let [silent, talks] = ["silent", "talks"].map(|name| gateway.dir.path().join(name));
    script(&silent, "exit 3\n");
    script(&talks, "echo no such option; exit 1\n");
    let cases = [
        (vec!["--binary", "/nowhere/longhaul"], None, 1, "cannot be run: No such file or directory"),
        (vec![], Some("version: 1\nlisteners: 7\n"), 2, "longhaul.yaml:2:12: listeners"),
        (vec!["--binary", silent.to_str().unwrap()], None, 1, "nothing and ended (exit status: 3); it may be no"),
        (vec!["--binary", talks.to_str().unwrap()], None, 2, "refuses the configuration:\nno such option"),
        (vec!["--binary", dies.to_str().unwrap()], None, 1, "the new process ended before it took over"),
    ];
    for (arguments, yaml, code, why) in cases {
        std::fs::write(&file, yaml.unwrap_or(&good)).unwrap();
        let output = upgrade(&gateway, &arguments).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("nothing has changed: ") && said.contains(why), "{said}");
        tunnel.echoes().await;
        assert_eq!(get(gateway.address()).await, lab.address());
    }
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
}
