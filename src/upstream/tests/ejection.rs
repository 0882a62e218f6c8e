//! Promises of ejections: never the last backend, never more than a third, and a trial for each.

use std::net::IpAddr;
use std::time::Duration;

use super::*;

fn network(number: u8) -> ClientNetwork {
    IpAddr::from([10, 0, number, 1]).into()
}

/// A request of a network's that is not on trial.
fn usual(number: u8) -> FailedRequest {
    FailedRequest { network: network(number), on_trial: false }
}

/// Failures of three networks at one backend, as many as it takes.
fn doubt(upstream: &Upstream, index: usize, now: Instant) -> Option<HealthChange> {
    (0..3).find_map(|number| upstream.request_failed(index, usual(number), "closed", now))
}

fn is_ejected(change: Option<&HealthChange>) -> bool {
    matches!(change, Some(HealthChange::Ejected { .. }))
}

fn ejected(upstream: &Upstream) -> usize {
    upstream.states().iter().filter(|state| state.is_ejected()).count()
}

/// As [`config`], with `fall: 3` and these failures of traffic that count.
fn counting(weights: &[u16], traffic: TrafficHealth) -> config::Upstream {
    let health = config::Health { fall: 3, rise: 1, traffic, ..config::Health::default() };
    config::Upstream { health: Some(health), ..config(weights) }
}

#[test]
fn an_ejected_backend_is_up_and_gets_nothing() {
    let upstream = upstream(&[1; 4]);
    let order = upstream.order(b"key");
    assert!(is_ejected(doubt(&upstream, order[0], Instant::now()).as_ref()));
    assert!(upstream.is_up(order[0]));
    for _ in 0..50 {
        assert_eq!(upstream.pick(Some(b"key"), &[]).unwrap().index, order[1]);
        assert_ne!(upstream.pick(None, &[]).unwrap().index, order[0]);
    }
}

#[test]
fn a_third_of_the_backends_rounded_up_is_ejected_at_most_and_never_the_last() {
    for (backends, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3), (30, 10)] {
        let upstream = upstream(&vec![1; backends]);
        for index in (0..backends).chain(0..backends) {
            doubt(&upstream, index, Instant::now());
        }
        assert_eq!(ejected(&upstream), most, "of {backends}");
    }
}

#[test]
fn the_last_backend_that_is_up_is_not_ejected() {
    let upstream = upstream(&[1, 1, 1, 0]);
    take_down(&upstream, 0);
    upstream.states()[1].set_draining(true);
    assert_eq!(doubt(&upstream, 2, Instant::now()), None);
    upstream.states()[1].set_draining(false);
    assert!(is_ejected(doubt(&upstream, 2, Instant::now()).as_ref()));
}

#[test]
fn with_all_others_down_an_ejected_backend_is_better_than_none() {
    for upstream in [upstream(&[1, 1]), bounded(&[1, 1], 1.25)] {
        assert!(is_ejected(doubt(&upstream, 0, Instant::now()).as_ref()));
        assert_eq!(upstream.pick(Some(b"key"), &[1]).unwrap().index, 0, "the other has been tried");
        take_down(&upstream, 1);
        for key in [Some(&b"key"[..]), None] {
            assert_eq!(upstream.pick(key, &[]).unwrap().index, 0);
        }
        assert_eq!(upstream.home(7), Some(0));
        take_down(&upstream, 0);
        assert_eq!(upstream.pick(Some(b"key"), &[]).unwrap_err(), Unavailable::AllDown);
    }
}

#[test]
fn an_ejection_moves_no_home() {
    let upstream = upstream(&[1; 3]);
    let home = upstream.home(12_345).unwrap();
    doubt(&upstream, home, Instant::now());
    assert_eq!((ejected(&upstream), upstream.home(12_345)), (1, Some(home)));
}

#[test]
fn one_request_at_a_time_is_on_trial_and_its_success_ends_the_ejection() {
    let upstream = upstream(&[1; 3]);
    let (order, now) = (upstream.order(b"key"), Instant::now());
    doubt(&upstream, order[0], now);
    let state = &upstream.states()[order[0]];
    assert_eq!(state.attend(now), Some(now + Duration::from_secs(5)));
    assert_eq!(state.attend(now + Duration::from_secs(5)), None);
    let first = |upstream: &Upstream| upstream.pick(Some(b"key"), &[]).unwrap();

    let on_trial = first(&upstream);
    assert_eq!((on_trial.index, first(&upstream).index), (order[0], order[1]));
    drop(on_trial);
    let on_trial = first(&upstream);
    assert_eq!((on_trial.index, first(&upstream).index), (order[0], order[1]), "the client of the first one left");
    let mut failed = (7..10).map(|number| FailedRequest { network: network(number), on_trial: true });
    assert!(failed.any(|request| is_ejected(upstream.request_failed(order[0], request, "closed", now).as_ref())));
    drop(on_trial);
    assert_eq!(first(&upstream).index, order[1]);

    state.attend(now + Duration::from_secs(100));
    let on_trial = first(&upstream);
    assert_eq!(upstream.traffic_succeeded(order[0], network(9), || now), Some(HealthChange::Returned));
    assert_eq!((on_trial.index, first(&upstream).index), (order[0], order[0]));
    drop(on_trial);
    assert_eq!((ejected(&upstream), state.load()), (0, 0));
}

#[test]
fn one_client_alone_ejects_a_backend_only_after_a_minute_without_anybody_else() {
    let upstream = Upstream::compile(&counting(&[1; 3], TrafficHealth::Full), &Registry::default());
    let start = Instant::now();
    let fail = |second| upstream.request_failed(0, usual(1), "closed", start + Duration::from_secs(second));
    assert!((0..60).all(|second| fail(second).is_none()));
    upstream.traffic_succeeded(1, network(2), || start + Duration::from_secs(59));
    assert!((60..120).all(|second| fail(second).is_none()), "somebody else came, if to another backend");
    assert!(is_ejected(fail(120).as_ref()));
}

#[test]
fn traffic_counts_as_far_as_the_configuration_says() {
    let now = Instant::now();
    for (traffic, connects, requests) in
        [(TrafficHealth::Off, false, false), (TrafficHealth::Connect, true, false), (TrafficHealth::Full, true, true)]
    {
        let upstream = Upstream::compile(&counting(&[1; 3], traffic), &Registry::default());
        assert_eq!(is_ejected(doubt(&upstream, 0, now).as_ref()), requests, "{traffic:?}");
        let down = (0..3).find_map(|_| upstream.connect_failed(1, "refused"));
        assert_eq!(down.is_some(), connects, "{traffic:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever fails and whoever makes it fail, doubt leaves every request a backend, and most of them.
    #[test]
    fn doubt_leaves_two_thirds_and_never_nobody(
        backends in 1_usize..10,
        steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>(), 0_u8..5, 0_u64..90), 0..200),
    ) {
        let upstream = upstream(&vec![1; backends]);
        let mut now = Instant::now();
        for (step, which, client, later) in steps {
            now += Duration::from_secs(later);
            let index = which.index(backends);
            match step {
                0 => _ = upstream.traffic_succeeded(index, network(client), || now),
                1 => _ = upstream.states()[index].attend(now),
                _ => _ = upstream.request_failed(index, usual(client), "closed", now),
            }
            let most = if backends == 1 { 0 } else { backends.div_ceil(3) };
            prop_assert!(ejected(&upstream) <= most);
            prop_assert!((0..backends).all(|index| upstream.is_up(index)));
            prop_assert!(upstream.pick(Some(b"key"), &[]).is_ok());
        }
    }
}
