//! Hardly a file descriptor left: refusals, no spinning, and an ear for operators.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Instant;

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::guest::tcp;
use crate::lab::{HEAVY, LISTENERS, Lab, Listener, Setup, assert_refused, stranger};
use crate::support::{Gateway, limited, within};

async fn crowded_lab() -> (TempDir, Lab) {
    let (dir, program) = limited(200);
    let setup = Setup { limits: "{ head: { time: 1h }, per_client: { connections: off } }", ..Setup::default() };
    (dir, Lab::with_program(&program, &setup).await)
}

/// Seconds of processor time that a process has used.
fn cpu_seconds(gateway: &Gateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    // Behind the name, which may hold anything: the state is field 3, utime field 14 and stime field 15 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

async fn operators_are_heard(gateway: &Gateway) {
    for path in ["/live", "/ready", "/metrics"] {
        let url = format!("http://{}{path}", gateway.metrics.unwrap());
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200, "{path}");
    }
    let socket = gateway.dir.path().join("control.sock");
    within("the control socket", tokio::net::UnixStream::connect(socket)).await.unwrap();
}

#[tokio::test]
async fn where_the_last_descriptors_begin_clients_are_told_and_those_inside_notice_nothing() {
    let _alone = HEAVY.lock().await;
    let (_dir, lab) = crowded_lab().await;
    let mut company = lab.company().await;
    // Silent, for an hour if they like. The last ones find hardly a descriptor.
    let mut crowd = Vec::new();
    while lab.refused("descriptors").await == 0.0 {
        crowd.push(lab.silent(stranger(crowd.len()), LISTENERS[crowd.len() % 2]).await);
        assert!(crowd.len() < 200, "more than there are descriptors");
    }
    // Descriptors that were taken for a moment, by those who read metrics, are taken for good.
    for number in 0..20 {
        crowd.push(lab.silent(stranger(400 + number), LISTENERS[number % 2]).await);
    }
    // Those that are refused and silent have to go before another one is answered.
    for listener in LISTENERS {
        assert_refused(&lab.answers(stranger(300), listener, 503).await, 503);
    }
    lab.gateway.access.find(&[" status=503 ", " error=descriptors"]).await;
    company.is_served().await;
    operators_are_heard(&lab.gateway).await;
    drop(crowd);
    lab.served(stranger(302), Listener::Tls).await;
    company.is_served_anew(&lab).await;
}

/// From 40 addresses, five hundred at once: what is refused is closed, what waits is not asked for again and again.
#[tokio::test]
async fn ten_thousand_connects_at_200_descriptors_spin_nobody_and_close_no_tunnel() {
    let _alone = HEAVY.lock().await;
    let (_dir, lab) = crowded_lab().await;
    let mut company = lab.company().await;
    let (before, began) = (cpu_seconds(&lab.gateway), Instant::now());
    let mut crowd = JoinSet::new();
    for number in 0..40_u8 {
        let to = lab.gateway.addresses[usize::from(number % 2)];
        crowd.spawn(async move {
            let mut held = VecDeque::new();
            for _ in 0..250 {
                held.push_back(tcp(Ipv4Addr::new(127, 66, 0, number), to).await);
                if held.len() > 12 {
                    held.pop_front();
                }
            }
            held
        });
    }
    let mut left = Vec::new();
    while let Some(held) = crowd.join_next().await {
        left.push(held.unwrap());
        company.is_served().await;
        operators_are_heard(&lab.gateway).await;
    }
    let used = cpu_seconds(&lab.gateway) - before;
    // Each costs a millisecond at the very most; a worker that spins costs a second in a second.
    assert!(used < 15.0, "{used} s of processor time for 10,000 connects in {:?}", began.elapsed());
    let mut errors = 0.0;
    for address in &lab.gateway.addresses {
        for kind in ["kept", "emfile"] {
            let name = format!("longhaul_accept_errors_total{{kind=\"{kind}\",listener=\"{address}\"}}");
            errors += lab.gateway.metric(&name).await;
        }
    }
    // Two workers, each of which accepts nothing for a second after one.
    let most = 2.0 * (began.elapsed().as_secs_f64() + 1.0);
    assert!(errors <= most, "{errors} failures to accept, at most {most}");
    assert!(lab.refused("descriptors").await > 0.0);
    company.is_served().await;
    operators_are_heard(&lab.gateway).await;
    drop(left);
    lab.served(stranger(302), Listener::Plain).await;
}
