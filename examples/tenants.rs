//! Tenants: each has a number of sockets and a quota of messages, which reloads and upgrades do not forget.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example tenants -- -c examples/tenants.yaml &
//!     cargo run --example ws -- 'ws://127.0.0.1:8080/?tenant=small'      # two sockets, three messages

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use longhaul::hook::{Answer, Direction, Error, Hook, Injector, Item, Message, Messages, Next, Result};
use longhaul::hook::{Setup, SetupError, To, Tunnel, Upgrade, Verdict};

#[derive(serde::Deserialize)]
struct Tenant {
    sockets: usize,
    messages: u64,
    /// Open sockets, and messages so far: shared with the sockets, and with the hook of the next configuration.
    #[serde(skip)]
    used: Arc<(AtomicUsize, AtomicU64)>,
}

/// A tenant's socket, counted for as long as this is there.
struct Seat(String, Arc<(AtomicUsize, AtomicU64)>);
impl Drop for Seat {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, Relaxed);
    }
}

struct Tenants(BTreeMap<String, Tenant>);
impl Tenants {
    fn seat(&self, name: &str) -> Option<(Seat, bool)> {
        let Tenant { sockets, used, .. } = self.0.get(name)?;
        let others = used.0.fetch_add(1, Relaxed);
        Some((Seat(name.to_owned(), Arc::clone(used)), others < *sockets))
    }
}

impl Hook for Tenants {
    type Settings = BTreeMap<String, Tenant>;
    type Context = Option<Seat>;

    fn new(mut tenants: Self::Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        for (name, before) in setup.previous().iter().flat_map(|previous| &previous.0) {
            tenants.entry(name.clone()).and_modify(|now| now.used = Arc::clone(&before.used));
        }
        Ok(Self(tenants))
    }

    /// `new` must change nothing: its configuration may still be refused. This is called once it is in force.
    fn start(self: &Arc<Self>, injector: &Injector) {
        injector.post(To::All, Item::Message(Direction::ToClient, Message::text("the limits may have changed")));
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, seat: &mut Option<Seat>) -> Result<Next> {
        let name = upgrade.request.query_value("tenant").unwrap_or_default();
        let Some((taken, is_free)) = self.seat(&name) else { return Ok(Answer::new(403, "no such tenant").into()) };
        *seat = Some(taken);
        Ok(if is_free { Next::Continue } else { Answer::new(429, "too many sockets").into() })
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    fn on_message(&self, _: &Tunnel, _: Direction, _: &Message, seat: &mut Option<Seat>) -> Result<Verdict> {
        let Some(Seat(name, used)) = seat else { return Ok(Verdict::Pass) };
        let used = used.1.fetch_add(1, Relaxed);
        let is_over = self.0.get(name).is_none_or(|tenant| used >= tenant.messages);
        Ok(if is_over { Verdict::close(1008, "the quota is used up") } else { Verdict::Pass })
    }

    fn pack(&self, seat: &Option<Seat>) -> Option<Vec<u8>> {
        seat.as_ref().map(|Seat(name, _)| name.clone().into_bytes())
    }

    fn unpack(&self, name: &[u8]) -> Result<Option<Seat>> {
        let seat = self.seat(std::str::from_utf8(name)?).ok_or_else(|| Error::new("the tenant is gone"))?;
        Ok(Some(seat.0))
    }

    fn save(&self) -> Option<Vec<u8>> {
        let used: BTreeMap<_, _> = self.0.iter().map(|(name, tenant)| (name, tenant.used.1.load(Relaxed))).collect();
        serde_json::to_vec(&used).ok()
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        for (name, used) in serde_json::from_slice::<BTreeMap<String, u64>>(saved)? {
            // Added, not set: this process serves already. A tenant may be gone meanwhile.
            self.0.get(&name).inspect(|tenant| _ = tenant.used.1.fetch_add(used, Relaxed));
        }
        Ok(())
    }
}

fn main() -> std::process::ExitCode {
    longhaul::Gateway::builder().hook::<Tenants>("tenants").run()
}
