//! The slices of a service, and the members that they name.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::api::{Endpoint, EndpointSlice, Port};
use crate::upstream::{Member, MemberSource};

/// All slices of one service, by name.
#[derive(Debug, Default)]
pub(super) struct Slices(BTreeMap<String, EndpointSlice>);

/// Standing of an endpoint; the first is preferred where two have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ready,
    Leaving,
}

impl Slices {
    pub(super) fn put(&mut self, slice: EndpointSlice) {
        self.0.insert(slice.metadata.name.clone(), slice);
    }

    pub(super) fn take(&mut self, slice: &EndpointSlice) {
        self.0.remove(&slice.metadata.name);
    }

    /// The members: endpoints that are ready, and those that terminate, which are leaving. Each is known by its
    /// `hostname` (pods of a StatefulSet have one), else by the name of its pod, else by its address. A pod with an
    /// address of each family is one member, by IPv4.
    ///
    /// # Errors
    /// There are endpoints, and no slice of them has the port.
    pub(super) fn members(&self, port: Option<&str>) -> Result<Vec<Member>, String> {
        let mut found: BTreeMap<String, (Standing, bool, Member)> = BTreeMap::new();
        let (mut without, mut with) = (None, false);
        for slice in self.0.values().filter(|slice| !slice.endpoints.is_empty()) {
            let Some(number) = number_of(&slice.ports, port) else {
                without = Some(slice);
                continue;
            };
            with = true;
            for endpoint in &slice.endpoints {
                let Some((standing, member)) = member(endpoint, number) else { continue };
                let candidate = (standing, member.address.is_ipv6(), member);
                let name = candidate.2.name.to_string();
                match found.get(&name) {
                    Some(known) if (known.0, known.1) <= (candidate.0, candidate.1) => {}
                    _ => drop(found.insert(name, candidate)),
                }
            }
        }
        match (with, without) {
            (false, Some(slice)) => Err(no_port(&slice.ports, port)),
            _ => Ok(found.into_values().map(|(_, _, member)| member).collect()),
        }
    }
}

fn member(endpoint: &Endpoint, port: u16) -> Option<(Standing, Member)> {
    // The first address counts: the API does not say what further ones mean.
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let address = SocketAddr::from((ip, port));
    let conditions = endpoint.conditions;
    let standing = match (conditions.terminating, conditions.ready) {
        (Some(true), _) => Standing::Leaving,
        (_, Some(false)) => return None,
        _ => Standing::Ready,
    };
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
    let name = endpoint.hostname.as_deref().or(pod).filter(|name| !name.is_empty());
    let name = name.map_or_else(|| address.to_string(), str::to_owned).into();
    let leaving = standing == Standing::Leaving;
    let source = MemberSource::Kubernetes;
    let member = Member { name, place: None, address, weight: 1, leaving, closing: None, source };
    Some((standing, member))
}

/// The number of the port that `wanted` names or numbers; without `wanted`, of the only port.
fn number_of(ports: &[Port], wanted: Option<&str>) -> Option<u16> {
    let Some(wanted) = wanted else {
        return match ports {
            [only] => only.port,
            _ => None,
        };
    };
    let named = ports.iter().find(|port| port.name.as_deref() == Some(wanted));
    let numbered = || ports.iter().find(|port| port.port.is_some_and(|number| number.to_string() == wanted));
    named.or_else(numbered)?.port
}

fn no_port(ports: &[Port], wanted: Option<&str>) -> String {
    let text = |port: &Port| {
        let number = port.port.map_or_else(|| "any".to_owned(), |number| number.to_string());
        port.name.as_deref().filter(|name| !name.is_empty()).map_or(number.clone(), |name| format!("{name} ({number})"))
    };
    let ports =
        if ports.is_empty() { "none".to_owned() } else { ports.iter().map(text).collect::<Vec<_>>().join(", ") };
    match wanted {
        Some(wanted) => format!("the service has no port `{wanted}`; its ports: {ports}"),
        None => format!("`port` must say which port is meant; the service's ports: {ports}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slices(all: &[serde_json::Value]) -> Slices {
        let mut slices = Slices::default();
        all.iter().for_each(|slice| slices.put(serde_json::from_value(slice.clone()).unwrap()));
        slices
    }

    fn slice(name: &str, family: &str, ports: serde_json::Value, endpoints: serde_json::Value) -> serde_json::Value {
        json!({ "metadata": { "name": name }, "addressType": family, "ports": ports, "endpoints": endpoints })
    }

    fn shown(slices: &Slices, port: Option<&str>) -> Vec<String> {
        let leaving = |member: &Member| if member.leaving { " leaving" } else { "" };
        slices.members(port).unwrap().iter().map(|member| format!("{member}{}", leaving(member))).collect()
    }

    #[test]
    fn hostnames_then_pods_then_addresses_are_names_and_conditions_decide() {
        let all = slices(&[slice(
            "chat-1",
            "IPv4",
            json!([{ "name": "ws", "port": 9001 }, { "name": "http", "port": 80 }]),
            json!([
                { "addresses": ["10.0.0.1"], "hostname": "chat-0", "targetRef": { "name": "pod" },
                  "conditions": { "ready": true, "serving": true, "terminating": false } },
                { "addresses": ["10.0.0.2"], "targetRef": { "name": "web-x1" }, "conditions": {} },
                { "addresses": ["10.0.0.3", "10.9.9.9"] },
                { "addresses": ["10.0.0.4"], "hostname": "chat-4", "conditions": { "ready": false } },
                { "addresses": ["10.0.0.5"], "hostname": "chat-5",
                  "conditions": { "ready": false, "serving": true, "terminating": true } },
                { "addresses": [] }, { "addresses": ["chat.example.com"] }
            ]),
        )]);
        let expected =
            ["10.0.0.3:9001", "chat-0 (10.0.0.1:9001)", "chat-5 (10.0.0.5:9001) leaving", "web-x1 (10.0.0.2:9001)"];
        assert_eq!(shown(&all, Some("ws")), expected);
        assert_eq!(shown(&all, Some("80"))[0], "10.0.0.3:80");
        assert!(all.members(Some("grpc")).unwrap_err().contains("no port `grpc`; its ports: ws (9001), http (80)"));
        assert!(all.members(None).unwrap_err().contains("`port` must say which"));
    }

    #[test]
    fn of_two_endpoints_of_a_name_the_ready_one_counts_and_of_two_families_ipv4() {
        let ports = json!([{ "port": 9001 }]);
        let ready = |address: &str| json!({ "addresses": [address], "hostname": "chat-0" });
        let leaving = json!({ "addresses": ["10.0.0.1"], "hostname": "chat-0", "conditions": { "terminating": true } });
        let all = slices(&[
            slice("a", "IPv4", ports.clone(), json!([leaving, { "addresses": ["10.0.0.7"], "hostname": "chat-1" }])),
            slice("b", "IPv4", ports.clone(), json!([ready("10.0.0.2")])),
            slice("c", "IPv6", ports.clone(), json!([ready("2001:db8::1"), { "addresses": ["2001:db8::2"] }])),
            slice("d", "IPv4", json!(null), json!(null)),
        ]);
        let expected = ["[2001:db8::2]:9001", "chat-0 (10.0.0.2:9001)", "chat-1 (10.0.0.7:9001)"];
        assert_eq!(shown(&all, None), expected);
        assert_eq!(shown(&Slices::default(), Some("ws")), [""; 0]);
    }

    #[test]
    fn a_slice_that_is_changed_or_deleted_is_no_longer_what_it_was() {
        let ports = json!([{ "port": 9001 }]);
        let mut all = slices(&[slice("a", "IPv4", ports.clone(), json!([{ "addresses": ["10.0.0.1"] }]))]);
        let changed = slice("a", "IPv4", ports, json!([{ "addresses": ["10.0.0.2"] }]));
        let changed: EndpointSlice = serde_json::from_value(changed).unwrap();
        all.put(changed.clone());
        assert_eq!(shown(&all, None), ["10.0.0.2:9001"]);
        all.take(&changed);
        assert_eq!(shown(&all, None), [""; 0]);
    }
}
