//! Rates of clients: what the backend sees in any span of time, on a clock that the test turns.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::{Frame, Rig, begun_frames, binary, close, frame_from, none};
use crate::config::{OverRate, Rates, TunnelLimits, TunnelRates};
use crate::tunnel::rates::{KeyRates, RatesInForce};
use crate::tunnel::reason::Reason;
use crate::ws::Side::{Backend, Client};

const TICK: Duration = Duration::from_millis(20);

fn rates(messages: u64, bytes: u64) -> Rates {
    Rates { messages: NonZeroU64::new(messages), bytes: NonZeroU64::new(bytes) }
}

fn throttled(messages: u64, bytes: u64) -> TunnelRates {
    TunnelRates { each: rates(messages, bytes), ..TunnelRates::default() }
}

/// A tunnel under these limits, those of its key shared with others.
fn rig(limits: TunnelLimits, rates: TunnelRates, key: Option<&Arc<KeyRates>>) -> Rig {
    let mut rig = Rig::with(limits, 0.0, 16 * 1024);
    limit(&mut rig, rates, key);
    rig
}

fn limit(rig: &mut Rig, rates: TunnelRates, key: Option<&Arc<KeyRates>>) {
    let (given, now) = (RatesInForce { rates: Arc::new(rates), key: key.cloned() }, rig.now);
    rig.pair.limit_rates(given, rig.begun, now);
    rig.drive();
}

/// So many short messages, a Ping behind each.
fn flood(count: usize) -> Vec<u8> {
    (0..count).flat_map(|_| [binary(Client, b"short"), frame_from(Client, 0x89, b"")].concat()).collect()
}

fn messages(bytes: &[u8]) -> u64 {
    begun_frames(bytes).0.iter().filter(|frame| frame.first == 0x82).count() as u64
}

/// Counts of what the backend has at every tick, as `count` counts it.
fn watch(rig: &mut Rig, ticks: usize, count: impl Fn(&[u8]) -> u64) -> Vec<u64> {
    let mut all = Vec::new();
    let seen = (0..ticks).map(|_| {
        all.extend(rig.taken(Backend));
        rig.pass(TICK);
        count(&all)
    });
    seen.collect()
}

/// Asserts that no span has more than its share and a second's.
fn keeps_to(rate: u64, seen: &[u64]) {
    for (from, before) in seen.iter().enumerate() {
        for (span, now) in seen[from..].iter().enumerate() {
            let most = rate + rate * span as u64 * TICK.as_millis() as u64 / 1_000;
            assert!(now - before <= most, "{} at tick {from} and {span} more", now - before);
        }
    }
}

#[test]
fn a_flood_of_messages_passes_at_its_rate() {
    let mut rig = rig(none(), throttled(50, 0), None);
    rig.send(Client, &flood(1_000));
    let seen = watch(&mut rig, 1_000, messages);
    keeps_to(50, &seen);
    let full = seen.iter().position(|count| *count == 1_000).unwrap();
    assert!((945..=955).contains(&full), "50 at once and 950 in 19 s: at tick {full}");
    assert!(!rig.ended);
}

#[test]
fn bytes_pass_at_their_rate_within_a_message_and_over_many() {
    for bytes in [binary(Client, &[7; 100_000]), flood(6_000)] {
        let mut rig = rig(none(), throttled(0, 10_000), None);
        rig.send(Client, &bytes);
        let seen = watch(&mut rig, 600, |all| all.len() as u64);
        keeps_to(10_000, &seen);
        assert_eq!(*seen.last().unwrap(), bytes.len() as u64);
        let full = seen.iter().position(|count| *count == bytes.len() as u64).unwrap();
        let least = (bytes.len() - 10_000) / 200;
        assert!((least..=least + 10).contains(&full), "tick {full}, not {least}");
    }
}

#[test]
fn a_client_within_its_rates_is_never_held_up() {
    let mut rig = rig(none(), throttled(20, 2_000), None);
    for _ in 0..200 {
        rig.send(Client, &binary(Client, b"hello"));
        assert_eq!(messages(&rig.taken(Backend)), 1);
        rig.pass(Duration::from_millis(50));
    }
    assert_eq!(rig.pair.kept(), 0);
}

#[test]
fn what_is_held_back_is_one_buffer_at_the_most_and_the_other_way_is_free() {
    let mut rig = rig(none(), throttled(1, 0), None);
    rig.send(Client, &flood(20_000));
    assert!(rig.pair.kept() <= 16 * 1024, "{}", rig.pair.kept());
    rig.send(Backend, &binary(Backend, b"free"));
    assert_eq!(rig.frames(Client).len(), 1);
    let turns = rig.turns;
    rig.pass(Duration::from_secs(10));
    assert!(rig.turns - turns < 40, "{} turns in 10 s at a message a second", rig.turns - turns);
}

#[test]
fn a_close_frame_waits_for_no_rate() {
    let mut throttled = rig(none(), throttled(0, 1_024), None);
    throttled.send(Client, &binary(Client, &[0; 1_016]));
    assert_eq!(throttled.taken(Backend).len(), 1_024);
    throttled.send(Client, &close(Client, 1000));
    assert_eq!(throttled.taken(Backend).len(), 8, "the client's own");
    let mut ended = rig(none(), self::throttled(1, 0), None);
    ended.send(Client, &flood(10));
    ended.taken(Backend);
    let now = ended.now;
    ended.pair.end(Reason::BackendDrained, now);
    ended.drive();
    let frames = ended.frames(Backend);
    assert_eq!(frames.last(), Some(&Frame::close_to(Backend, 1012, "backend_drained")), "and the gateway's");
}

#[test]
fn a_client_over_its_rate_is_closed_where_that_is_asked_for() {
    let closes = TunnelRates { over_rate: OverRate::Close, ..throttled(5, 0) };
    let mut rig = rig(none(), closes, None);
    rig.send(Client, &flood(5));
    assert_eq!(messages(&rig.taken(Backend)), 5);
    rig.send(Client, &flood(3));
    assert_eq!(rig.frames(Backend), [Frame::close_to(Backend, 1008, "over_rate")]);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1008, "over_rate")]);
    rig.send(Backend, &close(Backend, 1008));
    rig.send(Client, &close(Client, 1008));
    rig.fin(Client);
    rig.fin(Backend);
    assert_eq!(rig.outcome(), ("over_rate", 1008));
}

#[test]
fn a_throttled_client_is_neither_idle_nor_asked_for_a_pong() {
    let limits = TunnelLimits { idle: Some(Duration::from_secs(2)), ping: Some(Duration::from_secs(1)), ..none() };
    let mut rig = rig(limits, throttled(1, 0), None);
    rig.send(Client, &flood(30));
    for _ in 0..28 {
        rig.pass(Duration::from_secs(1));
        rig.send(Backend, &binary(Backend, b"alive"));
        assert!(rig.frames(Client).iter().all(|frame| frame.first == 0x82));
    }
    assert!(!rig.ended);
}

#[test]
fn what_is_held_back_goes_along_to_another_process_and_so_does_the_rate() {
    let mut rig = rig(none(), throttled(50, 0), None);
    rig.send(Client, &flood(400));
    let (mut seen, mut all) = (Vec::new(), Vec::new());
    for tick in 0..400 {
        if tick % 7 == 0 {
            rig.cross(Duration::ZERO);
            limit(&mut rig, throttled(50, 0), None);
        }
        all.extend(rig.taken(Backend));
        seen.push(messages(&all));
        rig.pass(TICK);
    }
    keeps_to(50, &seen);
    assert_eq!(all, flood(400));
}

#[test]
fn other_rates_are_in_force_at_once_and_none_let_everything_pass() {
    let mut rig = rig(none(), throttled(1, 0), None);
    rig.send(Client, &flood(300));
    limit(&mut rig, throttled(100, 0), None);
    rig.pass(Duration::from_secs(1));
    let passed = messages(&rig.taken(Backend));
    assert!((90..=200).contains(&passed), "{passed}");
    limit(&mut rig, TunnelRates::default(), None);
    assert_eq!(messages(&rig.taken(Backend)), 300 - passed);
    assert!(!rig.pair.keeps_anything(), "nothing is left of it");
    // On a tunnel that is open, and within a message.
    rig.send(Client, &binary(Client, b"begun")[..4]);
    limit(&mut rig, throttled(2, 0), None);
    rig.send(Client, &[&binary(Client, b"begun")[4..], &flood(5)].concat());
    assert_eq!(messages(&rig.taken(Backend)), 1 + 2);
}

#[test]
fn tunnels_of_one_key_share_its_rate_evenly() {
    for (per_key, count) in [(rates(20, 0), messages as fn(&[u8]) -> u64), (rates(0, 4_000), |all| all.len() as u64)] {
        let key = Arc::default();
        let shared = TunnelRates { per_key, ..TunnelRates::default() };
        let mut rigs: Vec<Rig> = (0..4).map(|_| rig(none(), shared, Some(&key))).collect();
        let begun = rigs[0].begun;
        for rig in &mut rigs {
            rig.now = begun;
            rig.begun = begun;
        }
        let mut all = vec![Vec::new(); rigs.len()];
        let mut seen = Vec::new();
        for tick in 0..1_000 {
            for (rig, all) in rigs.iter_mut().zip(&mut all) {
                if tick == 0 {
                    limit(rig, TunnelRates::default(), Some(&key));
                    limit(rig, shared, Some(&key));
                    rig.send(Client, &flood(20_000));
                }
                rig.pass(TICK);
                all.extend(rig.taken(Backend));
            }
            seen.push(all.iter().map(|all| count(all)).sum());
        }
        let rate = per_key.messages.or(per_key.bytes).unwrap().get();
        keeps_to(rate, &seen);
        let total = *seen.last().unwrap();
        assert!(total >= rate * 19, "{total} of {}", rate * 20);
        // The first to come has the second's worth that passes at once.
        let each: Vec<u64> = all.iter().map(|all| count(all)).collect();
        let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
        assert!(most - least <= rate + rate / 2, "{each:?}");
    }
}
