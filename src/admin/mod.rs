//! The HTTP listener for operators: `/metrics` for Prometheus, `/ready` and `/live` for whoever supervises the gateway.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::snapshot::{Phase, Running};

/// Answers `GET /metrics`, `/ready` and `/live`.
pub struct Admin {
    running: Arc<Running>,
}

impl Admin {
    /// Answers for a running gateway.
    pub fn new(running: Arc<Running>) -> Self {
        Self { running }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        match (&request.method, request.uri.path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let snapshot = self.running.snapshot();
                self.running.metrics.tls.certificates(snapshot.certificates());
                answer(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    self.running.metrics.render(snapshot.readings()),
                )
            }
            (&Method::GET | &Method::HEAD, "/ready") => match self.running.phases.now() {
                Phase::Serving if self.running.tunnels.lost_workers() > 0 => {
                    answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"a tunnel worker has ended\n".to_vec())
                }
                Phase::Serving => answer(StatusCode::OK, "text/plain", b"ready\n".to_vec()),
                Phase::Grace | Phase::Closing => {
                    answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"draining\n".to_vec())
                }
            },
            (&Method::GET | &Method::HEAD, "/live") => answer(StatusCode::OK, "text/plain", b"alive\n".to_vec()),
            (_, "/metrics" | "/ready" | "/live") => {
                answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"only GET is answered\n".to_vec())
            }
            _ => answer(StatusCode::NOT_FOUND, "text/plain", b"there are /metrics, /ready and /live\n".to_vec()),
        }
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, body.len())
        .body(body)
        .expect("status and headers are constants that fit")
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::access_log::AccessLog;
    use crate::config;
    use crate::hook::Registry;
    use crate::metrics::Metrics;
    use crate::tls::tickets::TicketKeys;
    use crate::tunnel::Tunnels;

    /// The status and the body that a path is answered with.
    async fn get(admin: &Admin, path: &str) -> (u16, String) {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut session = ServerSession::new_http1(Box::new(server));
        assert!(session.read_request().await.unwrap());
        let answer = admin.response(&mut session).await;
        (answer.status().as_u16(), String::from_utf8(answer.into_body()).unwrap())
    }

    #[tokio::test]
    async fn a_process_that_has_lost_a_worker_is_alive_and_not_ready() {
        let text = "listeners: [{ address: 127.0.0.1:0 }]\nroutes: [{ upstream: a }]\n\
                    upstreams: { a: { health: off, backends: [127.0.0.1:9001] } }\n";
        let config = config::parse(text, &config::NoHooks).unwrap().config;
        let log = AccessLog::off();
        let tunnels = Arc::new(Tunnels::start(2, &log).unwrap());
        let (hooks, metrics) = (Arc::new(Registry::empty()), Arc::new(Metrics::new()));
        let keys = TicketKeys::draw(SystemTime::now());
        let running = Running::new(&config, hooks, metrics, Arc::clone(&tunnels), log, keys, Instant::now()).unwrap();
        let admin = Admin::new(Arc::new(running));
        assert_eq!(get(&admin, "/ready").await, (200, "ready\n".to_owned()));
        tunnels.lose_a_worker();
        while tunnels.lost_workers() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(get(&admin, "/ready").await, (503, "a tunnel worker has ended\n".to_owned()));
        assert_eq!(get(&admin, "/live").await.0, 200);
    }
}
