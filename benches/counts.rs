//! Instructions of a forwarded message, plain and by TLS, and of a handshake, without and with the access log, counted
//! by callgrind: `make counts`
//!
//! Counts differ by 3 % at most from run to run, times by more on shared machines. The program fails when a count is
//! 15 % above the stated one. Each work runs in two lengths, and the shorter count is subtracted from the longer one,
//! so that start and end do not count. callgrind does not see instructions of the kernel.
//!
//! `make counts` counts the build without optimisation that the tests made. An addition to a path shows there too.
//! `cargo bench --bench counts` builds with optimisation, for minutes, and counts instructions of a real gateway.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends there")]
#![allow(unreachable_pub, reason = "a bench's modules are seen by nobody else")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use longhaul::access_log::AccessLog;
use longhaul::config::{self, LogFormat, LogTarget, TunnelLimits};
use longhaul::tunnel::Tunnels;

#[allow(dead_code, reason = "not every binary needs all of it")]
#[path = "../tests/support/certificates.rs"]
mod certificates;
#[path = "../tests/support/lane.rs"]
mod lane;
#[path = "../tests/counts/sealed.rs"]
mod sealed;
#[path = "../tests/support/shake.rs"]
mod shake;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An operation to be repeated and counted.
struct Work {
    name: &'static str,
    /// Counts of the last accepted run, with optimisation and without.
    stated: [u64; 2],
    /// Repetitions in the short and in the long run.
    times: [u64; 2],
    /// Units of each repetition.
    units: u64,
    /// Number of threads that come first and do not count: those of the client and of the backend, between them one of
    /// jemalloc's.
    peers: usize,
    run: fn(u64),
}

const WORKS: [Work; 4] = [
    Work { name: "message", stated: [945, 7_780], times: [500, 2_500], units: 2, peers: 1, run: messages },
    Work { name: "sealed", stated: [4_130, 24_710], times: [500, 2_500], units: 2, peers: 1, run: sealed_messages },
    Work { name: "handshake", stated: [43_200, 442_000], times: [100, 300], units: 1, peers: 3, run: handshakes },
    Work { name: "logged", stated: [53_900, 523_000], times: [100, 300], units: 1, peers: 3, run: logged_handshakes },
];

/// Messages of 64 bytes, there and back through one tunnel.
fn messages(times: u64) {
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let mut lane = lane::Lane::open(&tunnels, TunnelLimits::default());
    (0..times).for_each(|_| lane.exchange());
}

/// The same with TLS 1.3 on both sides.
fn sealed_messages(times: u64) {
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let mut lane = sealed::SealedLane::open(&tunnels, &rustls::version::TLS13);
    (0..times).for_each(|_| lane.exchange());
}

/// Handshakes with a gateway, a message on each, and the tunnel's end.
fn handshakes(times: u64) {
    shake_hands(times, None);
}

/// The same, with two lines each in an access log.
fn logged_handshakes(times: u64) {
    shake_hands(times, Some(config::AccessLog { to: LogTarget::File("/dev/null".into()), format: LogFormat::Text }));
}

fn shake_hands(times: u64, log: Option<config::AccessLog>) {
    // When it is first asked for random bytes, aws-lc measures the jitter of the clock, in as many instructions as
    // 9,500 handshakes take, give or take 50. It is asked here, on a thread that does not count.
    aws_lc_rs::rand::fill(&mut [0]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let gateway = shake::serve(dir.path(), log);
    (0..times).for_each(|_| shake::shake(gateway));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [name, times] => {
            let work = WORKS.iter().find(|work| work.name == name).unwrap();
            (work.run)(times.parse().unwrap());
            ExitCode::SUCCESS
        }
        [bench] if bench == "--bench" => count(),
        // `cargo test --all-targets` runs benches too: a short form for it.
        _ => {
            messages(1);
            ExitCode::SUCCESS
        }
    }
}

fn count() -> ExitCode {
    let mut within = true;
    for work in WORKS {
        let [short, long] = work.times;
        let more = instructions(&work, long) - instructions(&work, short);
        let each = more / ((long - short) * work.units);
        let stated = work.stated[usize::from(cfg!(debug_assertions))];
        println!("{:<9} {each:>8} instructions, {stated:>8} are stated", work.name);
        if each > stated * 115 / 100 {
            eprintln!("a {} takes too many; if it has to, say why, and state the new count", work.name);
            within = false;
        } else if each < stated * 85 / 100 {
            println!("a {} takes far fewer: state the new count, to keep it", work.name);
        }
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Instructions of one run, without the threads of clients and backends.
fn instructions(work: &Work, times: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", dir.path().join("count").display()))
        .arg(std::env::current_exe().unwrap())
        .args([work.name, &times.to_string()])
        .stdin(Stdio::null())
        .status()
        .expect("valgrind is installed (tests/install.sh test)");
    assert!(status.success(), "valgrind: {status}");
    // One file a thread, numbered from 01, beside one for the process.
    let threads = std::fs::read_dir(dir.path()).unwrap().filter_map(|file| thread(&file.unwrap().path()));
    let counted: Vec<u64> = threads.filter(|&(number, _)| number > work.peers).map(|(_, count)| count).collect();
    assert!(!counted.is_empty(), "callgrind wrote no counts");
    counted.into_iter().sum()
}

/// Thread number of a file of callgrind, and the instructions of the thread.
fn thread(file: &Path) -> Option<(usize, u64)> {
    let number = file.file_name()?.to_str()?.strip_prefix("count-")?.parse().ok()?;
    let text = std::fs::read_to_string(file).unwrap();
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    Some((number, totals.trim().parse().unwrap()))
}
