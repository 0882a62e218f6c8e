//! Tests of the table of networks.

use std::net::Ipv4Addr;

use super::*;

fn network(number: u32) -> Network {
    Network::of(Ipv4Addr::from_bits(number).into(), &PerClient::default())
}

fn rate(count: u32) -> PerClient {
    let handshakes = Some(Rate { count: count.try_into().unwrap(), per: Duration::from_secs(1) });
    PerClient { handshakes, ..PerClient::default() }
}

#[test]
fn one_more_than_allowed_is_refused_until_another_ends() {
    let clients = Clients::new(Instant::now());
    let most = NonZeroU32::new(2);
    for kind in [NetworkCount::Connection, NetworkCount::Tunnel] {
        assert!(clients.add(network(1), kind, most));
        assert!(clients.add(network(1), kind, most));
        assert!(!clients.add(network(1), kind, most));
        assert!(clients.add(network(2), kind, most), "another network has its own");
        clients.remove(network(1), kind);
        assert!(clients.add(network(1), kind, most));
    }
}

#[test]
fn a_lower_limit_refuses_until_so_many_have_ended() {
    let clients = Clients::new(Instant::now());
    for _ in 0..5 {
        assert!(clients.add(network(1), NetworkCount::Tunnel, None));
    }
    let most = NonZeroU32::new(3);
    for left in (0..5).rev() {
        assert!(!clients.add(network(1), NetworkCount::Tunnel, most) || left < 2);
        clients.remove(network(1), NetworkCount::Tunnel);
    }
}

#[test]
fn a_rate_lets_so_many_come_at_once_and_then_one_an_interval() {
    let start = Instant::now();
    let clients = Clients::new(start);
    let limits = rate(10);
    let shakes = |after: u64| clients.shake_hands(network(1), &limits, start + Duration::from_millis(after));
    for _ in 0..10 {
        assert_eq!(shakes(0), Ok(()));
    }
    assert_eq!(shakes(0), Err(RefusalReason::ClientHandshakes));
    assert_eq!(shakes(99), Err(RefusalReason::ClientHandshakes));
    assert_eq!(shakes(100), Ok(()));
    assert_eq!(shakes(100), Err(RefusalReason::ClientHandshakes));
    for _ in 0..10 {
        assert_eq!(shakes(5_000), Ok(()), "who was quiet may have all of it again, and no more");
    }
    assert_eq!(shakes(5_000), Err(RefusalReason::ClientHandshakes));
}

#[test]
fn a_handshake_that_is_refused_counts_for_nothing() {
    let now = Instant::now();
    let clients = Clients::new(now);
    let limits = PerClient { tunnels: NonZeroU32::new(1), ..rate(2) };
    assert_eq!(clients.shake_hands(network(1), &limits, now), Ok(()));
    for _ in 0..9 {
        assert_eq!(clients.shake_hands(network(1), &limits, now), Err(RefusalReason::ClientTunnels));
    }
    clients.remove(network(1), NetworkCount::Tunnel);
    assert_eq!(clients.shake_hands(network(1), &limits, now), Ok(()), "the second of two is left");
    clients.remove(network(1), NetworkCount::Tunnel);
    assert_eq!(clients.shake_hands(network(1), &limits, now), Err(RefusalReason::ClientHandshakes));
}

#[test]
fn a_network_with_nothing_open_takes_no_place() {
    let clients = Clients::new(Instant::now());
    for number in 0..10_000 {
        assert!(clients.add(network(number), NetworkCount::Connection, None));
        assert!(clients.add(network(number), NetworkCount::Tunnel, None));
    }
    assert_eq!(clients.len(), 10_000);
    for number in 0..10_000 {
        clients.remove(network(number), NetworkCount::Connection);
        clients.remove(network(number), NetworkCount::Tunnel);
    }
    assert_eq!(clients.len(), 0);
}

#[test]
fn networks_that_shook_hands_are_forgotten_when_they_may_again() {
    let start = Instant::now();
    let clients = Clients::new(start);
    let most = SHARDS * (2 * LEAST_SWEEP);
    for number in 0..400_000 {
        // Each is new, and the one before is as good as new when it comes.
        let now = start + Duration::from_millis(u64::from(number) * 101);
        clients.shake_hands(network(number), &rate(10), now).unwrap();
        clients.remove(network(number), NetworkCount::Tunnel);
    }
    assert!(clients.len() <= most, "{} entries", clients.len());
}

#[test]
fn a_flood_of_networks_under_a_rate_has_a_bound_and_forgets_nothing_that_is_open() {
    let now = Instant::now();
    let clients = Clients::new(now);
    for number in 0..1_000 {
        assert!(clients.add(network(number), NetworkCount::Connection, None));
    }
    for number in 1_000..1_000_000 {
        clients.shake_hands(network(number), &rate(1), now).unwrap();
        clients.remove(network(number), NetworkCount::Tunnel);
    }
    let bound = SHARDS * 2 * (MOST_IDLE + LEAST_SWEEP);
    assert!(clients.len() <= bound, "{} entries, at most {bound}", clients.len());
    let one = NonZeroU32::new(1);
    assert!((0..1_000).all(|number| !clients.add(network(number), NetworkCount::Connection, one)));
}

/// The figures that docs/limits.md states.
#[test]
fn an_entry_costs_32_bytes_and_its_share_of_the_table_no_more_than_76() {
    assert_eq!(size_of::<(Network, Counts)>(), 32);
    let clients = Clients::new(Instant::now());
    for number in 0..100_000 {
        assert!(clients.add(network(number), NetworkCount::Tunnel, None));
    }
    let each = clients.bytes() / clients.len();
    assert!((33..=76).contains(&each), "{each} bytes a network");
}
