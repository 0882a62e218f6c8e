//! The negotiation of permessage-deflate: what a client offers, and what its backend and it agree on.

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::ws::extensions::{self, Extension, MalformedExtension};
use crate::ws::side::Side;

/// A client's offer of permessage-deflate, as it goes on to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOffer {
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: offered without a value.
    client_max_window_bits: Option<Option<u8>>,
}

/// Agreement of client and backend: no context takeover either way, and how far back each may refer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

/// Why a backend's answer to an offer opens no tunnel. The backend's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAgreement {
    /// RFC 6455 §9.1.
    #[error("Sec-WebSocket-Extensions is malformed")]
    Malformed,
    /// RFC 6455 §9.1; no other extension than permessage-deflate is offered to a backend.
    #[error("extension {0:?} was not offered")]
    NotOffered(String),
    /// RFC 7692 §5: one offer is accepted at most.
    #[error("permessage-deflate was accepted twice")]
    Repeated,
    /// RFC 7692 §5: not defined, there twice, or with a value that it cannot have.
    #[error("parameter {0:?} of permessage-deflate is not valid")]
    Parameter(String),
    /// RFC 7692 §7.1.1.1: it was offered, so the answer must have it.
    #[error("server_no_context_takeover is missing")]
    ContextTakeover,
    /// RFC 7692 §7.1.2.1: where it was offered the answer must have it, with the same value or a smaller one.
    #[error("server_max_window_bits is missing or larger than offered")]
    ServerWindow,
    /// RFC 7692 §7.1.2.2.
    #[error("client_max_window_bits was not offered")]
    ClientWindow,
}

/// The first offer of permessage-deflate that can be accepted, from the values of a client's
/// `Sec-WebSocket-Extensions`; `None` where there is none.
///
/// Names are compared in any letter case. An offer with a parameter that is unknown, repeated or has a value that it
/// cannot have is passed over (RFC 7692 §5), and so are all other extensions.
pub fn offer<'v>(values: impl IntoIterator<Item = &'v HeaderValue>) -> Option<DeflateOffer> {
    elements(values).flatten().filter(is_ours).find_map(|element| {
        let parameters = Parameters::read(&element).ok()?;
        let server_max_window_bits = match parameters.server_max_window_bits {
            Some(None) => return None,
            bits => bits.flatten(),
        };
        Some(DeflateOffer { server_max_window_bits, client_max_window_bits: parameters.client_max_window_bits })
    })
}

impl DeflateOffer {
    /// The value of `Sec-WebSocket-Extensions` for the backend: no context takeover either way, and the limits of
    /// windows as the client offered them.
    pub fn header(&self) -> HeaderValue {
        header(self.server_max_window_bits, self.client_max_window_bits)
    }

    /// Agreement that the backend made of the offer, from the values of `Sec-WebSocket-Extensions` in its 101; `None`
    /// if it declined.
    ///
    /// # Errors
    /// The first rule that the answer breaks.
    pub fn agree<'v>(
        &self,
        values: impl IntoIterator<Item = &'v HeaderValue>,
    ) -> Result<Option<Agreement>, BadAgreement> {
        let mut agreed = None;
        for element in elements(values) {
            let element = element.map_err(|MalformedExtension| BadAgreement::Malformed)?;
            if !is_ours(&element) {
                return Err(BadAgreement::NotOffered(element.name.to_owned()));
            }
            if agreed.is_some() {
                return Err(BadAgreement::Repeated);
            }
            agreed = Some(self.accept(&Parameters::read(&element)?)?);
        }
        Ok(agreed)
    }

    fn accept(&self, answer: &Parameters) -> Result<Agreement, BadAgreement> {
        if !answer.server_no_context_takeover {
            return Err(BadAgreement::ContextTakeover);
        }
        let server = valued(SERVER_WINDOW, answer.server_max_window_bits)?;
        let client = valued(CLIENT_WINDOW, answer.client_max_window_bits)?;
        if let Some(offered) = self.server_max_window_bits
            && server.is_none_or(|bits| bits > offered)
        {
            return Err(BadAgreement::ServerWindow);
        }
        let Some(hint) = self.client_max_window_bits else {
            return match client {
                Some(_) => Err(BadAgreement::ClientWindow),
                None => Ok(Agreement { server_max_window_bits: server, client_max_window_bits: None }),
            };
        };
        // A value in the offer is a promise, whatever the answer says (RFC 7692 §7.1.2.2): the smaller one counts.
        let client = client.into_iter().chain(hint).min();
        Ok(Agreement { server_max_window_bits: server, client_max_window_bits: client })
    }
}

impl Agreement {
    /// The value of `Sec-WebSocket-Extensions` for the client's 101: no context takeover either way, and the limits of
    /// windows that the backend set or the client promised.
    pub fn header(&self) -> HeaderValue {
        header(self.server_max_window_bits, self.client_max_window_bits.map(Some))
    }

    /// Window of compressed messages of `sender`: they refer back by 2 to this power bytes; 8 to 15, by default 15.
    ///
    /// [`Codec::deflate`] refers back by 15 bits. What is to be sent in the name of a side that may do less is sent
    /// uncompressed (RFC 7692 §6: any message may be).
    pub fn window_bits(&self, sender: Side) -> u8 {
        let said = match sender {
            Side::Client => self.client_max_window_bits,
            Side::Backend => self.server_max_window_bits,
        };
        said.unwrap_or(MAX_WINDOW_BITS)
    }
}

/// The parameters of one element. Limits of windows: `Some(None)` where they have no value.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<Option<u8>>,
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    fn read(element: &Extension<'_>) -> Result<Self, BadAgreement> {
        let mut read = Self::default();
        for (name, value) in &element.parameters {
            let invalid = || BadAgreement::Parameter((*name).to_owned());
            let name = name.to_ascii_lowercase();
            let repeated = match (name.as_str(), value) {
                (SERVER_TAKEOVER, None) => std::mem::replace(&mut read.server_no_context_takeover, true),
                (CLIENT_TAKEOVER, None) => std::mem::replace(&mut read.client_no_context_takeover, true),
                (SERVER_WINDOW | CLIENT_WINDOW, value) => {
                    let bits = value.as_deref().map(|text| window_bits(text).ok_or_else(invalid)).transpose()?;
                    let place = if name == SERVER_WINDOW {
                        &mut read.server_max_window_bits
                    } else {
                        &mut read.client_max_window_bits
                    };
                    place.replace(bits).is_some()
                }
                _ => return Err(invalid()),
            };
            if repeated {
                return Err(invalid());
            }
        }
        Ok(read)
    }
}

/// 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn window_bits(text: &str) -> Option<u8> {
    (8..=MAX_WINDOW_BITS).find(|bits| bits.to_string() == text)
}

/// A limit of a window in an answer: there it must have a value (RFC 7692 §7.1.2).
fn valued(name: &str, bits: Option<Option<u8>>) -> Result<Option<u8>, BadAgreement> {
    match bits {
        Some(None) => Err(BadAgreement::Parameter(name.to_owned())),
        bits => Ok(bits.flatten()),
    }
}

fn elements<'v>(
    values: impl IntoIterator<Item = &'v HeaderValue>,
) -> impl Iterator<Item = Result<Extension<'v>, MalformedExtension>> {
    values.into_iter().flat_map(|value| extensions::parse(value.as_bytes()))
}

fn is_ours(element: &Extension<'_>) -> bool {
    element.name.eq_ignore_ascii_case(NAME)
}

fn header(server_window: Option<u8>, client_window: Option<Option<u8>>) -> HeaderValue {
    let mut text = format!("{NAME}; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}");
    if let Some(bits) = server_window {
        text += &format!("; {SERVER_WINDOW}={bits}");
    }
    match client_window {
        None => {}
        Some(None) => text += &format!("; {CLIENT_WINDOW}"),
        Some(Some(bits)) => text += &format!("; {CLIENT_WINDOW}={bits}"),
    }
    HeaderValue::try_from(text).expect("names and numbers are visible ASCII")
}

const NAME: &str = "permessage-deflate";
const SERVER_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";
const MAX_WINDOW_BITS: u8 = 15;
