//! `rate_limit`: bounds on requests, upgrades, tunnels, messages and bytes, counted by client.

mod key;
mod limiter;
mod settings;
mod tunnels;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::MonotonicClock;
use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::hook::{
    Answer, Direction, Hook, Message, Messages, Next, Request, Result, Setup, SetupError, Tunnel, Upgrade, Verdict,
};

use key::LimitKey;
use limiter::{Excess, Limiter};
use tunnels::{CountedTunnel, TunnelCounts};

pub use settings::{By, ByteRate, OnExcess, Prefixes, Rate, Settings};

/// Bounds what clients may ask for: requests and upgrades over the limit are answered 429, messages end their tunnel
/// with Close 1008, are dropped, or wait.
///
/// Each gateway counts for itself. A reload keeps the counts of a limit whose value and `by` stay the same. A handover
/// keeps all counts.
pub struct RateLimit {
    settings: Settings,
    requests: Option<Arc<Limiter>>,
    upgrades: Option<Arc<Limiter>>,
    messages: Option<Arc<Limiter>>,
    bytes: Option<Arc<Limiter>>,
    tunnels: Arc<TunnelCounts>,
}

/// State of one request, and of the tunnel that it becomes.
#[derive(Debug, Default)]
pub struct Context {
    key: Option<LimitKey>,
    tunnel: Option<CountedTunnel>,
}

/// A [`Context`] on its way to another process.
#[derive(Serialize, Deserialize)]
struct Packed {
    key: Option<LimitKey>,
}

/// Counts of a hook, on their way to another process: some keys of each limit, with the nanoseconds until their count
/// is back at zero.
#[derive(Default, Serialize, Deserialize)]
struct Saved {
    #[serde(default)]
    requests: Vec<(LimitKey, u64)>,
    #[serde(default)]
    upgrades: Vec<(LimitKey, u64)>,
    #[serde(default)]
    messages: Vec<(LimitKey, u64)>,
    #[serde(default)]
    bytes: Vec<(LimitKey, u64)>,
}

/// Most keys of each limit that go to another process: the latest ones, half a megabyte.
const MOST_SAVED: usize = 10_000;

impl RateLimit {
    fn key(&self, request: &Request<'_>, context: &mut Context) -> LimitKey {
        *context.key.get_or_insert_with(|| LimitKey::of(&self.settings.by, request))
    }

    /// The key of a tunnel's messages. It is the request's key; a tunnel whose request was seen by another release of
    /// this hook has none, and is counted by its client's address.
    fn tunnel_key(&self, client: IpAddr, context: &mut Context) -> LimitKey {
        *context.key.get_or_insert_with(|| LimitKey::of_client(&self.settings.by, client))
    }

    /// The limits that a message falls under. With each limit: the amount that the message takes, and the word for an
    /// excess.
    fn costs(&self, message: &Message) -> impl Iterator<Item = (&Limiter, u64, &'static str)> {
        let bytes = u64::try_from(message.as_bytes().len()).unwrap_or(u64::MAX);
        let messages = self.messages.as_deref().map(|limiter| (limiter, 1, "too many messages"));
        messages.into_iter().chain(self.bytes.as_deref().map(|limiter| (limiter, bytes, "too many bytes")))
    }

    /// Waits until `amount` has passed. An amount that is more than the burst passes in pieces. Returns false when the
    /// wait would be longer than `left`.
    async fn pace(limiter: &Limiter, key: &LimitKey, amount: u64, left: &mut Duration) -> bool {
        let mut to_take = amount.max(1);
        while to_take > 0 {
            let piece = to_take.min(limiter.burst());
            match limiter.take(key, piece) {
                Ok(()) => to_take -= piece,
                Err(Excess::For(wait)) if wait <= *left => {
                    *left -= wait;
                    tokio::time::sleep(wait).await;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

impl Hook for RateLimit {
    type Settings = Settings;
    type Context = Context;

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        check(&settings)?;
        let previous = setup.previous().filter(|previous| previous.settings.by == settings.by);
        let limiter = |rate: Option<Rate>, previous: Option<&Option<Arc<Limiter>>>| {
            let rate = rate?;
            let same = previous.and_then(Option::as_ref).filter(|limiter| limiter.is_of(rate, settings.max_keys));
            Some(same.cloned().unwrap_or_else(|| Arc::new(Limiter::new(rate, settings.max_keys, MonotonicClock))))
        };
        Ok(Self {
            requests: limiter(settings.requests, previous.map(|previous| &previous.requests)),
            upgrades: limiter(settings.upgrades, previous.map(|previous| &previous.upgrades)),
            messages: limiter(settings.messages, previous.map(|previous| &previous.messages)),
            bytes: limiter(settings.bytes.map(|bytes| bytes.0), previous.map(|previous| &previous.bytes)),
            tunnels: previous.map(|previous| Arc::clone(&previous.tunnels)).unwrap_or_default(),
            settings,
        })
    }

    fn messages(&self) -> Messages {
        match self.settings.on_excess {
            _ if self.messages.is_none() && self.bytes.is_none() => Messages::NONE,
            OnExcess::Close | OnExcess::Drop => Messages::TO_BACKEND,
            OnExcess::Delay => Messages::TO_BACKEND.awaited(),
        }
    }

    async fn on_request(&self, request: &mut Request<'_>, context: &mut Context) -> Result<Next> {
        let key = self.key(request, context);
        Ok(pass(self.requests.as_deref(), &key, "too many requests"))
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, context: &mut Context) -> Result<Next> {
        let key = self.key(&upgrade.request, context);
        if let Some(most) = self.settings.tunnels {
            match self.tunnels.enter(key, most) {
                Some(counted) => context.tunnel = Some(counted),
                // When one of them will end is nobody's to say: no `Retry-After`.
                None => return Ok(Answer::new(429, "too many open connections").into()),
            }
        }
        Ok(pass(self.upgrades.as_deref(), &key, "too many new connections"))
    }

    fn on_message(&self, tunnel: &Tunnel, _: Direction, message: &Message, context: &mut Context) -> Result<Verdict> {
        let key = self.tunnel_key(tunnel.client, context);
        let excess = self.costs(message).find(|(limiter, amount, _)| limiter.take(&key, *amount).is_err());
        Ok(match (excess, self.settings.on_excess) {
            (None, _) => Verdict::Pass,
            (Some(_), OnExcess::Drop) => Verdict::Drop,
            (Some((_, _, what)), _) => Verdict::close(POLICY_VIOLATION, what),
        })
    }

    async fn on_message_async(
        &self,
        tunnel: &Tunnel,
        _: Direction,
        message: &Message,
        context: &mut Context,
    ) -> Result<Verdict> {
        let key = self.tunnel_key(tunnel.client, context);
        let mut left = self.settings.max_delay.0;
        for (limiter, amount, what) in self.costs(message) {
            if !Self::pace(limiter, &key, amount, &mut left).await {
                return Ok(Verdict::close(POLICY_VIOLATION, what));
            }
        }
        Ok(Verdict::Pass)
    }

    fn pack(&self, context: &Context) -> Option<Vec<u8>> {
        serde_json::to_vec(&Packed { key: context.key }).ok()
    }

    fn unpack(&self, packed: &[u8]) -> Result<Context> {
        let Packed { key } = serde_json::from_slice(packed)?;
        // Over the limit or not: it is open, and stays so.
        let tunnel = key.filter(|_| self.settings.tunnels.is_some()).map(|key| self.tunnels.resume(key));
        Ok(Context { key, tunnel })
    }

    fn save(&self) -> Option<Vec<u8>> {
        let of = |limiter: &Option<Arc<Limiter>>| limiter.as_ref().map(|l| l.save(MOST_SAVED)).unwrap_or_default();
        let saved = Saved {
            requests: of(&self.requests),
            upgrades: of(&self.upgrades),
            messages: of(&self.messages),
            bytes: of(&self.bytes),
        };
        serde_json::to_vec(&saved).ok()
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        let Saved { requests, upgrades, messages, bytes } = serde_json::from_slice(saved)?;
        for (limiter, saved) in
            [(&self.requests, requests), (&self.upgrades, upgrades), (&self.messages, messages), (&self.bytes, bytes)]
        {
            if let Some(limiter) = limiter {
                limiter.restore(&saved);
            }
        }
        Ok(())
    }
}

/// RFC 6455 §7.4.1.
const POLICY_VIOLATION: u16 = 1008;

/// Counts one request of a key, or answers 429 (RFC 6585 §4).
fn pass(limiter: Option<&Limiter>, key: &LimitKey, what: &'static str) -> Next {
    match limiter.map(|limiter| limiter.take(key, 1)) {
        None | Some(Ok(())) => Next::Continue,
        Some(Err(excess)) => {
            let Excess::For(wait) = excess else { return Answer::new(429, what).into() };
            // Whole seconds (RFC 9110 §10.2.3); one less than it takes would be one refusal more.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Answer::new(429, what).header("retry-after", seconds.max(1).to_string()).into()
        }
    }
}

/// Checks that the settings agree with each other.
fn check(settings: &Settings) -> Result<(), SetupError> {
    let Settings { by, requests, upgrades, tunnels, messages, bytes, .. } = settings;
    let is_none = [requests, upgrades, messages].iter().all(|rate| rate.is_none());
    if is_none && bytes.is_none() && tunnels.is_none() {
        return Err(SetupError::new(
            "there is no limit: give one of `requests`, `upgrades`, `tunnels`, `messages` and `bytes`",
        ));
    }
    match by {
        By::ClientIp(Prefixes { ipv4_prefix, .. }) if !(1..=32).contains(ipv4_prefix) => {
            return Err(SetupError::at("by.client_ip.ipv4_prefix", "a prefix has 1 to 32 bits"));
        }
        By::ClientIp(Prefixes { ipv6_prefix, .. }) if !(1..=128).contains(ipv6_prefix) => {
            return Err(SetupError::at("by.client_ip.ipv6_prefix", "a prefix has 1 to 128 bits"));
        }
        By::Header(name) if HeaderName::from_bytes(name.as_bytes()).is_err() => {
            return Err(SetupError::at("by.header", format!("`{name}` is not the name of a header")));
        }
        By::Cookie(name) if name.is_empty() => return Err(SetupError::at("by.cookie", "a cookie has a name")),
        By::Query(name) if name.is_empty() => return Err(SetupError::at("by.query", "an argument has a name")),
        By::Tunnel if requests.is_some() || upgrades.is_some() || tunnels.is_some() => {
            return Err(SetupError::at("by", "by tunnel only `messages` and `bytes` can be counted"));
        }
        _ => {}
    }
    if settings.max_keys.get() > MOST_KEYS {
        return Err(SetupError::at("max_keys", format!("at most {MOST_KEYS}")));
    }
    Ok(())
}

/// Most keys of a limit. They take about a gigabyte.
const MOST_KEYS: u32 = 10_000_000;

#[cfg(test)]
mod tests;
