//! Steps beside a thread: their outcomes, and steps that are taken back or given up.

use std::sync::mpsc::channel;
use std::task::Wake;

use rustls::CipherSuite;

use super::*;
use crate::tls::record::Role;
use crate::tls::testing::connected;

/// A waker that tells the test.
struct Told(Mutex<Sender<()>>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        // A test that is over listens no more.
        let _ = self.0.lock().unwrap().send(());
    }
}

fn waker() -> (Waker, Receiver<()>) {
    let (sender, told) = channel();
    (Arc::new(Told(Mutex::new(sender))).into(), told)
}

/// A session that is to open `said`, sealed by its peer.
fn to_open(said: &[u8]) -> Box<ToOpen> {
    let (session, mut peer) = connected(CipherSuite::TLS13_AES_128_GCM_SHA256, Role::Server, false);
    Box::new(ToOpen { sealed: Sealed::new(session), cipher: peer.write(said) })
}

fn outcome(step: &HandshakeStep) -> StepOutcome {
    match step.poll() {
        Poll::Ready(done) => done.unwrap(),
        Poll::Pending => panic!("the waker was called before the end"),
    }
}

fn begin(to_open: Box<ToOpen>, waker: Waker) -> HandshakeStep {
    HandshakeStep::begin(to_open, waker).unwrap_or_else(|_| panic!("no thread can be started"))
}

#[test]
fn a_step_beside_a_thread_comes_to_what_it_comes_to_on_it() {
    let (waker, told) = waker();
    let step = begin(to_open(b"hello"), waker);
    told.recv().unwrap();
    let done = outcome(&step);
    assert_eq!(done.plain, b"hello");
    assert_eq!(done.opened, Ok(()));
    let here = to_open(b"hello").open();
    assert_eq!((here.plain, here.opened), (done.plain, done.opened));
}

#[test]
fn an_error_comes_with_the_alert_that_is_to_be_sent() {
    let (waker, told) = waker();
    let mut to_open = to_open(b"hello");
    let last = to_open.cipher.len() - 1;
    to_open.cipher[last] ^= 1;
    let step = begin(to_open, waker);
    told.recv().unwrap();
    let done = outcome(&step);
    assert_eq!(done.opened, Err(rustls::Error::DecryptError));
    assert!(!done.sealed.unsent().is_empty());
}

#[test]
fn a_step_is_taken_back_once_and_only_from_a_thread_that_begins_none() {
    let begun = Arc::new(AtomicU64::new(7));
    let mut step = HandshakeStep::new(to_open(b"hello"), waker().0, Arc::clone(&begun));
    begun.fetch_add(1, Relaxed);
    assert!(step.take_back_if_stuck().is_none(), "other steps are begun meanwhile");
    assert!(step.poll().is_pending());
    assert_eq!(step.take_back_if_stuck().unwrap().open().plain, b"hello");
    assert!(step.take_back_if_stuck().is_none());
}

#[test]
fn a_step_that_was_dropped_is_passed_over_and_the_next_one_is_carried_out() {
    let (waker, told) = waker();
    let (sender, steps) = channel();
    let begun = Arc::<AtomicU64>::default();
    let dropped = HandshakeStep::new(to_open(b"left"), waker.clone(), Arc::clone(&begun));
    let kept = HandshakeStep::new(to_open(b"stays"), waker, Arc::clone(&begun));
    for step in [&dropped, &kept] {
        sender.send(Arc::downgrade(&step.shared)).unwrap();
    }
    drop((dropped, sender));
    carry_out(&steps, &begun);
    assert_eq!(outcome(&kept).plain, b"stays");
    assert_eq!((told.try_iter().count(), begun.load(Relaxed)), (1, 1), "nobody waits for the first");
}
