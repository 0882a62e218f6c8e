//! The program itself: processes lead sessions of their own, and a run reports figures, switches and warnings.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul-bench")).args(arguments).output().expect("it was built for this test")
}

#[test]
fn a_launched_program_leads_a_session_of_its_own() {
    let output = bench(&["launch", "--end", "9", "--", "cat", "/proc/self/stat"]);
    let stat = String::from_utf8(output.stdout).unwrap();
    // proc_pid_stat(5): pid, (name), state, parent, process group, session.
    let fields: Vec<&str> = stat.split_whitespace().collect();
    assert_eq!((fields[4], fields[5]), (fields[0], fields[0]), "{stat}");
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    let output = bench(&["launch", "--end", "9", "--", "/no/such/program"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/program"));
}

#[test]
fn a_run_has_switches_beside_cpu_and_its_processes_are_scheduled_alike() {
    let run = ["--quick", "--repeats", "1", "--seconds", "0.1", "--peers", "nginx,direct", "--only", "echo64"];
    let output = bench(&run);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Title, a dash for the backends alone, the figure of nginx.
    let is_row = |line: &str, title| line.starts_with(&format!("| {title} | – | ")) && line.matches(" | ").count() == 2;
    for title in ["echo 64 B, 64 tunnels: CPU, µs", "… context switches, voluntary", "… context switches, involuntary"]
    {
        assert!(page.lines().any(|line| is_row(line, title)), "{title}: {page}");
    }
    for difference in ["share a scheduling group", "scheduling groups instead", "is scheduled unlike"] {
        assert!(!page.contains(difference), "{page}");
    }
}

#[test]
fn the_second_generator_does_each_kind_of_load_without_errors() {
    let works = ["--only", "echo1,paced,stream,handshake", "--generator", "tokio", "--rate", "1000"];
    let output = bench(&[&["--quick", "--repeats", "1", "--seconds", "0.1", "--peers", "nginx"], &works[..]].concat());
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for title in ["echo 64 B, 1 tunnel", "echo 64 B at a fixed rate", "stream of 64 KiB", "handshake + echo + close"] {
        let figure = |line: &str| line.split(" | ").nth(1).is_some_and(|cell| !cell.starts_with('–'));
        assert!(page.lines().any(|line| line.starts_with(&format!("| {title}")) && figure(line)), "{title}: {page}");
    }
    assert!(page.contains("\n| errors in all loads | 0 |\n") && page.contains("Generator: Tokio"), "{page}");
    assert!(!page.contains("Not measured") && !page.contains("share a scheduling group"), "{page}");
}

#[test]
fn each_work_over_tls_is_done_without_errors_and_resumed_sessions_are_resumed() {
    let works = ["--only", "tls-idle,tls-echo64,tls-echo1,tls-stream,tls-handshake,tls-resumed"];
    let run = ["--quick", "--seconds", "0.1", "--repeats", "1", "--wait", "0.1", "--idle", "20", "--peers", "nginx"];
    let output = bench(&[&run[..], &works].concat());
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let titles = [
        "idle tunnel over TLS, user memory, KiB",
        "echo 64 B over TLS, 64 tunnels: CPU, µs",
        "echo 64 B over TLS, 1 tunnel, one core: CPU, µs",
        "stream of 64 KiB messages over TLS: CPU per MiB echoed, µs",
        "full TLS handshake + upgrade + echo + close: CPU, µs",
        "resumed TLS handshake + upgrade + echo + close: CPU, µs",
    ];
    for title in titles {
        let figure = |line: &str| line.split(" | ").nth(1).is_some_and(|cell| !cell.starts_with('–'));
        assert!(page.lines().any(|line| line.starts_with(&format!("| {title} | ")) && figure(line)), "{title}: {page}");
    }
    assert!(page.contains("\n| errors in all loads | 0 |\n") && !page.contains("Not measured"), "{page}");
}

#[test]
fn work_that_a_generator_does_not_have_is_refused() {
    let output = bench(&["--generator", "tokio", "--only", "fairness", "--peers", "direct"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("this generator has no Fairness"));
}

#[test]
fn sigterm_to_the_first_process_ends_the_run_and_its_processes() {
    let mut first = Command::new(env!("CARGO_BIN_EXE_longhaul-bench"))
        .args(["--peers", "direct", "--only", "echo64", "--seconds", "600", "--repeats", "1"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&first);
    // Backends are there: the load runs.
    let id = pid.as_raw_nonzero().get();
    while longhaul_bench::proc::descendants(id).len() < 4 {
        assert!(first.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let started = longhaul_bench::proc::descendants(id);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(!first.wait().unwrap().success());
    assert!(started.iter().all(|pid| !longhaul_bench::proc::is_alive(*pid)));
}

#[test]
fn a_small_storm_lets_everybody_in_through_each_gateway() {
    // The gateway of this repository takes part where the tests of its own have built it.
    let longhaul = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/longhaul");
    let (peers, count) = match std::path::Path::new(longhaul).is_file() {
        true => ("longhaul,nginx,haproxy", 3),
        false => ("nginx,haproxy", 2),
    };
    let run =
        ["storm", "--clients", "200", "--rate", "100", "--talkers", "20", "--peers", peers, "--longhaul", longhaul];
    for tls in [&[][..], &["--tls", "full"], &["--tls", "resumed"]] {
        let output = bench(&[&run[..], tls].concat());
        let page = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(page.contains("## nginx\n") && page.contains("## HAProxy\n"), "{page}");
        assert_eq!(page.matches("| not in at the end | 0 |").count(), count, "{page}");
        assert_eq!(page.matches("Admissions in each second: ").count(), count, "{page}");
        assert_eq!(page.matches("| in, and no echo; not resumed | 0; 0 |").count(), count, "{page}");
    }
}

#[test]
fn restarts_of_backends_tell_what_they_cost_clients() {
    // The gateway of this repository takes part where the tests of its own have built it.
    let longhaul = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/longhaul");
    let peers = if std::path::Path::new(longhaul).is_file() { "longhaul,nginx" } else { "nginx" };
    let run = ["reattach", "--clients", "20", "--pause", "0.1", "--peers", peers, "--longhaul", longhaul];
    let output = bench(&run);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{page}{}", String::from_utf8_lossy(&output.stderr));
    for way in ["planned", "killed"] {
        let row = |title: &str| {
            page.lines().find(|line| line.starts_with(&format!("| {title}, {way} | "))).map(str::to_owned)
        };
        let nginx = row("nginx").unwrap_or_else(|| panic!("{page}"));
        assert!(!nginx.starts_with(&format!("| nginx, {way} | 0 |")), "nginx cuts clients off: {nginx}");
        if peers.starts_with("longhaul") {
            let ours = row("Longhaul").unwrap_or_else(|| panic!("{page}"));
            assert!(ours.contains(&format!("| Longhaul, {way} | 0 | 0, 0 | 0 |")), "{ours}");
        }
    }
}
