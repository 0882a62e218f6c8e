//! Values of `forwarding`: the word that backends get on where a request came from.

/// `forwarding`: the word that backends get on where a request came from, beside `X-Forwarded-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `forwarded`: default `pass`.
    pub forwarded: Forwarded,
    /// `strangers`: default `append`.
    pub strangers: Strangers,
}

/// Treatment of the `Forwarded` header (RFC 7239) of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// `pass`: the header goes on as it came.
    #[default]
    Pass,
    /// `write`: an element that names this gateway's peer is added to it.
    Write,
}

/// Treatment of what peers that are no trusted proxies say of where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strangers {
    /// `append`: their word goes on, the gateway's own behind it (nginx: `$proxy_add_x_forwarded_for`).
    #[default]
    Append,
    /// `drop`: backends do not get it.
    Drop,
}
