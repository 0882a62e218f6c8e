//! The gateway under test: the real binary, with a configuration of the test's.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;

use super::{Lines, within};

/// A running gateway. It is killed when dropped.
pub struct Gateway {
    child: Child,
    program: PathBuf,
    /// Folder of its configuration and other files; its successors share it.
    pub dir: Arc<TempDir>,
    /// Addresses that it listens on, in the order of the configuration's listeners.
    pub addresses: Vec<SocketAddr>,
    /// The address of its metrics, if it has them.
    pub metrics: Option<SocketAddr>,
    /// The address of its admin API, if it has one.
    pub admin: Option<SocketAddr>,
    /// Standard output: the access log.
    pub access: Lines,
    /// Standard error: the diagnostics.
    pub log: Lines,
}

impl Gateway {
    /// Starts a gateway with a complete configuration, and waits until it listens. `{dir}` stands for its folder.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[]).await
    }

    /// As [`start`](Self::start), with a gateway that knows the hooks of `tests/hooks`.
    pub async fn start_hooked(yaml: &str) -> Self {
        Self::begin_with(&hooked(), folder(yaml), &[], &[]).listening().await
    }

    /// As [`start`](Self::start), with environment variables.
    pub async fn start_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        Self::begin(folder(yaml), &[], environment).listening().await
    }

    /// Starts a process that takes over from this one, with the file as it is now, and waits until it listens.
    pub async fn successor(&self) -> Self {
        Self::begin_with(&self.program, Arc::clone(&self.dir), &["-u"], &[]).listening().await
    }

    /// Starts a process with the file `longhaul.yaml` of a folder, and waits for nothing.
    pub fn begin(dir: Arc<TempDir>, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        // Another build, for measurements.
        let program = std::env::var_os("LONGHAUL").unwrap_or_else(|| env!("CARGO_BIN_EXE_longhaul").into());
        Self::begin_with(program.as_ref(), dir, flags, environment)
    }

    /// As [`begin`](Self::begin), with another program than the stock one.
    pub fn begin_with(program: &Path, dir: Arc<TempDir>, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(flags)
            .arg("-c")
            .arg(dir.path().join("longhaul.yaml"))
            // A folder of its own, so that gateways of different tests do not share sockets.
            .env("RUNTIME_DIRECTORY", dir.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let access = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        Self { child, program: program.to_owned(), dir, addresses: Vec::new(), metrics: None, admin: None, access, log }
    }

    /// Waits until it listens on every address.
    pub async fn listening(mut self) -> Self {
        let yaml = std::fs::read_to_string(self.dir.path().join("longhaul.yaml")).unwrap();
        let listeners = yaml.split("routes:").next().unwrap().matches("- address:").count();
        for number in 0..listeners {
            let line = self.log.find_nth(&["listening on "], number).await;
            self.addresses.push(line.rsplit(' ').next().unwrap().parse().unwrap());
        }
        if yaml.contains("\nmetrics:") {
            let line = self.log.find(&["metrics on http://"]).await;
            let address = line.rsplit("http://").next().unwrap().trim_end_matches("/metrics");
            self.metrics = Some(address.parse().unwrap());
        }
        if yaml.contains("\nadmin:") {
            let line = self.log.find(&["admin API on "]).await;
            let address = line.rsplit("admin API on ").next().unwrap().split(',').next().unwrap();
            self.admin = Some(address.parse().unwrap());
        }
        self
    }

    /// Address of its first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Writes its file anew and has it read.
    pub fn reload(&self, yaml: &str) {
        std::fs::write(self.dir.path().join("longhaul.yaml"), yaml).unwrap();
        self.signal("HUP");
    }

    /// Waits for its end, and returns the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let ended = async {
            loop {
                if let Some(status) = self.status() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the gateway's end", ended).await
    }

    /// Exit status; `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The text of `/metrics`.
    pub async fn scrape(&self) -> String {
        let address = self.metrics.expect("the configuration has metrics");
        reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap()
    }

    /// Value of a metric now, named with its labels as in the exposition; 0 while there is no such line.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.scrape().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric is above zero.
    pub async fn metric_counts(&self, name: &str) {
        let counted = async {
            while self.metric(name).await <= 0.0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(&format!("{name} to count"), counted).await;
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(&format!("{name} to become {value}"), reached).await;
    }
}

/// A program that runs the gateway with a limit of descriptors, in a folder that has to be kept.
pub fn limited(descriptors: u32) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("longhaul");
    let gateway = env!("CARGO_BIN_EXE_longhaul");
    script(&program, &format!("ulimit -n {descriptors}\nexec '{gateway}' \"$@\"\n"));
    (dir, program)
}

/// Makes a shell script that can be run.
///
/// A process of its own writes it: a descriptor of this one would be copied into every process that another test starts
/// meanwhile, and a file that is open for writing cannot be run (execve(2), `ETXTBSY`).
pub fn script(path: &Path, lines: &str) {
    let mut writer = Command::new("sh");
    writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path);
    let mut writer = writer.stdin(Stdio::piped()).spawn().unwrap();
    writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{lines}").as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "{} cannot be written", path.display());
}

/// A folder with a configuration in it, in which `{dir}` stands for the folder.
pub fn folder(yaml: &str) -> Arc<TempDir> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let yaml = yaml.replace("{dir}", dir.path().to_str().unwrap());
    std::fs::write(dir.path().join("longhaul.yaml"), &yaml).unwrap();
    dir
}

/// The gateway that knows the hooks of `tests/hooks`.
pub fn hooked() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example("hooked")).clone()
}

/// An example's program, built first where it is not up to date: unlike a package's binaries, its examples are built
/// only when every test is run.
pub fn example(name: &str) -> PathBuf {
    let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--example", name, "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    cargo.args((!cfg!(debug_assertions)).then_some("--release"));
    cargo.args((!cfg!(feature = "demo")).then_some("--no-default-features"));
    assert!(cargo.status().unwrap().success(), "the example {name} cannot be built");
    profile.join("examples").join(name)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
