//! Limits of backends, and the queue before them, reached on purpose while the company is served by the same backend.

use crate::guest::Guest;
use crate::lab::{LISTENERS, Lab, Setup, assert_refused_for, moment, stranger};
use crate::support::within;
use crate::wire::Reply;

/// Clients of one key, whose handshakes a worker carries out and Pingora does.
const TARGETS: [&str; 2] = ["/narrow?key=a", "/narrow?key=a&["];

/// A limit of the upstream, and clients that are refused for it.
pub(crate) struct Case {
    pub(crate) reason: &'static str,
    /// Keys of the upstream.
    narrow: &'static str,
    /// Places that are taken before.
    taken: &'static [Taken],
    /// Request of everybody who is refused.
    asked: Asked,
    status: u16,
    /// Longest `Retry-After`, in seconds.
    longest: u64,
}

#[derive(Clone, Copy)]
enum Taken {
    Tunnel,
    Request,
    /// A place in the queue.
    Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Tunnel,
    Request,
}

/// Limits that answer, one for each reason at least.
pub(crate) const CASES: [Case; 5] = [
    Case {
        reason: "full",
        narrow: "    limits: { tunnels: 1 }\n",
        taken: &[Taken::Tunnel],
        asked: Asked::Tunnel,
        status: 503,
        longest: 15,
    },
    Case {
        reason: "full",
        narrow: "    limits: { requests: 1 }\n",
        taken: &[Taken::Request],
        asked: Asked::Request,
        status: 503,
        longest: 15,
    },
    Case {
        reason: "per_key",
        narrow: "    affinity: [ query: key ]\n    limits: { per_key: 1 }\n",
        taken: &[Taken::Tunnel],
        asked: Asked::Tunnel,
        status: 429,
        longest: 15,
    },
    Case {
        reason: "queue_full",
        narrow: "    admission: { handshakes: 0.01/s, burst: 1, queue: 1, wait: 1h }\n",
        taken: &[Taken::Tunnel, Taken::Place],
        asked: Asked::Tunnel,
        status: 503,
        longest: 3600,
    },
    Case {
        reason: "deadline",
        narrow: "    admission: { handshakes: 0.01/s, burst: 1, wait: 1s }\n",
        taken: &[Taken::Tunnel],
        asked: Asked::Tunnel,
        status: 503,
        longest: 1,
    },
];

/// Admission by which the first client alone has a turn.
const NO_TURNS: &str = "    admission: { handshakes: 0.01/s, burst: 1, wait: 1h }\n";

/// A client that has sent its handshake, and that nobody has answered.
async fn asks(lab: &Lab, number: usize) -> Guest {
    let mut guest = lab.connect(stranger(number), LISTENERS[number % 2]).await.unwrap();
    guest.send(crate::cast::upgrade_to(TARGETS[number / 2 % 2])).await;
    guest
}

/// Waits until so many clients stand in the queue.
async fn waiting(lab: &Lab, count: usize) {
    let gauge = format!("longhaul_backend_waiting{{backend=\"{}\",upstream=\"narrow\"}}", lab.cast.address());
    lab.gateway.metric_becomes(&gauge, count as f64).await;
}

impl Taken {
    /// Takes it, and keeps it as long as the guest stays.
    async fn take(self, lab: &Lab) -> Guest {
        match self {
            Self::Tunnel => lab.open(stranger(100), LISTENERS[0], TARGETS[0]).await,
            Self::Request => {
                let mut guest = lab.connect(stranger(100), LISTENERS[0]).await.unwrap();
                guest.send("GET /narrow/never HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
                let asked = async {
                    while lab.cast.asked("/narrow/never") == 0 {
                        moment().await;
                    }
                };
                within("a request at the backend", asked).await;
                guest
            }
            Self::Place => {
                let guest = asks(lab, 100).await;
                waiting(lab, 1).await;
                guest
            }
        }
    }
}

/// The answer to one more, whose request is of the listener and the target that its number has.
async fn answer(lab: &Lab, asked: Asked, number: usize) -> Reply {
    let mut guest = match asked {
        Asked::Tunnel => asks(lab, number).await,
        Asked::Request => {
            let mut guest = lab.connect(stranger(number), LISTENERS[number % 2]).await.unwrap();
            guest.send("GET /narrow HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            guest
        }
    };
    guest.answer().await.expect("an answer")
}

/// Waits until the log has a line of each that was refused, and the metric as many; neither has more.
async fn told(lab: &Lab, reason: &str, status: u16, count: usize) {
    let (status, error) = (format!(" status={status} "), format!(" error={reason}"));
    let parts = [" request ", " client=127.66.", &status, " upstream=narrow ", &error];
    lab.gateway.access.find_nth(&parts, count - 1).await;
    assert_eq!(lab.gateway.access.count(&[&error]), count, "{reason}");
    lab.refused_becomes(reason, count as f64).await;
}

#[tokio::test]
async fn whom_no_backend_takes_is_told_why_and_nobody_else_notices() {
    for Case { reason, narrow, taken, asked, status, longest } in CASES {
        let lab = Lab::set_up(&Setup { narrow, ..Setup::default() }).await;
        let mut company = lab.company().await;
        let attack = async {
            let mut held = Vec::new();
            for taken in taken {
                held.push(taken.take(&lab).await);
            }
            for number in 0..8 {
                assert_refused_for(&answer(&lab, asked, number).await, status, longest);
            }
            told(&lab, reason, status, 8).await;
            if let Taken::Tunnel = taken[0] {
                held[0].echoes().await;
            }
        };
        lab.beside(&mut company, attack).await;
        company.is_served_anew(&lab).await;
    }
}

#[tokio::test]
async fn who_leaves_the_queue_is_counted_and_nobody_else_notices() {
    let lab = Lab::set_up(&Setup { narrow: NO_TURNS, ..Setup::default() }).await;
    let mut company = lab.company().await;
    let attack = async {
        let mut tunnel = Taken::Tunnel.take(&lab).await;
        let mut queue = Vec::new();
        for number in 0..8 {
            queue.push(asks(&lab, number).await);
        }
        waiting(&lab, 8).await;
        drop(queue);
        told(&lab, "left", 499, 8).await;
        waiting(&lab, 0).await;
        tunnel.echoes().await;
    };
    lab.beside(&mut company, attack).await;
    company.is_served_anew(&lab).await;
}

/// The company has tunnels alone: a process that ends accepts nobody.
#[tokio::test]
async fn whoever_waits_when_the_process_begins_to_end_is_told_and_open_tunnels_go_on() {
    let lab = Lab::set_up(&Setup { narrow: NO_TURNS, top: "drain: { window: 1d }\n", ..Setup::default() }).await;
    let mut company = lab.company_with(|_| true).await;
    let attack = async {
        let mut tunnel = Taken::Tunnel.take(&lab).await;
        let mut queue = Vec::new();
        for number in 0..8 {
            queue.push(asks(&lab, number).await);
        }
        waiting(&lab, 8).await;
        lab.gateway.signal("TERM");
        for mut guest in queue {
            assert_refused_for(&guest.answer().await.expect("an answer"), 503, 3600);
        }
        told(&lab, "draining", 503, 8).await;
        tunnel.echoes().await;
    };
    lab.beside(&mut company, attack).await;
}
