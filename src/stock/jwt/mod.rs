//! `jwt`: admits clients with a valid JSON Web Token, and ends tunnels when it expires. See docs/hooks/jwt.md.

mod claims;
mod expiry;
mod keys;
mod remote;
mod settings;
mod token;
mod verify;

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use jsonwebtoken::crypto::aws_lc;
use serde::{Deserialize, Serialize};

use self::claims::ToldClaim;
use self::expiry::Expiry;
use self::keys::KeySet;
use self::remote::Remote;
use self::settings::OnExpiry;
use self::token::{Ambiguous, FoundToken, TokenSource};
use self::verify::{Claims, TokenRefused, TokenRules};
use crate::hook::{
    Answer, Closed, Entry, Hook, Injector, Next, Request, Response, Result, Setup, SetupError, Tunnel, TunnelId,
};

pub use self::settings::Settings;

/// The hook `jwt`.
#[derive(Debug)]
pub struct Jwt {
    places: Vec<TokenSource>,
    keys: Keys,
    rules: TokenRules,
    told: Vec<ToldClaim>,
    key: Option<String>,
    optional: bool,
    forward: bool,
    realm: String,
    /// `None` where tunnels outlive their tokens.
    expiry: Option<Arc<Expiry>>,
}

/// The keys that tokens are verified with.
#[derive(Debug)]
enum Keys {
    Fixed(KeySet),
    Remote(Arc<Remote>),
}

/// State that `jwt` keeps of a request, and of its tunnel.
#[derive(Debug, Default)]
pub struct Context {
    /// Moment at which the token expires, in seconds since 1970.
    expires: Option<u64>,
    tunnel: Option<TunnelId>,
    /// The subprotocol that the token came in.
    entry: Option<Box<str>>,
    /// Why the request was refused.
    refused: Option<&'static str>,
}

/// A tunnel's context on its way to another process; fields may be added with defaults.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    expires: Option<u64>,
    tunnel: Option<TunnelId>,
}

/// The keys of a URL on their way to another process.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    url: String,
    jwks: String,
}

/// Why a request is refused.
enum Denied {
    NoToken,
    Ambiguous,
    NoKeys,
    Refused(TokenRefused),
}

impl Hook for Jwt {
    type Settings = Settings;
    type Context = Context;

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        // A program may link the library with its other backend too, and then it knows none to choose. An error says
        // that the program has chosen, which is as good.
        let _ = aws_lc::DEFAULT_PROVIDER.install_default();
        let terms = settings.terms()?;
        let code = settings.code()?;
        let closes = settings.on_expiry == OnExpiry::Close;
        Ok(Self {
            places: settings.places()?,
            keys: settings.keys(setup)?,
            told: settings.told()?,
            realm: settings.realm()?.to_owned(),
            expiry: closes.then(|| Arc::new(Expiry::new(code, terms.leeway))),
            rules: TokenRules::new(terms),
            key: settings.key,
            optional: settings.optional,
            forward: settings.forward,
        })
    }

    fn start(self: &Arc<Self>, injector: &Injector) {
        if let Keys::Remote(remote) = &self.keys {
            remote.start();
        }
        if let Some(expiry) = &self.expiry {
            expiry.start(injector.clone());
        }
    }

    async fn on_request(&self, request: &mut Request<'_>, context: &mut Context) -> Result<Next> {
        claims::forget(&self.told, request);
        let denied = match token::find(&self.places, request) {
            Ok(None) if self.optional => {
                // One under a name that a backend takes for that of the place was not looked at.
                let mut headers = self.places.iter().filter(|place| matches!(place, TokenSource::Header(_)));
                headers.try_for_each(|place| place.clear(request))?;
                return Ok(Next::Continue);
            }
            Ok(None) => Denied::NoToken,
            Err(Ambiguous) => Denied::Ambiguous,
            Ok(Some(found)) => match self.verify(&found.token).await {
                Ok(claims) => return self.admit(request, context, found, &claims),
                Err(denied) => denied,
            },
        };
        context.refused = Some(denied.as_str());
        Ok(self.answer(&denied).into())
    }

    async fn on_response(&self, response: &mut Response<'_>, context: &mut Context) -> Result<()> {
        // Browsers give up where a server takes none of the subprotocols that they offered, and the token's may have
        // been the only one.
        match context.entry.take() {
            Some(entry) if response.is_upgrade() && response.header(PROTOCOL).is_none() => {
                response.set_header(PROTOCOL, entry)
            }
            _ => Ok(()),
        }
    }

    async fn on_open(&self, tunnel: &Tunnel, context: &mut Context) -> Result<()> {
        context.tunnel = Some(tunnel.id);
        self.arm(context);
        Ok(())
    }

    async fn on_close(&self, _: &Tunnel, _: &Closed, context: &mut Context) {
        if let (Some(expiry), Some(expires), Some(tunnel)) = (&self.expiry, context.expires, context.tunnel) {
            expiry.disarm(expires, tunnel);
        }
    }

    fn on_log(&self, entry: &mut Entry<'_>, context: &mut Context) {
        if let Some(refused) = context.refused {
            entry.add("jwt", refused);
        }
    }

    fn pack(&self, context: &Context) -> Option<Vec<u8>> {
        let packed = Packed { expires: context.expires, tunnel: context.tunnel };
        serde_json::to_vec(&packed).ok()
    }

    fn unpack(&self, packed: &[u8]) -> Result<Context> {
        let Packed { expires, tunnel } = serde_json::from_slice(packed)?;
        let context = Context { expires, tunnel, ..Context::default() };
        self.arm(&context);
        Ok(context)
    }

    fn save(&self) -> Option<Vec<u8>> {
        let Keys::Remote(remote) = &self.keys else { return None };
        let jwks = String::from_utf8(remote.current()?.text.to_vec()).ok()?;
        serde_json::to_vec(&Saved { url: remote.origin().url.to_string(), jwks }).ok()
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        let Saved { url, jwks } = serde_json::from_slice(saved)?;
        if let Keys::Remote(remote) = &self.keys
            && remote.origin().url.as_str() == url
        {
            remote.seed(Bytes::from(jwks));
        }
        Ok(())
    }
}

impl Jwt {
    async fn verify(&self, token: &str) -> Result<Claims, Denied> {
        let remote = match &self.keys {
            Keys::Fixed(keys) => return self.rules.verify(token, keys).map_err(Denied::Refused),
            Keys::Remote(remote) => remote,
        };
        let known = remote.keys().await.ok_or(Denied::NoKeys)?;
        let outcome = match self.rules.verify(token, &known.keys) {
            Err(unknown @ TokenRefused::UnknownKey) => match remote.after(&known).await {
                Some(newer) => self.rules.verify(token, &newer.keys),
                None => Err(unknown),
            },
            outcome => outcome,
        };
        outcome.map_err(Denied::Refused)
    }

    /// Admits a request: adds the headers with the token's claims, and removes the token where the backend is not to
    /// see it.
    fn admit(
        &self,
        request: &mut Request<'_>,
        context: &mut Context,
        found: FoundToken,
        claims: &Claims,
    ) -> Result<Next> {
        for (index, place) in self.places.iter().enumerate() {
            let is_its_place = index == found.place;
            // A token that was not looked at must not be taken for one that was; and one among the subprotocols would
            // be negotiated.
            if !is_its_place || !self.forward || matches!(place, TokenSource::Protocol(_)) {
                place.clear(request)?;
            }
        }
        claims::tell(&self.told, claims, request)?;
        if let Some(value) = self.key.as_deref().and_then(|name| verify::claim(claims, name)) {
            request.set_key(claims::key(value));
        }
        context.entry = found.entry.map(String::into_boxed_str).filter(|_| request.is_upgrade());
        context.expires = verify::expires(claims).filter(|_| request.is_upgrade());
        Ok(Next::Continue)
    }

    fn arm(&self, context: &Context) {
        if let (Some(expiry), Some(expires), Some(tunnel)) = (&self.expiry, context.expires, context.tunnel) {
            expiry.arm(expires, tunnel);
        }
    }

    /// The answer to a request that is refused (RFC 6750 §3). A request without a token is told of no error.
    fn answer(&self, denied: &Denied) -> Answer {
        let challenge = |error: &str, why: &str| {
            format!(r#"Bearer realm="{}", error="{error}", error_description="{why}""#, self.realm)
        };
        let name = header::WWW_AUTHENTICATE.as_str();
        match denied {
            Denied::NoToken => {
                Answer::new(401, "a token is needed").header(name, format!(r#"Bearer realm="{}""#, self.realm))
            }
            Denied::Ambiguous => {
                let why = "there is more than one token";
                Answer::new(400, why).header(name, challenge("invalid_request", why))
            }
            Denied::Refused(refused) => {
                // A description has no quotes (RFC 6750 §3), and a claim's name may.
                let why = refused.to_string().replace(['"', '\\'], "'");
                Answer::new(401, &*why).header(name, challenge("invalid_token", &why))
            }
            Denied::NoKeys => {
                Answer::new(503, "tokens cannot be verified at the moment").header(header::RETRY_AFTER.as_str(), "5")
            }
        }
    }
}

impl Denied {
    fn as_str(&self) -> &'static str {
        match self {
            Self::NoToken => "missing",
            Self::Ambiguous => "ambiguous",
            Self::NoKeys => "no_keys",
            Self::Refused(refused) => refused.as_str(),
        }
    }
}

const PROTOCOL: &str = "sec-websocket-protocol";

#[cfg(test)]
mod tests;
