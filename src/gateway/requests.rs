//! The requests of one connection, one after the other: each head passes a reader of ours before Pingora sees it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::debug;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::time::sleep_until;

use super::Gateway;
use super::cause::RefusalCause;
use super::head_reader::{HeadReader, HeadSource, HeadWait, NoHead, settle};
use super::rewind::{FirstHead, Rewind};
use crate::tunnel::UnderWay;

/// Serves the connections that workers pass on: heads are read and checked here, and `app` has the rest.
pub(crate) struct Requests<A> {
    gateway: Gateway,
    app: Arc<A>,
}

impl<A: HttpServerApp + Send + Sync + 'static> Requests<A> {
    /// Requests for `app`, refused by `gateway` where their heads have to be.
    pub(crate) fn new(gateway: Gateway, app: A) -> Self {
        Self { gateway, app: Arc::new(app) }
    }

    /// Lends Pingora the next request, once its head is whole. Returns the guard that counts it as under way, where one
    /// was needed meanwhile.
    async fn lend_next(
        &self,
        stream: &mut Rewind,
        begun: FirstHead,
        shutdown: &mut ShutdownWatch,
    ) -> Result<Option<UnderWay>, Unlent> {
        let mut ahead = stream.take_ahead();
        let mut reader = match begun {
            FirstHead::Whole(head, continuation) => {
                stream.lend(ahead, &head, continuation, &self.gateway.running.limits());
                return Ok(None);
            }
            FirstHead::Refused(cause) => {
                stream.put_back(ahead);
                return Err(Unlent::Refused(cause));
            }
            FirstHead::Reading(reader) => reader,
        };
        let mut source = OnRuntime { stream, shutdown, closing_at: None };
        let read = reader.read(&mut source, &mut ahead, Some(&self.gateway.running)).await;
        let settled = read.and_then(|()| settle(&mut ahead, &reader.bounds()).map_err(NoHead::Refused));
        match settled {
            Ok(head) => {
                stream.lend(ahead, &head, None, &self.gateway.running.limits());
                Ok(reader.take_under_way())
            }
            Err(none) => {
                stream.put_back(ahead);
                Err(none.into())
            }
        }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Requests<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut stream = Rewind::behind(stream)?;
        let mut begun = stream.take_begun()?;
        let mut stopped = shutdown.clone();
        loop {
            let mut under_way = match self.lend_next(&mut stream, begun, &mut stopped).await {
                Ok(under_way) => under_way,
                Err(Unlent::Refused(cause)) => {
                    self.gateway.refuse(stream, cause).await;
                    return None;
                }
                Err(Unlent::Over) => return None,
            };
            let mut serving = pin!(self.app.process_new_http(ServerSession::new_http1(stream), shutdown));
            let served = poll_fn(|cx| {
                let polled = serving.as_mut().poll(cx);
                // The head is in memory, so that the first poll begins the request, which counts itself.
                drop(under_way.take());
                polled
            });
            let served = served.await?;
            // The gateway has read the settings from the head itself; Pingora's way to keep them is not needed.
            let (kept, _settings) = served.consume();
            stream = Rewind::behind(kept)?;
            if !stream.may_go_on() {
                debug!("a connection ends because bytes came behind a request for a tunnel");
                return None;
            }
            begun = FirstHead::Reading(HeadReader::next(self.gateway.running.limits()));
        }
    }

    async fn cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

/// Why Pingora is lent no further request of a connection.
enum Unlent {
    /// The client is told, or at least counted.
    Refused(RefusalCause),
    /// The connection is over.
    Over,
}

impl From<NoHead> for Unlent {
    fn from(none: NoHead) -> Self {
        match none {
            NoHead::Refused(refused) => Self::Refused(refused.into()),
            NoHead::Gone | NoHead::Elsewhere => Self::Over,
        }
    }
}

/// A connection on a runtime. Once the gateway accepts no more, a client between two requests has a last moment for
/// one.
struct OnRuntime<'s> {
    stream: &'s mut Rewind,
    shutdown: &'s mut ShutdownWatch,
    closing_at: Option<Instant>,
}

impl HeadSource for OnRuntime<'_> {
    async fn fill(&mut self, bytes: &mut Vec<u8>, HeadWait { until, is_between }: HeadWait) -> io::Result<usize> {
        let Self { stream, shutdown, closing_at } = self;
        let closing = async {
            // An acceptor that is gone accepts nothing either.
            let _ = shutdown.wait_for(|stopped| *stopped).await;
            sleep_until((*closing_at.get_or_insert_with(|| Instant::now() + LAST_REQUEST)).into()).await;
        };
        tokio::select! {
            biased;
            more = poll_fn(|cx| stream.poll_more(cx, bytes)) => more,
            () = sleep_until(until.into()) => Err(io::ErrorKind::TimedOut.into()),
            () = closing, if is_between => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// Time that a kept connection gets for a last request.
const LAST_REQUEST: Duration = Duration::from_millis(500);
