//! Backends that are away: whom their clients wait for, and for how long.

use std::time::Duration;

use super::*;
use crate::config::Absent;

const HOLD: Duration = Duration::from_secs(20);

fn holding(weights: &[u16], registry: &Registry) -> Upstream {
    let absent = Some(Absent { hold: HOLD, queue: 10 });
    let health = Some(config::Health { fall: 2, rise: 1, ..config::Health::default() });
    let upstream = Upstream::compile(&config::Upstream { absent, health, ..config(weights) }, registry);
    upstream.settle(Instant::now());
    upstream
}

fn thresholds(upstream: &Upstream) -> Thresholds {
    upstream.config().health.as_ref().unwrap().into()
}

/// Checks take a backend down, at this moment.
fn take_down_at(upstream: &Upstream, index: usize, now: Instant) {
    for _ in 0..2 {
        upstream.states()[index].check_failed(thresholds(upstream), "refused");
    }
    upstream.states()[index].observe(now);
}

#[test]
fn clients_wait_for_the_first_on_the_ring_that_would_get_them_and_for_nobody_else() {
    let (now, registry) = (Instant::now(), Registry::default());
    let upstream = holding(&[1, 1, 1, 0], &registry);
    let order = upstream.order(b"key");
    let awaited = |tried: &[usize]| upstream.awaited(Some(b"key"), tried, now);
    assert_eq!(awaited(&[]), None);
    take_down_at(&upstream, order[1], now);
    assert_eq!(awaited(&[]), None, "its own backend is there");
    assert_eq!(awaited(&[order[0]]), Some(order[1]), "the one that would get it");
    take_down_at(&upstream, order[0], now);
    assert_eq!(awaited(&[]), Some(order[0]));
    assert_eq!(awaited(&[order[0], order[1]]), None);
    upstream.states()[order[0]].set_draining(true);
    assert_eq!(awaited(&[]), Some(order[1]), "nobody waits for what an operator drains");
    upstream.states()[order[1]].check_passed(thresholds(&upstream), "checks pass", now);
    assert_eq!(awaited(&[]), None);
}

#[test]
fn nobody_waits_longer_than_the_backend_is_away_for_and_another_absence_counts_anew() {
    let (start, registry) = (Instant::now(), Registry::default());
    let upstream = holding(&[1, 1], &registry);
    let first = upstream.order(b"key")[0];
    take_down_at(&upstream, first, start);
    let awaited = |now| upstream.awaited(Some(b"key"), &[], now);
    assert_eq!(awaited(start + HOLD - Duration::from_millis(1)), Some(first));
    assert_eq!(upstream.states()[first].away_for(start + HOLD), Some(HOLD));
    assert_eq!(awaited(start + HOLD), None);
    upstream.states()[first].check_passed(thresholds(&upstream), "checks pass", start + HOLD);
    assert_eq!(upstream.states()[first].away_for(start + HOLD), None);
    take_down_at(&upstream, first, start + HOLD);
    assert_eq!(awaited(start + HOLD), Some(first));
}

#[test]
fn a_backend_that_refused_a_connect_is_waited_for_until_a_check_passes() {
    let (now, registry) = (Instant::now(), Registry::default());
    let upstream = holding(&[1, 1], &registry);
    let first = upstream.order(b"key")[0];
    upstream.states()[first].refused(now);
    assert!(upstream.is_up(first));
    assert_eq!(upstream.awaited(Some(b"key"), &[], now), Some(first));
    upstream.states()[first].check_failed(thresholds(&upstream), "refused");
    assert_eq!(upstream.awaited(Some(b"key"), &[], now), Some(first));
    upstream.states()[first].check_passed(thresholds(&upstream), "checks pass", now);
    assert_eq!(upstream.awaited(Some(b"key"), &[], now), None);
    assert_eq!(upstream.pick(Some(b"key"), &[]).map(|pick| pick.index), Ok(first));
}

#[test]
fn clients_without_a_key_wait_only_where_nobody_is_left_for_the_last_to_go() {
    let (now, registry) = (Instant::now(), Registry::default());
    let upstream = holding(&[1, 1, 0], &registry);
    take_down_at(&upstream, 1, now);
    assert_eq!(upstream.awaited(None, &[], now), None);
    take_down_at(&upstream, 0, now + Duration::from_secs(1));
    take_down_at(&upstream, 2, now + Duration::from_secs(2));
    assert_eq!(upstream.awaited(None, &[], now), Some(0));
    assert_eq!(upstream.awaited(Some(b""), &[0], now), Some(1));
}

#[test]
fn a_member_that_its_source_names_no_longer_keeps_its_keys_and_gets_nothing() {
    let (now, registry) = (Instant::now(), Registry::default());
    let before = holding(&[1, 1, 1], &registry);
    let first = before.order(b"key")[0];
    let mut members = before.members().to_vec();
    members[first].name = "shard".into();
    let named = before.with_members(members.clone().into(), &registry, now);
    named.settle(now);
    let key = (0..).map(|n| format!("key {n}")).find(|key| named.order(key.as_bytes())[0] == first).unwrap();
    let key = Some(key.as_bytes());
    let gone = members.remove(first).gone();
    let absent = named.with_members(members.iter().cloned().chain([gone.clone()]).collect(), &registry, now);
    absent.settle(now);
    assert_eq!(absent.awaited(key, &[], now), Some(2));
    assert_ne!(absent.pick(key, &[]).map(|pick| pick.index), Ok(2));
    let address = SocketAddr::from(([10, 9, 9, 9], 80));
    let back = Member { address, source: MemberSource::Push, ..gone };
    let returned = absent.with_members(members.into_iter().chain([back]).collect(), &registry, now);
    returned.settle(now);
    assert_eq!(returned.awaited(key, &[], now), None);
    assert_eq!(returned.pick(key, &[]).map(|pick| pick.state.address()), Ok(address));
}

#[test]
fn a_leaving_member_is_waited_for_where_it_has_a_name_and_without_absent_nobody_is() {
    let (now, registry) = (Instant::now(), Registry::default());
    let upstream = holding(&[1, 1], &registry);
    let mut members = upstream.members().to_vec();
    members.iter_mut().for_each(|member| member.leaving = true);
    members[0].name = "shard".into();
    let leaving = upstream.with_members(members.into(), &registry, now);
    leaving.settle(now);
    assert_eq!(leaving.awaited(None, &[], now), Some(0));
    assert_eq!(leaving.awaited(None, &[0], now), None);
    let off = Upstream::compile(&config(&[1]), &registry);
    take_down_at(&off, 0, now);
    assert_eq!(off.awaited(Some(b"key"), &[], now), None);
}
