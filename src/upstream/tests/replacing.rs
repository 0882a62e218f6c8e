//! Members that come in place of others: clients of those that leave go to them, and so move once.

use std::time::Duration;

use super::*;

const KEYS: usize = 1_000;

fn member(number: usize) -> Member {
    let address = SocketAddr::from(([10, 7, 0, number as u8], 80));
    let name = address.to_string().into();
    Member { name, source: MemberSource::Push, ..Member::from(&config::Backend { name: None, address, weight: 1 }) }
}

/// The name of the backend that a key gets.
fn place(upstream: &Upstream, key: usize) -> Box<str> {
    let pick = upstream.pick(Some(key.to_string().as_bytes()), &[]).unwrap();
    upstream.members()[pick.index].name.clone()
}

#[test]
fn a_client_moves_once_while_all_backends_are_replaced_one_by_one() {
    let (registry, start) = (Registry::default(), Instant::now());
    let mut members: Vec<Member> = (0..10).map(member).collect();
    let before = Upstream::compile(&config(&[1]), &registry).with_members(Arc::default(), &registry, start);
    let mut upstream = before.with_members(members.clone().into(), &registry, start);
    let mut clients: Vec<_> = (0..KEYS).map(|key| place(&upstream, key)).collect();
    let mut moves = 0;
    for (turn, old) in (0..10).map(member).enumerate() {
        let now = start + Duration::from_secs(30) * turn as u32;
        members.push(member(100 + turn));
        upstream = upstream.with_members(members.clone().into(), &registry, now);
        members.iter_mut().filter(|member| member.name == old.name).for_each(|member| member.leaving = true);
        upstream = upstream.with_members(members.clone().into(), &registry, now);
        for (key, at) in clients.iter_mut().enumerate().filter(|(_, at)| **at == old.name) {
            *at = place(&upstream, key);
            moves += 1;
        }
        members.retain(|member| member.name != old.name);
        upstream = upstream.with_members(members.clone().into(), &registry, now);
    }
    assert_eq!(moves, KEYS);
    assert!(clients.iter().all(|at| at.starts_with("10.7.0.1") && at.len() > "10.7.0.1:80".len()), "{clients:?}");
}

#[test]
fn clients_of_others_stay_and_without_newcomers_the_next_on_the_ring_takes_over() {
    let (registry, start) = (Registry::default(), Instant::now());
    let mut members: Vec<Member> = (0..4).map(member).collect();
    let empty = Upstream::compile(&config(&[1]), &registry).with_members(Arc::default(), &registry, start);
    let before = empty.with_members(members.clone().into(), &registry, start);
    let homes: Vec<_> = (0..KEYS).map(|key| place(&before, key)).collect();
    members[0].leaving = true;
    let leaving = before.with_members(members.clone().into(), &registry, start);
    for (key, home) in homes.iter().enumerate() {
        let order = leaving.order(key.to_string().as_bytes());
        let expected = if *home == members[0].name { order[1] } else { order[0] };
        assert_eq!(place(&leaving, key), members[expected].name);
    }
    members.push(member(100));
    let replaced = leaving.with_members(members.clone().into(), &registry, start);
    let newcomer = &members[4].name;
    for (key, home) in homes.iter().enumerate() {
        let at = place(&replaced, key);
        match *home == members[0].name {
            true => assert_eq!(at, *newcomer),
            false => assert!(at == *home || at == *newcomer),
        }
    }
    // A newcomer that is down, or has been there for long, is one of many.
    let at = replaced.index_of(newcomer).unwrap();
    take_down(&replaced, at);
    assert!((0..KEYS).all(|key| place(&replaced, key) != *newcomer));
    let later = replaced.with_members(members.clone().into(), &registry, start + NEW);
    later.states()[at].check_passed(Thresholds { rise: 1, fall: 1 }, "checks pass", start);
    let of_the_first = (0..KEYS).filter(|key| homes[*key] == members[0].name);
    assert!(of_the_first.into_iter().any(|key| place(&later, key) != *newcomer));
}
