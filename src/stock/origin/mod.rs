//! `origin`: keeps pages of other sites from opening WebSockets with a visitor's cookies.

mod pattern;

use http::header;

use crate::hook::{Answer, Hook, Next, Request, Result, Setup, SetupError, Upgrade};
use crate::http1::forward::FORWARDED_PROTO;

use pattern::{Site, port_of};

pub use pattern::Pattern;

/// Lets in the pages of the sites that it is told, by their `Origin` (RFC 6455 §10.2): a browser sends it with every
/// WebSocket handshake, and no page can change it. Others are answered 403.
#[derive(Debug)]
pub struct Origin {
    settings: Settings,
}

/// Settings under `with:`. docs/hooks/origin.md is the reference.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Settings {
    /// Origins of pages that may connect; by default the host that is asked for.
    #[serde(default = "same_origin")]
    pub allow: Vec<Pattern>,
    /// Fate of requests without `Origin`.
    #[serde(default)]
    pub missing: Missing,
    /// Check plain requests too; by default upgrades alone.
    #[serde(default)]
    pub requests: bool,
}

fn same_origin() -> Vec<Pattern> {
    vec![Pattern::Same]
}

/// Fate of requests without `Origin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The request goes on. It comes from no page (browsers send `Origin`, RFC 6455 §4.1), so it borrows no visitor's
    /// cookies.
    #[default]
    Allow,
    /// The request is answered 403.
    Refuse,
}

impl Origin {
    fn judge(&self, request: &Request<'_>) -> Next {
        let mut lines = request.headers().get_all(header::ORIGIN).iter();
        let may_pass = match (lines.next(), lines.next()) {
            (None, _) => self.settings.missing == Missing::Allow,
            (Some(line), None) => {
                line.to_str().ok().and_then(Site::parse).is_some_and(|site| self.allows(&site, request))
            }
            (Some(_), Some(_)) => false,
        };
        if may_pass { Next::Continue } else { Answer::new(403, "pages of this origin may not connect here").into() }
    }

    fn allows(&self, site: &Site<'_>, request: &Request<'_>) -> bool {
        self.settings.allow.iter().any(|pattern| match pattern {
            Pattern::Same => is_same(site, request),
            Pattern::Site(allowed) => allowed.covers(site),
        })
    }
}

/// Returns true for a page of the host that is asked for.
///
/// Its scheme is not in the request. Where a proxy says that the client came by TLS, pages without are others: whoever
/// sits on their way may have written them.
fn is_same(site: &Site<'_>, request: &Request<'_>) -> bool {
    let (host, port) = pattern::host_and_port(request.host());
    let port = port.or(port_of(site.scheme));
    let by_tls = request.header(FORWARDED_PROTO.as_str()).and_then(|protos| protos.split(',').next()).map(str::trim);
    let by_tls = by_tls.is_some_and(|proto| proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss"));
    let of_the_web = site.scheme.eq_ignore_ascii_case("https") || (site.scheme.eq_ignore_ascii_case("http") && !by_tls);
    of_the_web && !host.is_empty() && site.host.eq_ignore_ascii_case(host) && site.port == port
}

impl Hook for Origin {
    type Settings = Settings;
    type Context = ();

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if settings.allow.is_empty() {
            return Err(SetupError::at("allow", "no page could ever connect: name `same` or an origin"));
        }
        Ok(Self { settings })
    }

    async fn on_request(&self, request: &mut Request<'_>, (): &mut ()) -> Result<Next> {
        Ok(if self.settings.requests { self.judge(request) } else { Next::Continue })
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, (): &mut ()) -> Result<Next> {
        Ok(self.judge(&upgrade.request))
    }
}

#[cfg(test)]
mod tests;
