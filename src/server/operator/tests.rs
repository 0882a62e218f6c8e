//! A panic over a command: the operator goes on with the next one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::SystemTime;

use super::*;
use crate::access_log::AccessLog;
use crate::control::{Desk, QUEUE};
use crate::gateway::Runtimes;
use crate::hook::HookRegistry;
use crate::metrics::Metrics;
use crate::server::acceptor::ListeningSockets;
use crate::snapshot::SnapshotOrigin;
use crate::status::StatusSource;
use crate::tls::tickets::TicketKeys;
use crate::tunnel::Tunnels;
use crate::upstream::MemberLists;

/// An operator without sockets, and the desk that takes commands for it.
fn operator() -> (Operator, Desk) {
    let text = "version: 1\nthreads: 1\nlisteners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                upstreams: { a: { health: off, backends: [127.0.0.1:9001] } }\n";
    let config = config::parse(text, &config::NoHooks).unwrap().config;
    let log = AccessLog::off();
    let metrics = Arc::new(Metrics::new());
    let sources = Arc::new(Sources::new(None, &metrics));
    let running = Running::new(
        SnapshotOrigin { config: &config, members: MemberLists::default(), hooks: Arc::new(HookRegistry::empty()) },
        metrics,
        Arc::new(Tunnels::start(1, &log).unwrap()),
        log,
        TicketKeys::draw(SystemTime::now()),
        Instant::now(),
    );
    let running = Arc::new(running.unwrap());
    let history = History::default();
    let status = StatusSource {
        running: Arc::clone(&running),
        sources: Arc::clone(&sources),
        history: history.clone(),
        listeners: Vec::new(),
        metrics: None,
        admin: None,
    };
    let (sender, commands) = mpsc::channel(QUEUE);
    let desk = Desk::new(status, sender);
    let sockets = ListeningSockets { listeners: Vec::new(), metrics: None, admin: None };
    let runtimes = Runtimes::start(&config.pingora).unwrap();
    let operator = Operator {
        watch: Watch::new(Arc::clone(&running)),
        tls_files: TlsFiles::new(Arc::clone(&running)),
        acceptor: Acceptor::new(Arc::new(config.pingora), Arc::clone(&running), sockets, runtimes),
        running,
        sources,
        history,
        commands,
        socket_config: UnixSocketConfig { control: None, handover: None, desk: desk.clone() },
        unix_sockets: UnixSockets::default(),
        handed_over: None,
        longest: None,
        whereabouts: watch::Sender::default(),
    };
    (operator, desk)
}

/// Panics where it is first woken: in the operator, when it replies.
#[derive(Default)]
struct PanicsWhenWoken(AtomicBool);

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        // What is dropped on the way out wakes as well.
        assert!(self.0.swap(true, SeqCst), "as told");
    }
}

#[tokio::test]
async fn after_a_panic_over_a_command_the_next_one_is_carried_out() {
    let (operator, desk) = operator();
    let (signals, undrained) = (Signals::listen().unwrap(), || ControlRequest::DrainBackend {
        upstream: "a".into(),
        backend: "127.0.0.1:9001".into(),
        over_ms: None,
        undo: true,
        follow: false,
        everywhere: false,
    });
    let whereabouts = operator.whereabouts.subscribe();
    let running = tokio::spawn(operator.run(signals));
    let mut broken = desk.ask(undrained(), || "a test".into()).await;
    {
        let mut reply = pin!(broken.next());
        let waker = Waker::from(Arc::<PanicsWhenWoken>::default());
        assert!(reply.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // The test takes its turn up again when the operator has done with the command.
        let mut others = desk.ask(undrained(), || "a test".into()).await;
        let replied = tokio::time::timeout(Duration::from_secs(60), others.next()).await.expect("a reply");
        assert!(matches!(replied, Some(Reply::Done(_))), "{replied:?}");
        let first = poll_fn(|cx| Poll::Ready(reply.as_mut().poll(cx).is_ready())).await;
        assert!(first, "the first command came to its end, too");
    }
    assert!(!running.is_finished());
    assert_eq!(*whereabouts.borrow(), Whereabouts::Here);
    running.abort();
}
