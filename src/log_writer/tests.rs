//! The bound of the buffer, the count of what it drops, and the limits of those who wait.

use std::sync::mpsc::{self, Receiver, Sender};

use super::*;

/// A target that takes a batch only when the test says so.
struct Gated {
    /// A batch that the writer thread is about to write.
    offered: Sender<String>,
    /// The outcome of its write.
    outcomes: Receiver<io::Result<()>>,
    reports: Sender<u64>,
}

struct Lab {
    writer: LogWriter,
    offered: Receiver<String>,
    outcomes: Sender<io::Result<()>>,
    reports: Receiver<u64>,
    counter: IntCounter,
}

impl Sink for Gated {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.offered.send(String::from_utf8(lines.to_vec()).unwrap()).unwrap();
        // A test that has ended lets everything pass.
        self.outcomes.recv().unwrap_or(Ok(()))
    }

    fn dropped(&mut self, lines: u64) {
        self.reports.send(lines).unwrap();
    }
}

fn lab(capacity: usize) -> Lab {
    gathering(capacity, GATHER)
}

/// A log that gathers lines for `gather` behind each batch.
fn gathering(capacity: usize, gather: Duration) -> Lab {
    let ((offered, offers), (outcome, outcomes), (report, reports)) =
        (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let counter = IntCounter::new("dropped", "dropped").unwrap();
    let sink = Gated { offered, outcomes, reports: report };
    let writer = LogWriter::gathering("gated", sink, capacity, counter.clone(), gather).unwrap();
    Lab { writer, offered: offers, outcomes: outcome, reports, counter }
}

#[test]
fn lines_over_the_bound_are_dropped_counted_and_reported_once() {
    let lab = lab(8);
    assert_eq!(lab.writer.write(b"one\n"), LineFate::Yes);
    // From here on the writer thread is stuck in its write, and the buffer is empty.
    assert_eq!(lab.offered.recv().unwrap(), "one\n");
    assert_eq!(lab.writer.write(b"two\n"), LineFate::Yes);
    assert_eq!(lab.writer.write(b"six\n"), LineFate::Yes);
    assert_eq!(lab.writer.write(b"\n"), LineFate::No { first: true });
    assert_eq!(lab.writer.write(b"ten\n"), LineFate::No { first: false });
    assert_eq!(lab.counter.get(), 2);
    lab.outcomes.send(Ok(())).unwrap();
    assert_eq!(lab.offered.recv().unwrap(), "two\nsix\n");
    lab.outcomes.send(Ok(())).unwrap();
    assert_eq!(lab.reports.recv().unwrap(), 2);
    assert_eq!(lab.writer.write(b"new\n"), LineFate::Yes);
    assert_eq!(lab.offered.recv().unwrap(), "new\n");
    lab.outcomes.send(Ok(())).unwrap();
    assert!(lab.writer.flush(Duration::from_secs(60)));
    assert!(lab.reports.try_recv().is_err(), "no second report");
}

#[test]
fn a_flush_of_a_stuck_target_gives_up_and_one_of_a_working_target_does_not() {
    let lab = lab(64);
    lab.writer.write(b"one\n");
    assert!(!lab.writer.flush(Duration::from_millis(1)));
    lab.writer.reopen();
    lab.outcomes.send(Ok(())).unwrap();
    assert!(lab.writer.flush(Duration::from_secs(60)));
}

#[test]
fn lines_that_the_target_refuses_are_counted_and_hold_nobody_up() {
    let lab = lab(64);
    lab.writer.write(b"one\n");
    lab.outcomes.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    assert!(lab.writer.flush(Duration::from_secs(60)));
    assert_eq!(lab.counter.get(), 1);
}

#[test]
fn what_was_queued_is_written_before_the_thread_ends() {
    let lab = lab(64);
    lab.writer.write(b"one\n");
    assert_eq!(lab.offered.recv().unwrap(), "one\n");
    lab.writer.write(b"two\n");
    drop(lab.writer);
    lab.outcomes.send(Ok(())).unwrap();
    assert_eq!(lab.offered.recv().unwrap(), "two\n");
    lab.outcomes.send(Ok(())).unwrap();
    assert!(lab.offered.recv().is_err(), "the thread has ended");
}

#[test]
fn an_alarm_is_kept_and_goes_on_as_long_as_the_sink_asks() {
    struct Alarms(Sender<u32>, u32);
    impl Sink for Alarms {
        fn write(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn dropped(&mut self, _: u64) {}

        fn due(&mut self, now: Instant) -> Option<Instant> {
            self.1 += 1;
            self.0.send(self.1).unwrap();
            (self.1 < 2).then_some(now)
        }
    }
    let (sent, alarms) = mpsc::channel();
    let counter = IntCounter::new("dropped", "dropped").unwrap();
    let writer = LogWriter::start("alarms", Alarms(sent, 0), 64, counter).unwrap();
    writer.alarm(Instant::now());
    assert_eq!((alarms.recv(), alarms.recv()), (Ok(1), Ok(2)));
    drop(writer);
    assert!(alarms.recv().is_err());
}

/// Longer than any test runs: a batch that is written all the same was written because it could not wait.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A log that gathers for ever, behind its first line.
fn behind_a_batch(capacity: usize) -> Lab {
    let lab = gathering(capacity, FOREVER);
    (0..8).for_each(|_| lab.outcomes.send(Ok(())).unwrap());
    lab.writer.write(b"first\n");
    assert_eq!(lab.offered.recv().unwrap(), "first\n", "a line that comes alone is written at once");
    assert!(lab.writer.flush(Duration::from_secs(60)));
    lab
}

#[test]
fn gathered_lines_are_written_when_their_time_is_over() {
    let lab = gathering(64, Duration::from_millis(1));
    (0..8).for_each(|_| lab.outcomes.send(Ok(())).unwrap());
    lab.writer.write(b"first\n");
    assert_eq!(lab.offered.recv().unwrap(), "first\n");
    lab.writer.write(b"second\n");
    assert_eq!(lab.offered.recv().unwrap(), "second\n", "it waits no longer than it was told");
}

#[test]
fn a_flush_does_not_wait_until_lines_have_gathered() {
    let lab = behind_a_batch(64);
    lab.writer.write(b"one\n");
    lab.writer.write(b"two\n");
    assert!(lab.offered.try_recv().is_err(), "they gather");
    assert!(lab.writer.flush(Duration::from_secs(60)));
    assert_eq!(lab.offered.recv().unwrap(), "one\ntwo\n");
}

#[test]
fn a_buffer_that_is_half_full_is_written_at_once() {
    let lab = behind_a_batch(16);
    lab.writer.write(b"one\n");
    lab.writer.write(b"two\n");
    assert_eq!(lab.offered.recv().unwrap(), "one\ntwo\n");
}

#[test]
fn a_target_that_is_opened_anew_gets_the_gathered_lines_first() {
    let lab = behind_a_batch(64);
    lab.writer.write(b"one\n");
    lab.writer.reopen();
    assert_eq!(lab.offered.recv().unwrap(), "one\n");
}

#[test]
fn a_log_that_ends_writes_what_has_gathered() {
    let lab = behind_a_batch(64);
    lab.writer.write(b"one\n");
    drop(lab.writer);
    assert_eq!(lab.offered.recv().unwrap(), "one\n");
}
