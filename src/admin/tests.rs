//! The paths that are always there, and the description of the API against its operations.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use super::*;
use crate::access_log::AccessLog;
use crate::config;
use crate::hook::HookRegistry;
use crate::metrics::Metrics;
use crate::snapshot::SnapshotOrigin;
use crate::tls::tickets::TicketKeys;
use crate::tunnel::Tunnels;

/// The status and the body that a path is answered with.
async fn get(admin: &Admin, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
    let visitor = Visitor { peer: ([127, 0, 0, 1], 1).into(), by_tls: false, certificate: None };
    let answer = admin.answer(request, &visitor).await;
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap())
}

#[tokio::test]
async fn a_process_that_has_lost_a_worker_is_alive_and_not_ready() {
    let text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                upstreams: { a: { health: off, backends: [127.0.0.1:9001] } }\n";
    let config = config::parse(text, &config::NoHooks).unwrap().config;
    let log = AccessLog::off();
    let tunnels = Arc::new(Tunnels::start(2, &log).unwrap());
    let (hooks, metrics) = (Arc::new(HookRegistry::empty()), Arc::new(Metrics::new()));
    let keys = TicketKeys::draw(SystemTime::now());
    let origin = SnapshotOrigin { config: &config, members: Default::default(), hooks };
    let running = Running::new(origin, metrics, Arc::clone(&tunnels), log, keys, Instant::now()).unwrap();
    let admin = Admin::of_metrics(Arc::new(running));
    assert_eq!(get(&admin, "/ready").await, (200, "ready\n".to_owned()));
    tunnels.lose_a_worker();
    while tunnels.lost_workers() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&admin, "/ready").await, (503, "a tunnel worker has ended\n".to_owned()));
    assert_eq!(get(&admin, "/live").await.0, 200);
    assert_eq!(get(&admin, "/api/v1/status").await.0, 404, "the metrics listener has no API");
}

#[test]
fn the_description_has_every_operation_and_no_other() {
    let description: serde_json::Value = serde_json::from_str(api::OPENAPI).unwrap();
    let described: BTreeSet<(String, String)> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let there = api::OPERATIONS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, there.collect());
    assert_eq!(description["info"]["version"], "1");
}
