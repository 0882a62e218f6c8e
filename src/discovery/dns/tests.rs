//! Promises of names: the identity of each address of a host name, whatever comes and goes.

use super::*;

fn host() -> Host {
    Host { text: "chat.internal:9001".into(), host: "chat.internal".into(), port: 9001, weight: 2 }
}

fn addresses(last: &[u8]) -> BTreeSet<SocketAddr> {
    last.iter().map(|last| SocketAddr::from(([10, 0, 0, *last], 9001))).collect()
}

fn as_text(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| format!("{} at {} on {}", member.name, member.address.ip(), member.on_ring())).collect()
}

#[test]
fn a_name_of_one_address_is_one_backend_wherever_it_is() {
    let first = members_of_host(&host(), addresses(&[1]), &[]);
    assert_eq!(as_text(&first), ["chat.internal:9001 at 10.0.0.1 on chat.internal:9001"]);
    let moved = members_of_host(&host(), addresses(&[2]), &first);
    assert_eq!(as_text(&moved), ["chat.internal:9001 at 10.0.0.2 on chat.internal:9001"]);
    assert_eq!(moved[0].weight, 2);
}

#[test]
fn an_address_that_stays_keeps_its_name_and_all_stand_in_one_place() {
    let first = members_of_host(&host(), addresses(&[5]), &[]);
    let two = members_of_host(&host(), addresses(&[3, 5]), &first);
    let on = "on chat.internal:9001";
    let further = format!("chat.internal:9001=10.0.0.3:9001 at 10.0.0.3 {on}");
    assert_eq!(as_text(&two), [further.clone(), format!("chat.internal:9001 at 10.0.0.5 {on}")]);
    let three = members_of_host(&host(), addresses(&[1, 3]), &two);
    assert_eq!(as_text(&three), [format!("chat.internal:9001 at 10.0.0.1 {on}"), further]);
}
