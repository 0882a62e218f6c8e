//! Tests of admission as a whole.

use std::num::NonZeroU32;

use super::*;
use crate::config::PerClient;

fn admission() -> Arc<Admission> {
    Admission::new(Descriptors::of_process(), IntGauge::new("kept", "Kept.").unwrap(), 2, Instant::now())
}

fn client(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, number]))
}

/// No route.
const NOWHERE: HandshakeScope<'_> = HandshakeScope { listener: 0, route: None };
/// A listener without a limit.
const AT: AtListener = AtListener { number: 0, most: None };

fn local(port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn limits(connections: Option<u32>, per_client: PerClient) -> Limits {
    Limits { connections: connections.and_then(NonZeroU32::new), per_client, ..Limits::default() }
}

#[test]
fn the_process_takes_so_many_connections_and_a_refused_one_counts_for_nothing() {
    let (admission, limits) = (admission(), limits(Some(2), PerClient::default()));
    let first = admission.connection(&limits, AT, client(1), 5).unwrap();
    let _second = admission.connection(&limits, AT, None, 5).unwrap();
    for _ in 0..3 {
        assert_eq!(admission.connection(&limits, AT, client(2), 5).unwrap_err(), RefusalReason::Connections);
    }
    assert_eq!(admission.open(), 2);
    drop(first);
    assert!(admission.connection(&limits, AT, client(2), 5).is_ok());
}

#[test]
fn a_tunnel_takes_the_place_of_its_connection() {
    let per_client = PerClient { connections: NonZeroU32::new(1), tunnels: NonZeroU32::new(2), ..PerClient::default() };
    let (admission, limits) = (admission(), limits(Some(3), per_client));
    let open = || {
        let connection = admission.connection(&limits, AT, client(1), 5)?;
        let handshake = admission.handshake(&limits, client(1), NOWHERE, Instant::now())?;
        let tunnel = handshake.opened();
        drop(connection);
        Ok::<_, RefusalReason>(tunnel)
    };
    let first = open().unwrap();
    let _second = open().unwrap();
    assert_eq!(admission.open(), 2);
    assert_eq!(open().unwrap_err(), RefusalReason::ClientTunnels);
    assert_eq!(admission.open(), 2, "the connection of the refused one is gone, too");
    drop(first);
    assert!(open().is_ok());
}

#[test]
fn tunnels_of_a_predecessor_are_counted_and_never_refused() {
    let per_client = PerClient { tunnels: NonZeroU32::new(1), ..PerClient::default() };
    let (admission, limits) = (admission(), limits(Some(1), per_client));
    let adopted: Vec<_> = (0..5).map(|_| admission.adopt(&limits, client(1), None, "* /")).collect();
    assert_eq!(admission.open(), 5);
    assert_eq!(
        admission.handshake(&limits, client(1), NOWHERE, Instant::now()).unwrap_err(),
        RefusalReason::ClientTunnels
    );
    drop(adopted);
    assert_eq!((admission.open(), admission.networks()), (0, 0));
}

#[test]
fn a_listener_takes_so_many_connections_and_tunnels_and_the_others_none_the_less() {
    let (admission, limits) = (admission(), Limits::default());
    let ports = [AtListener { number: 0, most: NonZeroU32::new(2) }, AtListener { number: 1, ..AT }];
    admission.bound_to([local(80), local(81)].into_iter().flatten());
    let ask = |at| admission.connection(&limits, at, None, 5);
    let first = ask(ports[0]).unwrap();
    let tunnel = admission.handshake(&limits, None, NOWHERE, Instant::now()).unwrap().opened();
    assert_eq!(ask(ports[0]).unwrap_err(), RefusalReason::ListenerConnections);
    assert!(ask(ports[1]).is_ok());
    drop((first, tunnel));
    let adopted: Vec<_> = [80, 80, 81].map(|port| admission.adopt(&limits, None, local(port), "* /")).into();
    assert_eq!(ask(ports[0]).unwrap_err(), RefusalReason::ListenerConnections);
    drop(adopted);
    assert!(ask(ports[0]).is_ok());
}

#[test]
fn a_route_counts_tunnels_that_a_predecessor_handed_over_and_a_refusal_takes_nothing_of_a_rate() {
    let handshakes = Some(crate::config::Rate { count: NonZeroU32::MIN, per: std::time::Duration::from_secs(60) });
    let limits = limits(None, PerClient { handshakes, ..PerClient::default() });
    let admission = admission();
    let route = admission.route("* /", RouteLimits { tunnels: NonZeroU32::new(1), requests: NonZeroU32::new(1) });
    let at = HandshakeScope { listener: 0, route: Some(&route) };
    let now = Instant::now();
    let adopted = admission.adopt(&limits, client(1), None, "* /");
    assert_eq!(admission.handshake(&limits, client(1), at, now).unwrap_err(), RefusalReason::RouteTunnels);
    let request = admission.request(&limits, None, Some(&route)).unwrap();
    assert_eq!(admission.request(&limits, None, Some(&route)).unwrap_err(), RefusalReason::RouteRequests);
    drop((adopted, request));
    let tunnel = admission.handshake(&limits, client(1), at, now).unwrap().opened();
    assert_eq!(admission.handshake(&limits, client(2), at, now).unwrap_err(), RefusalReason::RouteTunnels);
    drop(tunnel);
    assert_eq!(admission.handshake(&limits, client(1), at, now).unwrap_err(), RefusalReason::ClientHandshakes);
    assert!(admission.handshake(&limits, client(2), at, now).is_ok());
    assert!(admission.request(&limits, None, Some(&route)).is_ok());
}

#[test]
fn a_connection_that_a_proxy_header_names_counts_for_the_client_and_not_for_the_peer() {
    let per_client = PerClient { connections: NonZeroU32::new(1), ..PerClient::default() };
    let (admission, limits) = (admission(), limits(None, per_client));
    let mut first = admission.connection(&limits, AT, client(1), 5).unwrap();
    first.is_of(client(2).unwrap(), &limits).unwrap();
    let _another = admission.connection(&limits, AT, client(1), 5).unwrap();
    let mut third = admission.connection(&limits, AT, None, 5).unwrap();
    assert_eq!(third.is_of(client(2).unwrap(), &limits).unwrap_err(), RefusalReason::ClientConnections);
    assert_eq!(admission.request(&limits, client(2), None).unwrap_err(), RefusalReason::ClientConnections);
    drop(first);
    assert!(admission.request(&limits, client(2), None).is_ok());
}

#[test]
fn scarce_descriptors_refuse_and_the_last_answers_are_bounded() {
    let (admission, limits) = (admission(), Limits::default());
    assert_eq!(admission.connection(&limits, AT, client(1), i32::MAX).unwrap_err(), RefusalReason::Descriptors);
    let now = Instant::now();
    let given: Vec<_> = std::iter::from_fn(|| admission.answer(now)).collect();
    assert!(!given.is_empty() && given.len() <= 256, "{}", given.len());
    drop(given);
    assert!(admission.answer(now + std::time::Duration::from_secs(1)).is_some());
}

#[test]
fn nothing_new_is_admitted_while_more_is_kept_than_allowed() {
    let (admission, limits) = (admission(), Limits { memory: Some(1_000), ..Limits::default() });
    let (mut one, mut other) = (admission.keep(), admission.keep());
    one.set(900);
    other.set(100);
    assert!(admission.connection(&limits, AT, client(1), 5).is_ok());
    one.set(901);
    assert_eq!(admission.connection(&limits, AT, client(1), 5).unwrap_err(), RefusalReason::Memory);
    assert_eq!(admission.request(&limits, None, None).unwrap_err(), RefusalReason::Memory);
    assert_eq!(admission.request(&limits, client(1), None).unwrap_err(), RefusalReason::Memory);
    assert!(admission.request(&Limits::default(), None, None).is_ok(), "without a limit");
    drop(other);
    assert!(admission.request(&limits, client(1), None).is_ok());
}

#[test]
fn refused_clients_are_asked_to_come_back_at_different_times() {
    let drawn: std::collections::HashSet<u64> = (0..1_000).map(|_| RefusalReason::Connections.retry_after()).collect();
    assert_eq!(drawn, (1..=8).collect());
}
