//! Members by Kubernetes: the endpoints of a service, listed once and then watched.
//!
//! The API is asked by two calls (`GET …/endpointslices`, with and without `watch`), over the HTTP client that other
//! sources use. The usual client library and its generated types would double the code that is compiled.

mod api;
mod credentials;
mod slices;

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, Url};
use tokio::time::{sleep, timeout};

use self::api::{ApiStatus, EndpointSlice, ListOfSlices, WatchEvent};
use self::credentials::Access;
use self::slices::Slices;
use super::board::SourceReporter;
use crate::causes::with_causes;
use crate::config::KubernetesService;

/// Lists and watches the endpoints again and again, and reports their members.
pub(super) async fn follow(service: KubernetesService, reporter: SourceReporter) {
    let mut failures = 0;
    loop {
        let failed = match follow_from_a_list(&service, &reporter, &mut failures).await {
            // The watch cannot go on from this list. Its members stay in force until the next list is there.
            Ok(()) => {
                sleep(BETWEEN_WATCHES).await;
                continue;
            }
            Err(failed) => failed,
        };
        reporter.failed(&failed.to_string());
        sleep(FIRST_PAUSE.saturating_mul(1 << failures.min(5)).min(LONGEST_PAUSE)).await;
        failures = failures.saturating_add(1);
    }
}

/// Reason for which a request to the API gave no result.
#[derive(Debug, thiserror::Error)]
enum ApiFailure {
    #[error(transparent)]
    Access(#[from] credentials::NoAccess),
    #[error("{0}")]
    NoAnswer(String),
    #[error("the API server answers {0}")]
    Refused(String),
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
    #[error("the answer is longer than {MOST_BYTES} bytes")]
    TooLong,
    /// The list that a watch began from is no longer known: 410.
    #[error("the list is too old to be watched from")]
    Expired,
    #[error("{0}")]
    Port(String),
}

/// Lists the slices of a service and watches them until they have to be listed anew.
async fn follow_from_a_list(
    service: &KubernetesService,
    reporter: &SourceReporter,
    failures: &mut u32,
) -> Result<(), ApiFailure> {
    let mut access = Access::of(service).await?;
    let (mut slices, mut version) = list(&access, service).await?;
    reporter.answer(slices.members(service.port.as_deref()).map_err(ApiFailure::Port)?);
    *failures = 0;
    loop {
        let seen = version.clone();
        match watch(&access, service, &mut slices, &mut version, reporter).await {
            // The server, or a proxy before it, ends every watch after a while. The next one goes on from the same
            // version.
            Ok(()) => {}
            Err(ApiFailure::Expired) => return Ok(()),
            Err(failed) => return Err(failed),
        }
        if version == seen {
            sleep(BETWEEN_WATCHES).await;
        }
        // Read anew each time: tokens of pods are renewed within the hour.
        access = Access::of(service).await?;
    }
}

/// Lists all slices of a service, page by page; with the version to watch from.
async fn list(access: &Access, service: &KubernetesService) -> Result<(Slices, String), ApiFailure> {
    let (mut slices, mut next) = (Slices::default(), String::new());
    for _ in 0..MOST_PAGES {
        let mut query = vec![("limit", PAGE.to_owned())];
        if !next.is_empty() {
            query.push(("continue", next));
        }
        let asked = answered(access.get(url(access, service, &query)?).timeout(LIST_WITHIN)).await;
        let list: ListOfSlices = parsed(&whole(asked?).await?)?;
        list.items.into_iter().for_each(|slice| slices.put(slice));
        next = list.metadata.r#continue.unwrap_or_default();
        if next.is_empty() {
            return Ok((slices, list.metadata.resource_version.unwrap_or_default()));
        }
    }
    Err(ApiFailure::TooLong)
}

/// Watches from a version on, and reports each change, until the server ends the watch.
async fn watch(
    access: &Access,
    service: &KubernetesService,
    slices: &mut Slices,
    version: &mut String,
    reporter: &SourceReporter,
) -> Result<(), ApiFailure> {
    let query = [
        ("watch", "1".to_owned()),
        ("allowWatchBookmarks", "true".to_owned()),
        ("timeoutSeconds", WATCH.as_secs().to_string()),
        ("resourceVersion", version.clone()),
    ];
    let mut answer = answered(access.get(url(access, service, &query)?)).await?;
    let mut lines = Vec::new();
    loop {
        // A server that works ends the watch earlier, so one that is silent for so long is gone.
        let Ok(Ok(Some(chunk))) = timeout(WATCH + PATIENCE, answer.chunk()).await else { return Ok(()) };
        lines.extend_from_slice(&chunk);
        let mut changed = false;
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                changed |= apply(&line, slices, version)?;
            }
        }
        if lines.len() > MOST_BYTES {
            return Err(ApiFailure::TooLong);
        }
        if changed {
            reporter.answer(slices.members(service.port.as_deref()).map_err(ApiFailure::Port)?);
        } else {
            reporter.same();
        }
    }
}

/// Applies one line of a watch; true where it may change members.
fn apply(line: &[u8], slices: &mut Slices, version: &mut String) -> Result<bool, ApiFailure> {
    let change: WatchEvent = parsed(line)?;
    if change.r#type == "ERROR" {
        let status: ApiStatus = serde_json::from_value(change.object).unwrap_or_default();
        return Err(match status.code {
            Some(GONE) => ApiFailure::Expired,
            _ => ApiFailure::Refused(status.to_string()),
        });
    }
    let slice: EndpointSlice = serde_json::from_value(change.object).map_err(unreadable)?;
    if let Some(seen) = &slice.metadata.resource_version {
        version.clone_from(seen);
    }
    match change.r#type.as_str() {
        "ADDED" | "MODIFIED" => slices.put(slice),
        "DELETED" => slices.take(&slice),
        // BOOKMARK has a version and nothing else.
        _ => return Ok(false),
    }
    Ok(true)
}

fn url(access: &Access, service: &KubernetesService, query: &[(&str, String)]) -> Result<Url, ApiFailure> {
    let namespace = service.namespace.as_deref().unwrap_or(&access.namespace);
    let mut url = access.server.clone();
    let path = format!("{}{PATH}/namespaces/{namespace}/endpointslices", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let label = format!("{LABEL}={}", service.name);
    url.query_pairs_mut().append_pair("labelSelector", &label).extend_pairs(query);
    Ok(url)
}

async fn answered(request: RequestBuilder) -> Result<Response, ApiFailure> {
    let sent = timeout(LIST_WITHIN, request.send()).await;
    let sent = sent.map_err(|_| ApiFailure::NoAnswer("the API server does not answer".to_owned()))?;
    let answer = sent.map_err(no_answer)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::GONE {
        return Err(ApiFailure::Expired);
    }
    let said = whole(answer).await.ok().and_then(|body| serde_json::from_slice::<ApiStatus>(&body).ok());
    let message = said.and_then(|status| status.message).map_or(String::new(), |message| format!(": {message}"));
    Err(ApiFailure::Refused(format!("{}{message}", status.as_u16())))
}

async fn whole(mut answer: Response) -> Result<Vec<u8>, ApiFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(ApiFailure::TooLong);
        }
    }
    Ok(body)
}

fn no_answer(error: reqwest::Error) -> ApiFailure {
    let server = error.url().map_or(String::new(), |url| format!("{}: ", url.origin().ascii_serialization()));
    ApiFailure::NoAnswer(format!("{server}{}", with_causes(&error.without_url())))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, ApiFailure> {
    serde_json::from_slice(text).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> ApiFailure {
    ApiFailure::Unreadable(error.to_string())
}

/// Kubernetes API, `discovery.k8s.io/v1`.
const PATH: &str = "/apis/discovery.k8s.io/v1";
/// The label by which slices name their service.
const LABEL: &str = "kubernetes.io/service-name";
/// Slices of a page; each has 100 endpoints at the most.
const PAGE: &str = "100";
/// Most pages of a list. They hold the 65,535 members that an upstream may have, even in slices that are half full.
const MOST_PAGES: usize = 20;
const MOST_BYTES: usize = 64 << 20;
const GONE: u16 = 410;
const LIST_WITHIN: Duration = Duration::from_secs(10);
/// Time after which the server ends a watch.
const WATCH: Duration = Duration::from_secs(240);
/// Time by which the server may be late in ending a watch.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a watch that told of no change, because a server may end every watch at once.
const BETWEEN_WATCHES: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
