//! An API server of Kubernetes, as far as EndpointSlices go: lists in pages, watches, bookmarks, 410, and disconnects.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::support::{Backend, within};

/// The server. Its connections end when it is dropped.
pub(crate) struct ApiServer {
    /// Stays the same when it is started again.
    pub(crate) address: SocketAddr,
    server: Option<Backend>,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
}

/// Address of every server, and the name that its certificate is for. Nobody connects from it, so a port that is free
/// stays free.
pub(crate) const HOST: &str = "127.0.1.1";

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    /// Slices in force, in order of their names.
    slices: Vec<Value>,
    /// Every change, with the version that it made.
    log: Vec<(u64, Value)>,
    /// Watches from before this version are answered 410.
    oldest: u64,
    /// Number of times that all watches were cut off.
    cuts: u64,
    /// Status of every answer, instead of what was asked for.
    broken: Option<u16>,
    /// Requests so far: target and `Authorization`.
    asked: Vec<(String, String)>,
}

/// A slice of the service `chat`, of IPv4, with the port `ws`.
pub(crate) fn slice(name: &str, endpoints: &[Value], port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "namespace": "prod", "labels": { "kubernetes.io/service-name": "chat" } },
        "addressType": "IPv4",
        "ports": [{ "name": "ws", "port": port, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

/// An endpoint that is as `standing` says: `ready`, `terminating` or `starting`.
pub(crate) fn endpoint(hostname: &str, address: SocketAddr, standing: &str) -> Value {
    let (ready, terminating) = (standing == "ready", standing == "terminating");
    json!({
        "addresses": [address.ip()], "hostname": hostname,
        "conditions": { "ready": ready, "serving": ready || terminating, "terminating": terminating },
        "targetRef": { "kind": "Pod", "name": hostname, "namespace": "prod" },
    })
}

impl ApiServer {
    /// A server with these slices.
    pub(crate) async fn start(slices: Vec<Value>) -> Self {
        Self::start_with(slices, None).await
    }

    /// As [`start`](Self::start), by TLS.
    pub(crate) async fn start_tls(slices: Vec<Value>, config: ServerConfig) -> Self {
        Self::start_with(slices, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(slices: Vec<Value>, tls: Option<TlsAcceptor>) -> Self {
        let address = SocketAddr::new(HOST.parse().unwrap(), 0);
        let mut server = Self { address, server: None, tls, state: Arc::default() };
        server.start_again().await;
        slices.into_iter().for_each(|slice| server.put(slice));
        server
    }

    /// Ends every connection, and refuses new ones.
    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    /// Serves at the address that it had, with the slices that it has.
    pub(crate) async fn start_again(&mut self) {
        let (state, tls) = (Arc::clone(&self.state), self.tls.clone());
        let server = Backend::start_at(self.address, move |stream| {
            let (state, tls) = (Arc::clone(&state), tls.clone());
            async move {
                match tls {
                    None => serve(stream, state).await,
                    // A client may not like the certificate.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, state).await;
                        }
                    }
                }
            }
        });
        let server = server.await;
        self.address = server.address;
        self.server = Some(server);
    }

    /// A kubeconfig for it; `user` is the entry of its user.
    pub(crate) fn kubeconfig(&self, user: &str) -> String {
        self.kubeconfig_with("", user)
    }

    /// As [`kubeconfig`](Self::kubeconfig), with more about the cluster.
    pub(crate) fn kubeconfig_with(&self, cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             clusters:\n- name: lab\n  cluster: {{ server: \"{}\"{cluster} }}\n\
             contexts:\n- name: lab\n  context: {{ cluster: lab, user: gateway, namespace: prod }}\n\
             users:\n- name: gateway\n  user: {user}\n",
            self.url()
        )
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Puts a slice in place of the one of its name.
    pub(crate) fn put(&self, slice: Value) {
        self.change(|inner| {
            let name = slice["metadata"]["name"].clone();
            let place = inner.slices.iter().position(|known| known["metadata"]["name"] == name);
            let mut slice = slice;
            slice["metadata"]["resourceVersion"] = inner.version.to_string().into();
            inner.log.push((
                inner.version,
                json!({ "type": if place.is_some() { "MODIFIED" } else { "ADDED" }, "object": slice }),
            ));
            match place {
                Some(place) => inner.slices[place] = slice,
                None => inner.slices.push(slice),
            }
        });
    }

    /// Takes a slice away.
    pub(crate) fn remove(&self, name: &str) {
        self.change(|inner| {
            let place = inner.slices.iter().position(|known| known["metadata"]["name"] == name).unwrap();
            let mut slice = inner.slices.remove(place);
            slice["metadata"]["resourceVersion"] = inner.version.to_string().into();
            inner.log.push((inner.version, json!({ "type": "DELETED", "object": slice })));
        });
    }

    /// Tells watches the version, by a bookmark.
    pub(crate) fn bookmark(&self) {
        self.change(|inner| {
            let metadata = json!({ "resourceVersion": inner.version.to_string() });
            inner.log.push((inner.version, json!({ "type": "BOOKMARK", "object": { "metadata": metadata } })));
        });
    }

    /// Forgets every version before the one in force, and cuts all watches off.
    pub(crate) fn compact(&self) {
        self.change(|inner| {
            inner.oldest = inner.version;
            inner.cuts += 1;
        });
    }

    /// Cuts all watches off.
    pub(crate) fn cut(&self) {
        self.change(|inner| inner.cuts += 1);
    }

    /// Answers everything with this status from now on, and cuts all watches off.
    pub(crate) fn break_with(&self, status: Option<u16>) {
        self.change(|inner| {
            inner.broken = status;
            inner.cuts += 1;
        });
    }

    /// Version in force.
    pub(crate) fn version(&self) -> u64 {
        self.state.inner.lock().unwrap().version
    }

    /// Waits until a request that has these parts in its target or authorization has come, after `skip` others.
    pub(crate) async fn asked(&self, parts: &[&str], skip: usize) -> (String, String) {
        let mut changes = self.state.changed.subscribe();
        let find = async {
            loop {
                let found = {
                    let inner = self.state.inner.lock().unwrap();
                    let fits = |(target, authorization): &&(String, String)| {
                        parts.iter().all(|part| target.contains(part) || authorization.contains(part))
                    };
                    inner.asked.iter().filter(fits).nth(skip).cloned()
                };
                match found {
                    Some(found) => return found,
                    None => changes.changed().await.unwrap(),
                }
            }
        };
        within(&format!("a request with {parts:?}"), find).await
    }

    /// Number of requests whose target has this part.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.state.inner.lock().unwrap().asked.iter().filter(|(target, _)| target.contains(part)).count()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.state.inner.lock().unwrap();
        inner.version += 1;
        change(&mut inner);
        drop(inner);
        self.state.changed.send_replace(());
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<State>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut target, mut authorization, mut line) = (String::new(), String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            match line.split_once(' ') {
                Some(("GET", rest)) => target = rest.split(' ').next().unwrap().to_owned(),
                Some((name, value)) if name.eq_ignore_ascii_case("authorization:") => {
                    value.trim().clone_into(&mut authorization)
                }
                _ => {}
            }
        }
        let broken = {
            let mut inner = state.inner.lock().unwrap();
            inner.asked.push((target.clone(), authorization));
            inner.broken
        };
        state.changed.send_replace(());
        let done = match broken {
            Some(status) => answer(&mut stream, status, &status_of(status)).await,
            None if target.contains("watch=1") => return drop(watch(&mut stream, &target, &state).await),
            None => list(&mut stream, &target, &state).await,
        };
        if done.is_err() {
            return;
        }
    }
}

/// A page: one slice on each, so that pages are seen to be gone through.
async fn list(stream: &mut (impl AsyncWrite + Unpin), target: &str, state: &State) -> std::io::Result<()> {
    let page = field(target, "continue").map_or(0, |place| place.parse().unwrap());
    let body = {
        let inner = state.inner.lock().unwrap();
        let more = if page + 1 < inner.slices.len() { (page + 1).to_string() } else { String::new() };
        json!({
            "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
            "metadata": { "resourceVersion": inner.version.to_string(), "continue": more },
            "items": inner.slices.get(page..=page),
        })
    };
    answer(stream, 200, &body).await
}

async fn watch(stream: &mut (impl AsyncWrite + Unpin), target: &str, state: &State) -> std::io::Result<()> {
    let mut seen: u64 = field(target, "resourceVersion").unwrap().parse().unwrap();
    let mut changes = state.changed.subscribe();
    let cuts = state.inner.lock().unwrap().cuts;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n")
        .await?;
    stream.flush().await?;
    loop {
        let (lines, is_cut, is_too_old) = {
            let inner = state.inner.lock().unwrap();
            let lines: Vec<_> = inner.log.iter().filter(|(version, _)| *version > seen).cloned().collect();
            (lines, inner.cuts != cuts, seen < inner.oldest)
        };
        if is_cut {
            return Ok(());
        }
        if is_too_old {
            let gone = json!({ "type": "ERROR", "object": status_of(410) });
            return chunk(stream, &format!("{gone}\n")).await;
        }
        for (version, change) in lines {
            // In two pieces, as they may come.
            let text = format!("{change}\n");
            let (one, other) = text.split_at(text.len() / 2);
            chunk(stream, one).await?;
            chunk(stream, other).await?;
            seen = version;
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn status_of(code: u16) -> Value {
    let message = format!("this is {code}");
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message })
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} Word\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.flush().await
}

async fn chunk(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
    stream.flush().await
}

fn field<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    let query = target.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
