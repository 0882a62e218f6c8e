//! The parts of the API's objects that are read (`discovery.k8s.io/v1`, and what every list and watch has).

use std::fmt;

use serde::Deserialize;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct ListOfSlices {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(super) items: Vec<EndpointSlice>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: Option<String>,
    pub(super) r#continue: Option<String>,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct WatchEvent {
    pub(super) r#type: String,
    pub(super) object: serde_json::Value,
}

/// Some of the endpoints of a service; Kubernetes divides them into slices.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(super) ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    pub(super) resource_version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    #[serde(default, deserialize_with = "null_is_none")]
    pub(super) addresses: Vec<String>,
    #[serde(default)]
    pub(super) conditions: Conditions,
    pub(super) hostname: Option<String>,
    pub(super) target_ref: Option<TargetRef>,
}

/// Conditions of an endpoint. One that is left out is unknown, and `ready` then counts as true. `serving` is not read,
/// because an endpoint that terminates gets nothing new either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
    pub(super) terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct TargetRef {
    pub(super) name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) port: Option<u16>,
}

/// An error, as the API reports it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApiStatus {
    pub(super) code: Option<u16>,
    pub(super) message: Option<String>,
}

impl fmt::Display for ApiStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "an error".to_owned(), |code| code.to_string());
        write!(f, "{code}: {}", self.message.as_deref().unwrap_or("without a message"))
    }
}

/// Go writes an empty list as `null`.
fn null_is_none<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
