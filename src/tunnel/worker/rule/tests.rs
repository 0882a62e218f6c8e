//! Announced ends: when they come, and what becomes of them.

use mio::net::TcpStream;

use super::*;
use crate::config::{self, TunnelLimits};
use crate::hook::TunnelId;
use crate::metrics::Metrics;
use crate::tunnel::pair::{Checked, Pair};
use crate::tunnel::{Addresses, KeyMark};
use crate::upstream::Registry;

/// A tunnel between sockets that nobody looks at.
fn tunnel(now: Instant) -> Tunnel {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [client, backend] = [(); 2].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let state = Registry::default().backend("a", "127.0.0.1:1", ([127, 0, 0, 1], 1).into());
    let record = Record {
        id: TunnelId::random(),
        generation: 1,
        request_id: "test".into(),
        addresses: Addresses::new([127, 0, 0, 1].into(), ([127, 0, 0, 1], 1).into()),
        rare: None,
        route: "* /".into(),
        key_source: None,
        by_hook: false,
        key: KeyMark::default(),
        guard: state.occupy(),
        admitted: None,
        metrics: Metrics::new().upstream("a"),
    };
    let limits = TunnelLimits { idle: None, tcp_user_timeout: None, ..config::TunnelLimits::default() };
    Tunnel::new(Pair::new(client.into(), backend.into(), limits, 0.0, now), record)
}

fn end(reason: Reason) -> impl Fn(&Standing<'_>) -> RuleVerdict {
    move |_| RuleVerdict::End { reason, over: Duration::ZERO }
}

#[test]
fn every_tunnel_gets_a_slot_of_the_window_of_its_own() {
    for count in [1, 2, 7, 1000] {
        for (place, share) in spread(count).enumerate() {
            let slot = place as f64 / count as f64..=(place + 1) as f64 / count as f64;
            assert!(slot.contains(&share), "{share} of {place} in {count}");
        }
    }
}

#[test]
fn an_end_that_is_due_comes_only_if_there_is_still_a_reason_for_it() {
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    for (rule, comes) in [(None, true), (Some(RuleVerdict::Keep), false)] {
        let mut tunnel = tunnel(now);
        tunnel.pair.plan_change(due, Reason::Rehomed);
        let rule = rule.map(|verdict| move |_: &Standing<'_>| verdict);
        judge_again(rule.as_ref().map(|rule| rule as &TunnelRule), &mut tunnel, now);
        assert!(tunnel.pair.changing().is_some(), "it is asked about when it is due, not before");
        assert_eq!(tunnel.pair.due(), Some(due));
        judge_again(rule.as_ref().map(|rule| rule as &TunnelRule), &mut tunnel, due);
        assert_eq!(tunnel.pair.check(due), if comes { Checked::Changed } else { Checked::Fine });
        assert_eq!(tunnel.pair.is_ending(), comes);
    }
}

#[test]
fn an_end_that_has_begun_cannot_be_called_off() {
    let now = Instant::now();
    let mut tunnel = tunnel(now);
    tunnel.pair.plan_change(now, Reason::Changed);
    assert_eq!(tunnel.pair.check(now), Checked::Changed);
    assert!(tunnel.pair.changing().is_none() && !tunnel.pair.call_off_change());
    assert_eq!(tunnel.pair.reason(), Reason::Changed);
}

#[test]
fn an_end_for_a_change_and_one_for_the_shutdown_do_not_get_in_each_other_s_way() {
    let now = Instant::now();
    let [sooner, later] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
    let mut tunnel = tunnel(now);
    tunnel.pair.plan_end(later, Reason::Shutdown { code: 1001 });
    tunnel.pair.plan_change(sooner, Reason::Changed);
    assert_eq!(tunnel.pair.due(), Some(sooner));
    assert!(tunnel.pair.call_off_change());
    assert_eq!(tunnel.pair.due(), Some(later));
    judge_again(Some(&end(Reason::Changed)), &mut tunnel, later);
    assert_eq!(tunnel.pair.check(later), Checked::Changed);
    assert_eq!(tunnel.pair.reason(), Reason::Shutdown { code: 1001 });
}

#[test]
fn a_tunnel_that_opens_is_told_as_well() {
    let now = Instant::now();
    let mut tunnel = tunnel(now);
    judge_opening(None, &mut tunnel, now);
    assert!(tunnel.pair.changing().is_none());
    judge_opening(Some(&end(Reason::Changed)), &mut tunnel, now);
    assert_eq!(tunnel.pair.changing(), Some((now, Reason::Changed)));
}
