//! Canary by cookie: a share of the clients is sent to the new release, and stays there.
//!
//!     cargo run --example echo -- 9001 9002 &
//!     cargo run --example canary -- -c examples/canary.yaml &
//!     curl -i http://127.0.0.1:8080/                              # set-cookie: release=stable or canary
//!     curl -H 'Cookie: release=canary' http://127.0.0.1:8080/     # backend 9002, whatever the share
//!
//! Change `percent` and say `longhaul reload`: clients that have the cookie stay where they are, open tunnels too.

use std::process::ExitCode;

use longhaul::Gateway;
use longhaul::hook::{Entry, Hook, Next, Request, Response, Result, Setup, SetupError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Canary {
    /// The upstream of the new release.
    upstream: String,
    /// Share of new clients that go there, in percent.
    percent: u8,
}

/// Destination of a request.
#[derive(Default)]
struct Way {
    canary: bool,
    /// The client has no cookie yet.
    new: bool,
}

impl Hook for Canary {
    type Settings = Self;
    type Context = Way;

    fn new(settings: Self, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if settings.percent > 100 {
            return Err(SetupError::at("percent", "is at most 100"));
        }
        Ok(settings)
    }

    async fn on_request(&self, request: &mut Request<'_>, way: &mut Way) -> Result<Next> {
        *way = match request.cookie("release") {
            Some(release) => Way { canary: release == "canary", new: false },
            None => Way { canary: rand::random_range(0..100) < self.percent, new: true },
        };
        if way.canary {
            request.set_upstream(&self.upstream);
        }
        Ok(Next::Continue)
    }

    /// The 101 of a WebSocket is an answer too.
    async fn on_response(&self, response: &mut Response<'_>, way: &mut Way) -> Result<()> {
        if way.new {
            let release = if way.canary { "canary" } else { "stable" };
            response.append_header("set-cookie", format!("release={release}; Path=/; Max-Age=604800; HttpOnly"))?;
        }
        Ok(())
    }

    /// The access log says where each went: `release=canary`.
    fn on_log(&self, entry: &mut Entry<'_>, way: &mut Way) {
        entry.add("release", if way.canary { "canary" } else { "stable" });
    }

    fn pack(&self, way: &Way) -> Option<Vec<u8>> {
        Some(vec![u8::from(way.canary)])
    }

    fn unpack(&self, packed: &[u8]) -> Result<Way> {
        Ok(Way { canary: packed == [1], new: false })
    }
}

fn main() -> ExitCode {
    Gateway::builder().hook::<Canary>("canary").run()
}
