//! Access to an API server: of the pod that the gateway runs in, or by a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, RequestBuilder, Url};
use serde::Deserialize;

use crate::causes::with_causes;
use crate::config::KubernetesService;

/// Access to an API server.
pub(super) struct Access {
    client: Client,
    pub(super) server: Url,
    token: Option<String>,
    /// Namespace of services that are named without one.
    pub(super) namespace: String,
}

/// Reason for which an API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAccess {
    /// There are no credentials.
    #[error("the gateway does not run in a pod (KUBERNETES_SERVICE_HOST is not set), and no `kubeconfig` is named")]
    NotInACluster,
    /// A file cannot be read.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason, as the system or a parser gives it.
        error: String,
    },
    /// A kubeconfig lacks something.
    #[error("{}: {what}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The lack.
        what: String,
    },
    /// A certificate or key cannot be used.
    #[error("{what} cannot be used: {error}")]
    Unusable {
        /// Which one: the name of the part in the kubeconfig.
        what: &'static str,
        /// The reason, as the system or a parser gives it.
        error: String,
    },
}

impl Access {
    /// Access for a service's source, from the files as they are now.
    pub(super) async fn of(service: &KubernetesService) -> Result<Self, NoAccess> {
        let (kubeconfig, context) = (service.kubeconfig.clone(), service.context.clone());
        let read = tokio::task::spawn_blocking(move || match kubeconfig {
            Some(path) => of_kubeconfig(&path, context.as_deref()),
            None => {
                let host = std::env::var("KUBERNETES_SERVICE_HOST").map_err(|_| NoAccess::NotInACluster)?;
                let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
                of_a_pod(&host, &port, Path::new(SERVICE_ACCOUNT))
            }
        });
        let panicked = |_| NoAccess::Unusable { what: "the credentials", error: "reading them panicked".to_owned() };
        read.await.map_err(panicked)?
    }

    /// A request of the API.
    pub(super) fn get(&self, url: Url) -> RequestBuilder {
        let request = self.client.get(url).header("accept", "application/json");
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

/// Access by the token and the certificate that Kubernetes puts into every pod.
fn of_a_pod(host: &str, port: &str, folder: &Path) -> Result<Access, NoAccess> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let server = url(&format!("https://{host}:{port}"))?;
    let [ca, token, namespace] = ["ca.crt", "token", "namespace"].map(|name| folder.join(name));
    Ok(Access {
        client: client(Some(&bytes(&ca)?), None, false)?,
        server,
        token: Some(text(&token)?.trim().to_owned()),
        namespace: text(&namespace)?.trim().to_owned(),
    })
}

/// Access by a context of a kubeconfig: the current one where none is named.
fn of_kubeconfig(path: &Path, context: Option<&str>) -> Result<Access, NoAccess> {
    let lacks = |what: String| NoAccess::Kubeconfig { path: path.to_owned(), what };
    let config: Kubeconfig = serde_yaml::from_str(&text(path)?).map_err(|error| lacks(error.to_string()))?;
    let name = context.map(str::to_owned).or(config.current_context);
    let name = name.ok_or_else(|| lacks("there is no `current-context`, and no `context` is named".to_owned()))?;
    let named = |what: &str, name: &str| lacks(format!("there is no {what} `{name}`"));
    let context = config.contexts.into_iter().find(|context| context.name == name);
    let context = context.ok_or_else(|| named("context", &name))?.context;
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.ok_or_else(|| named("cluster", &context.cluster))?.cluster;
    let user = config.users.into_iter().find(|user| user.name == context.user);
    let user = user.ok_or_else(|| named("user", &context.user))?.user;
    if user.exec.is_some() || user.auth_provider.is_some() {
        let what = format!("user `{}` runs a program for its credentials, which a gateway does not", context.user);
        return Err(lacks(format!("{what}: give it a token or a certificate")));
    }
    // Paths are relative to the file (kubernetes.io, "Organizing Cluster Access Using kubeconfig Files").
    let folder = path.parent().unwrap_or(Path::new("/"));
    let part = |data: Option<String>, file: Option<PathBuf>| match (data, file) {
        (Some(data), _) => decoded(&data).map(Some).map_err(&lacks),
        (None, Some(file)) => bytes(&folder.join(file)).map(Some),
        (None, None) => Ok(None),
    };
    let authority = part(cluster.certificate_authority_data, cluster.certificate_authority)?;
    let certificate = part(user.client_certificate_data, user.client_certificate)?;
    let key = part(user.client_key_data, user.client_key)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some([certificate, b"\n".to_vec(), key].concat()),
        (None, None) => None,
        _ => return Err(lacks(format!("user `{}` has a client certificate or a key, and not both", context.user))),
    };
    let token = match (user.token, user.token_file) {
        (Some(token), _) => Some(token),
        (None, Some(file)) => Some(text(&folder.join(file))?.trim().to_owned()),
        (None, None) => None,
    };
    Ok(Access {
        client: client(authority.as_deref(), identity.as_deref(), cluster.insecure_skip_tls_verify)?,
        server: url(&cluster.server)?,
        token,
        namespace: context.namespace.unwrap_or_else(|| "default".to_owned()),
    })
}

fn client(authority: Option<&[u8]>, identity: Option<&[u8]>, unverified: bool) -> Result<Client, NoAccess> {
    let unusable = |what| move |error: reqwest::Error| NoAccess::Unusable { what, error: with_causes(&error) };
    let mut builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_WITHIN).user_agent(USER_AGENT);
    builder = builder.tcp_keepalive(KEEPALIVE).tcp_keepalive_interval(KEEPALIVE_AGAIN).no_proxy();
    builder = builder.tcp_keepalive_retries(KEEPALIVES);
    if let Some(pem) = authority {
        let authorities = Certificate::from_pem_bundle(pem).map_err(unusable("the cluster's authority"))?;
        if authorities.is_empty() {
            let error = "there is no certificate in it".to_owned();
            return Err(NoAccess::Unusable { what: "the cluster's authority", error });
        }
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(pem) = identity {
        builder = builder.identity(Identity::from_pem(pem).map_err(unusable("the client certificate"))?);
    }
    if unverified {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(unusable("the HTTP client"))
}

fn url(text: &str) -> Result<Url, NoAccess> {
    let unusable = |error: String| NoAccess::Unusable { what: "the API server's address", error };
    let url = Url::parse(text).map_err(|error| unusable(format!("`{text}`: {error}")))?;
    if ["http", "https"].contains(&url.scheme()) { Ok(url) } else { Err(unusable(format!("`{text}` is no URL"))) }
}

fn decoded(data: &str) -> Result<Vec<u8>, String> {
    let lines: String = data.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(lines).map_err(|error| format!("data that is no base64: {error}"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, NoAccess> {
    std::fs::read(path).map_err(|error| NoAccess::File { path: path.to_owned(), error: error.to_string() })
}

fn text(path: &Path) -> Result<String, NoAccess> {
    std::fs::read_to_string(path).map_err(|error| NoAccess::File { path: path.to_owned(), error: error.to_string() })
}

/// The parts of a kubeconfig (v1) that are read.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    exec: Option<serde_yaml::Value>,
    auth_provider: Option<serde_yaml::Value>,
}

/// kubernetes.io, "Accessing the Kubernetes API from a Pod".
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Time between probes of a silent connection. A watch may be silent for long, and by these probes a server that is
/// gone is noticed within a minute.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(10);
const KEEPALIVES: u32 = 3;
const USER_AGENT: &str = concat!("longhaul/", env!("CARGO_PKG_VERSION"));
