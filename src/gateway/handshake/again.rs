//! Handshakes for tunnels that are held: the next backend is asked with the head that was kept.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use http::header::HeaderMap;
use log::info;

use super::{End, Gateway, HandshakeEnding, Offered, Switched};
use crate::dial::{Dialer, PassedOn};
use crate::gateway::request::{Ctx, keeping};
use crate::gateway::waits::Waits;
use crate::http1::fields;
use crate::http1::forward::{REATTACH, add, without};
use crate::http1::head::{read_request, read_response};
use crate::snapshot::{Destination, Running};
use crate::tunnel::reattach::{Asker, Asking, Attached, ReattachOutcome, Search, SearchOutcome};
use crate::tunnel::{Connection, Redial};
use crate::ws::deflate;
use crate::ws::handshake::{ClientKeys, Offer, UpgradeKind, classify_with};

/// Finds the next backends of tunnels that are held.
struct Again {
    /// Weak, because the workers that own this belong to what it leads to.
    running: Weak<Running>,
    dialer: Arc<Dialer>,
}

impl Gateway {
    /// Finds the next backends of tunnels that are held.
    pub fn asker(&self) -> Arc<dyn Asker> {
        Arc::new(Again { running: Arc::downgrade(&self.running), dialer: Arc::clone(&self.dialer) })
    }
}

impl Asker for Again {
    fn ask(self: Arc<Self>, asking: Asking, dial: Redial) -> Search {
        Box::pin(async move {
            let Some(running) = self.running.upgrade() else { return SearchOutcome::Failed(ReattachOutcome::Ended) };
            let gateway = Gateway { running, dialer: Arc::clone(&self.dialer) };
            match gateway.ask_again(asking, dial).await {
                Ok(attached) => SearchOutcome::Attached(Box::new(attached)),
                Err(outcome) => SearchOutcome::Failed(outcome),
            }
        })
    }
}

impl Waits for Redial {
    fn waker(&self, _: &Context<'_>) -> Waker {
        self.waker()
    }

    /// A tunnel that is held goes on with another backend.
    fn waits_for_its_own(&self) -> bool {
        false
    }

    /// Never ready: the worker gives the search up when the tunnel ends.
    fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// The request with which backends are asked.
struct Request {
    head: Vec<u8>,
    offer: Offer,
    compression: Option<deflate::DeflateOffer>,
}

impl Gateway {
    /// Asks one backend after another, with growing pauses, until one takes the tunnel or gives a final answer.
    async fn ask_again(&self, asking: Asking, mut dial: Redial) -> Result<Attached, ReattachOutcome> {
        let request = Request::of(&asking).ok_or(ReattachOutcome::Fault)?;
        let mut pause = FIRST_PAUSE;
        let mut next = asking.not_before;
        loop {
            if next >= asking.until {
                next = asking.until;
            }
            poll_fn(|_| dial.poll_until(next)).await;
            if Instant::now() >= asking.until {
                return Err(ReattachOutcome::Nobody);
            }
            if let Some(attached) = self.ask_in_time(&asking, &request, &mut dial).await? {
                return Ok(attached);
            }
            next = Instant::now() + pause.mul_f64(rand::random_range(0.5..1.0));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks until a backend has answered or the client has been held for too long. Returns `None` when no backend could
    /// be asked.
    async fn ask_in_time(
        &self,
        asking: &Asking,
        request: &Request,
        dial: &mut Redial,
    ) -> Result<Option<Attached>, ReattachOutcome> {
        let late = dial.again();
        let asked = pin!(self.ask_once(asking, request, dial));
        let late = pin!(poll_fn(|_| late.poll_until(asking.until)));
        match select(asked, late).await {
            Either::Left((asked, _)) => asked,
            Either::Right(_) => Err(ReattachOutcome::Nobody),
        }
    }

    async fn ask_once(
        &self,
        asking: &Asking,
        request: &Request,
        dial: &mut Redial,
    ) -> Result<Option<Attached>, ReattachOutcome> {
        let (mut ctx, to) = Ctx::again(&self.running, asking).ok_or(ReattachOutcome::RouteGone)?;
        let client = asking.kept.passed_on.map(|(source, destination)| PassedOn { source, destination });
        let mut offered = Offered { to, offer: request.offer.clone(), request: request.head.clone(), client };
        match self.offer(dial, &mut ctx, &mut offered).await {
            Ok(switched) => self.attached(asking, request, &mut ctx, &offered.to, switched).map(Some),
            Err(HandshakeEnding::Refusal(refusal)) => {
                let status = read_response(&refusal.read).ok().flatten().map_or(0, |head| head.status.as_u16());
                info!("request {}: its tunnel is not re-attached, the backend answered {status}", ctx.id());
                Err(ReattachOutcome::Refused(status))
            }
            Err(HandshakeEnding::Answer(_) | HandshakeEnding::Gone(_)) => Ok(None),
        }
    }

    /// Checks that the 101 of the next backend agrees on the same terms as that of the first.
    fn attached(
        &self,
        asking: &Asking,
        request: &Request,
        ctx: &mut Ctx,
        to: &Destination,
        Switched { backend, head, early }: Switched<Connection>,
    ) -> Result<Attached, ReattachOutcome> {
        let headers = read_response(&head).ok().flatten().and_then(|head| fields::map(&head.lines));
        let headers: HeaderMap = headers.ok_or(ReattachOutcome::Fault)?;
        if keeping::protocol(&headers) != asking.kept.protocol {
            return Err(ReattachOutcome::Protocol);
        }
        if keeping::agreed(request.compression.as_ref(), &headers) != Ok(asking.kept.compression) {
            return Err(ReattachOutcome::Compression);
        }
        let guard = ctx.pick.take().ok_or(ReattachOutcome::Fault)?.guard;
        let backend = backend.into_socket().map_err(|_: io::Error| ReattachOutcome::Fault)?;
        let generation = u32::try_from(ctx.snapshot.generation).unwrap_or(u32::MAX);
        Ok(Attached { backend, early, guard, metrics: Arc::clone(&to.metrics), generation })
    }
}

impl Request {
    /// The request that was kept, with the number and the occasion of the re-attachment; `None` where it cannot be read
    /// again.
    fn of(asking: &Asking) -> Option<Self> {
        let mut head = asking.kept.head.to_bytes();
        let read = read_request(&head).ok().flatten()?;
        let headers = fields::map(&read.lines)?;
        let wanted = classify_with(ClientKeys::Any, &http::Method::GET, http::Version::HTTP_11, &headers);
        let Ok(UpgradeKind::WebSocket(offer)) = wanted else { return None };
        let compression = deflate::offer(headers.get_all(http::header::SEC_WEBSOCKET_EXTENSIONS));
        for (name, value) in &asking.headers {
            head = without(&head, name);
            add(&mut head, name, value.to_str().ok()?);
        }
        add(&mut head, &REATTACH, &format!("{}; reason={}", asking.number, asking.loss.as_str()));
        Some(Self { head, offer, compression })
    }
}

/// Pause after the first look at backends of which none could be asked; twice as long after the next.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
