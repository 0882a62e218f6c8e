//! Envoy's static configuration as a model of a gateway.

mod cluster;
mod hash;
mod headers;
mod http;
mod listener;
mod routes;
mod tls;
mod tree;

use std::path::Path;
use std::sync::Arc;

use self::cluster::Clusters;
use self::tree::At;
use super::model::Model;
use super::place::{SourcePlace, SourceProblem};
use crate::config::read_yaml;

/// Differences that hold wherever a file of Envoy's says nothing.
const DEFAULTS: &[&str] = &[
    "a path ends at a `/`: `/ws` and `/ws/` both take `/ws` and `/ws/a`, and not `/wsx`",
    "routes hold on every listener: those of one are answered on the sockets of the others, too",
    "WebSockets pass on every route, and need no `upgrade_configs`",
    "a tunnel may be silent for 1d (Envoy: 5 min), a handshake take 10s, a request be silent for 60s (15 s in all)",
    "where every backend is down the answer is 503; Envoy asks all of them from half on (`fail_open`)",
    "backends are checked by a connect every 2s",
];

/// Reads the file.
///
/// # Errors
/// The problem of a file that is no YAML, or has nothing static in it.
pub(super) fn read(path: &Path, text: &str) -> Result<Model, Vec<SourceProblem>> {
    let name: Arc<str> = path.to_string_lossy().into();
    let at = |line: usize| SourcePlace { file: Arc::clone(&name), line };
    let tree = read_yaml(text).map_err(|problem| {
        let expected = problem.expected.unwrap_or_else(|| "YAML or JSON".to_owned());
        vec![SourceProblem::new(&at(problem.line), problem.message, expected)]
    })?;
    let root = tree.as_ref().map(|node| At::new(node, &name));
    let Some(resources) = root.and_then(|root| root.get("static_resources")).filter(At::is_mapping) else {
        let expected = "a bootstrap file with `static_resources: { listeners: …, clusters: … }`";
        return Err(vec![SourceProblem::new(&at(1), "the file has no `static_resources`", expected)]);
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let mut model = Model { defaults: DEFAULTS.to_vec(), lines, ..Model::default() };
    if let Some(root) = root {
        let top = ["static_resources", "node", "layered_runtime", "overload_manager", "static_resources"];
        root.others(&top, &mut model.notes, |key| match key {
            "admin" => "see `metrics` and `admin` in docs/configuration.md",
            "dynamic_resources" => "nothing is fetched from a control plane; see `discover` in docs/discovery.md",
            _ => "no equivalent",
        });
    }
    resources.others(&["listeners", "clusters"], &mut model.notes, |_| "no equivalent");
    let mut clusters = Clusters::read(&resources, &mut model.notes);
    for item in resources.items("listeners") {
        listener::read(&item, &mut clusters, &mut model);
    }
    model.upstreams = clusters.into_upstreams();
    Ok(model)
}
