//! The command line: exit codes, output, signals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use support::{Backend, Echo, Gateway, Lines, Named, Wire, one_upstream, within};
use tempfile::TempDir;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const CONFIG: &str = "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - upstream: u\nupstreams:\n  \
                      u:\n    backends: [127.0.0.1:9]\n    health: off\n";

/// Runs the command to its end.
fn longhaul(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file in a folder of its own.
fn file(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("longhaul.yaml");
    std::fs::write(&path, text.replace("{dir}", dir.path().to_str().unwrap())).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn a_good_file_passes_every_way_of_checking_it() {
    let (_dir, path) = file(CONFIG);
    for arguments in [&["check", "-c", &path][..], &["check", "--conf", &path], &["-t", "-c", &path]] {
        let output = longhaul(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert_eq!(stdout(&output), format!("{path}: ok (1 listener, 1 route, 1 upstream, 1 backend)\n"));
        assert_eq!(stderr(&output), "");
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
fn wrong_usage_exits_2_with_a_word_on_what_is_right() {
    let (_dir, path) = file(CONFIG);
    for (arguments, hint) in [
        (&[][..], "-c FILE"),
        (&["--nonsense"], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["-d"], "--conf"),
        (&["-t"], "--conf"),
        (&["check"], "FILE"),
        (&["-c"], "FILE"),
        (&["-c", &path, "check", &path], "check"),
        (&["where", "-c", &path], "--ip"),
        (&["where", "-c", &path, "--ip", "nobody"], "nobody"),
        (&["where", "-c", &path, "--ip", "::1", "--path", "ws"], "a path begins with /"),
        (&["where", "-c", &path, "--ip", "::1", "--cookie", "x"], "NAME=VALUE"),
        (&["where", "-c", &path, "--ip", "::1", "--header", "x"], "NAME=VALUE"),
        (&["where", "-c", &path, "--ip", "::1", "--header", "a b=c"], "--header"),
        (&["demo", "--listen", "8080"], "8080"),
    ] {
        let output = longhaul(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_tells_of_every_command_and_every_flag() {
    let help = stdout(&longhaul(&["--help"]));
    for part in ["check", "where", "demo", "-c, --conf <FILE>", "-d, --daemon", "-u, --upgrade", "-t, --test", "-V"] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 wrong usage") && help.contains("Signals: "), "{help}");
    for arguments in
        [&["--help"][..], &["check", "--help"], &["where", "--help"], &["demo", "--help"], &["help", "where"]]
    {
        let output = longhaul(arguments);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
        let help = stdout(&output);
        let lines: Vec<&str> = help.lines().collect();
        let flags = lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with('-'));
        for (at, line) in flags {
            // A flag's meaning stands behind it, or on the next line.
            let behind = line.trim_start().split_once("  ").is_some_and(|(_, text)| !text.trim().is_empty());
            let below = lines.get(at + 1).is_some_and(|next| next.starts_with("          ") && !next.trim().is_empty());
            assert!(behind || below, "{arguments:?}: {line:?} says nothing");
        }
    }
    let short = stdout(&longhaul(&["-h"]));
    assert!(short.contains("Usage: longhaul"), "{short}");
}

#[test]
fn the_version_is_the_packages() {
    for flag in ["--version", "-V"] {
        let output = longhaul(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stdout(&output), format!("longhaul {}\n", env!("CARGO_PKG_VERSION")));
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
fn an_access_log_that_cannot_be_written_is_named_and_exits_1() {
    let (_dir, path) = file(&format!("{CONFIG}access_log: {{ to: \"{{dir}}/missing/access.log\" }}\n"));
    let output = longhaul(&["-c", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/missing/access.log: No such file or directory"), "{output:?}");
}

/// A process that is not this test's child any more. It is ended when this is dropped.
struct Stray(u32);

impl Stray {
    fn signal(&self, name: &str) {
        let _ = Command::new("kill").arg(format!("-{name}")).arg(self.0.to_string()).stderr(Stdio::null()).status();
    }

    /// Tells whether it is gone, or dead and not yet waited for by its parent.
    fn is_gone(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
        stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        if !self.is_gone() {
            self.signal("KILL");
        }
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, found).await
}

#[tokio::test]
async fn a_daemon_writes_its_pid_and_serves() {
    let backend = Named::start().await;
    let keys = "pid_file: \"{dir}/longhaul.pid\"\nerror_log: \"{dir}/error.log\"\n\
                upgrade_sock: \"{dir}/upgrade.sock\"\naccess_log: { to: \"{dir}/access.log\" }\n";
    let (dir, path) = file(&format!("{}{keys}", one_upstream(&[backend.address()], "")));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
    let started = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["-d", "-c", &path])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut started = started.unwrap();
    let code = until("the command's end", || started.try_wait().unwrap()).await;
    let daemon = Stray(until("a pid in the file", || read("longhaul.pid")?.trim().parse().ok()).await);
    assert_eq!(code.code(), Some(0));
    assert_ne!(daemon.0, started.id());
    let address: SocketAddr = until("the daemon to listen", || {
        let log = read("error.log")?;
        log.lines().find_map(|line| line.split("listening on ").nth(1)?.parse().ok())
    })
    .await;
    assert_eq!(Wire::connect(address).await.get("/", "").await.address(), backend.address());
    until("the access log's line", || read("access.log")?.contains(" request ").then_some(())).await;
    daemon.signal("TERM");
    until("the daemon's end", || daemon.is_gone().then_some(())).await;
    assert!(TcpStream::connect(address).is_err());
}

/// Starts a gateway in the background, with this runtime folder, and waits for the command's end.
fn in_background(path: &str, runtime: &std::path::Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["-d", "-c", path]).stdin(Stdio::null()).env("RUNTIME_DIRECTORY", runtime);
    command.output().unwrap()
}

#[tokio::test]
async fn a_daemons_pid_lies_beside_its_control_socket_and_a_second_one_does_not_take_its_place() {
    let keys = "error_log: \"{dir}/error.log\"\naccess_log: off\n";
    let (dir, path) = file(&format!("{CONFIG}{keys}"));
    let pid_of = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok()?.trim().parse().ok();
    assert_eq!(in_background(&path, dir.path()).status.code(), Some(0));
    let first = Stray(until("a pid in the file", || pid_of("longhaul.pid")).await);

    // One with the same file would take the place, and is told so.
    let second = in_background(&path, dir.path());
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let place = dir.path().join("longhaul.pid");
    assert!(said.contains(&format!("another gateway has its process id in {}; name", place.display())), "{said}");
    assert_eq!(pid_of("longhaul.pid"), Some(first.0));

    // One with a control socket of its own has a file of its own.
    let (other, path) = file(&format!("{CONFIG}{keys}control_sock: \"{{dir}}/b.sock\"\n"));
    assert_eq!(in_background(&path, dir.path()).status.code(), Some(0));
    let read = || std::fs::read_to_string(other.path().join("b.sock.pid")).ok()?.trim().parse().ok();
    let third = Stray(until("a pid in the other file", read).await);
    assert_ne!(third.0, first.0);

    first.signal("TERM");
    third.signal("TERM");
    until("their ends", || (first.is_gone() && third.is_gone()).then_some(())).await;
}

#[test]
fn a_daemons_pid_goes_into_no_folder_that_others_may_write_to() {
    let (dir, path) = file(CONFIG);
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let refused = in_background(&path, dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("cannot run in the background: the folder ") && said.contains("others may write"), "{said}");
    assert!(!dir.path().join("longhaul.pid").exists());
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

#[tokio::test]
async fn signals_that_a_gateway_takes_do_not_end_it_from_its_first_word_on() {
    for _ in 0..20 {
        let mut gateway = Gateway::start(CONFIG).await;
        gateway.signal("HUP");
        gateway.signal("USR1");
        gateway.log.find(&["reloaded: generation 2, nothing to change"]).await;
        gateway.signal("INT");
        assert_eq!(gateway.ended().await, Some(0));
    }
}

#[tokio::test]
async fn a_gateway_told_to_end_at_once_ends_in_order() {
    for signal in ["INT", "TERM"].into_iter().cycle().take(20) {
        let mut gateway = Gateway::start(CONFIG).await;
        gateway.signal(signal);
        assert_eq!(gateway.ended().await, Some(0), "{signal}");
        gateway.log.find(&[if signal == "INT" { "ended" } else { "nothing is left to serve" }]).await;
    }
}

/// A gateway with an open tunnel and a request at a backend that answers on demand.
struct Busy {
    gateway: Gateway,
    request: Wire,
    tunnel: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
    let_go: tokio::sync::watch::Sender<bool>,
    _backends: (Backend, Echo),
}

impl Busy {
    async fn start() -> Self {
        let (let_go, may_answer) = tokio::sync::watch::channel(false);
        let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
        let slow = Backend::start(move |stream| {
            let (arrived, mut may_answer) = (arrived.clone(), may_answer.clone());
            async move {
                let mut wire = Wire::new(stream);
                while wire.request().await.is_some() {
                    arrived.send(()).await.unwrap();
                    if may_answer.wait_for(|may| *may).await.is_err() {
                        return;
                    }
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
                }
            }
        })
        .await;
        let echo = Echo::start().await;
        let config =
            one_upstream(&[slow.address], "").replace("- upstream", "- { path: /ws, upstream: ws }\n  - upstream");
        // By default a tunnel is closed at a random moment of half a minute.
        let config = config.replace("routes:", "drain: { window: 0s }\nroutes:");
        let gateway = Gateway::start(&format!("{config}  ws:\n    backends: [{}]\n", echo.address())).await;
        let mut request = Wire::connect(gateway.address()).await;
        request.send("GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        within("the request at its backend", arrivals.recv()).await;
        let (mut tunnel, _) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
        tunnel.next().await;
        Self { gateway, request, tunnel, let_go, _backends: (slow, echo) }
    }

    /// The code of the Close frame that the tunnel gets.
    async fn close_code(&mut self) -> u16 {
        loop {
            match within("a Close frame", self.tunnel.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("no Close frame: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn sigint_ends_the_gateway_at_once_whatever_is_open() {
    let mut busy = Busy::start().await;
    busy.gateway.signal("INT");
    assert_eq!(busy.gateway.ended().await, Some(0));
    assert!(busy.request.try_answer().await.is_err());
    let line = busy.gateway.access.find(&[" tunnel_end "]).await;
    assert!(line.contains(" by=gateway reason=shutdown"), "{line}");
}

#[tokio::test]
async fn sigterm_closes_tunnels_and_serves_what_runs_before_the_end() {
    let mut busy = Busy::start().await;
    busy.gateway.signal("TERM");
    busy.gateway.log.find(&["draining: 1 tunnels and 1 requests are left"]).await;
    assert_eq!(busy.close_code().await, 1001);
    while let Some(Ok(_)) = busy.tunnel.next().await {}
    assert!(TcpStream::connect(busy.gateway.address()).is_err(), "nothing new is accepted");
    busy.let_go.send(true).unwrap();
    assert_eq!(busy.request.answer().await.text(), "done");
    assert_eq!(busy.gateway.ended().await, Some(0));
    let line = busy.gateway.access.find(&[" tunnel_end "]).await;
    assert!(line.contains(" close_code=1001 by=gateway reason=shutdown"), "{line}");
    busy.gateway.access.find(&[" request ", " status=200 "]).await;
}

#[tokio::test]
async fn a_second_sigterm_or_sigint_ends_the_gateway_at_once() {
    for second in ["TERM", "INT"] {
        let mut busy = Busy::start().await;
        busy.gateway.signal("TERM");
        busy.close_code().await;
        // The request still runs, and holds the gateway.
        busy.gateway.signal(second);
        assert_eq!(busy.gateway.ended().await, Some(0), "{second}");
    }
}

#[tokio::test]
async fn the_demo_serves_its_page_and_ends_on_sigint() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["demo", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let words = Lines::of(demo.stdout.take().unwrap());
    let log = Lines::of(demo.stderr.take().unwrap());
    let line = words.find(&["open http://"]).await;
    let demo_process = Stray(demo.id());
    let url = line.strip_prefix("open ").unwrap();
    let page = reqwest::get(url).await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<html"));
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let (mut socket, _) = connect_async(format!("ws://{address}/ws?client=me")).await.unwrap();
    assert!(socket.next().await.unwrap().is_ok());
    let ports = listening_ports(demo.id());
    assert!(ports.len() >= 5, "gateway, page and three backends: {ports:?}");

    demo_process.signal("INT");
    let code = until("the demo's end", || demo.try_wait().unwrap()).await;
    assert_eq!(code.code(), Some(0), "{:?}", log.all());
    for port in ports {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "port {port} is open still");
    }
}

/// The ports that a process listens on, by /proc.
fn listening_ports(pid: u32) -> Vec<u16> {
    let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let sockets: Vec<PathBuf> = links.collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| row[3] == "0A");
    let ours = listening.filter(|row| sockets.contains(&PathBuf::from(format!("socket:[{}]", row[9]))));
    ours.map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap()).collect()
}
