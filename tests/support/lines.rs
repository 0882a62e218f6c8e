//! The lines a process writes, kept for whoever waits for one.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::watch;

use super::within;

/// Lines read so far, and the means to wait for more.
#[derive(Clone)]
pub struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
    paused: Arc<(Mutex<bool>, Condvar)>,
}

impl Lines {
    /// Reads `stream` to its end on a thread of its own.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (sender, count) = watch::channel(0);
        let kept = Arc::clone(&lines);
        let paused: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let pause = Arc::clone(&paused);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if std::env::var_os("SHOW_LOGS").is_some() {
                    println!("{line}");
                }
                kept.lock().unwrap().push(line);
                sender.send_modify(|count| *count += 1);
                let (paused, resumed) = &*pause;
                drop(resumed.wait_while(paused.lock().unwrap(), |paused| *paused).unwrap());
            }
        });
        Self { lines, count, paused }
    }

    /// Makes the reader stuck: nothing is read any more, beyond a few KiB.
    pub fn pause(&self) {
        *self.paused.0.lock().unwrap() = true;
    }

    /// Lets a stuck reader go on.
    pub fn resume(&self) {
        *self.paused.0.lock().unwrap() = false;
        self.paused.1.notify_all();
    }

    /// Everything read so far.
    pub fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line, past or to come, that holds every one of `parts`.
    pub async fn find(&self, parts: &[&str]) -> String {
        self.find_nth(parts, 0).await
    }

    /// The line that holds every one of `parts` after `skip` others that do.
    pub async fn find_nth(&self, parts: &[&str], skip: usize) -> String {
        let mut count = self.count.clone();
        let search = async {
            loop {
                count.mark_unchanged();
                let found =
                    self.all().into_iter().filter(|line| parts.iter().all(|part| line.contains(part))).nth(skip);
                if let Some(line) = found {
                    return line;
                }
                if count.changed().await.is_err() {
                    panic!("the process ended without a line with {parts:?}; it wrote:\n{}", self.all().join("\n"));
                }
            }
        };
        within(&format!("a line with {parts:?}, after {skip} others"), search).await
    }

    /// Every line, once there will be no more: the process has ended.
    pub async fn to_the_end(&self) -> Vec<String> {
        let mut count = self.count.clone();
        within("the process's last line", async { while count.changed().await.is_ok() {} }).await;
        self.all()
    }

    /// Number of lines so far that hold every one of `parts`.
    pub fn count(&self, parts: &[&str]) -> usize {
        self.all().iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}
