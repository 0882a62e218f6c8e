//! State that a handshake keeps for the re-attachment of its tunnel (`routes[].reattach`).

use std::borrow::Cow;

use http::header::{self, HeaderMap};

use super::context::Ctx;
use crate::config::{Compression, Reattach};
use crate::dial::PassedOn;
use crate::http1::HeaderFields;
use crate::http1::fields::FieldLine;
use crate::http1::forward::{SESSION, add};
use crate::tunnel::reattach::{Heads, KeptRequest, MOST_HEAD};
use crate::ws::deflate::{self, Agreement, BadAgreement};
use crate::ws::handshake::Offer;

/// State of a handshake on a route whose tunnels are re-attached.
pub(in crate::gateway) struct Keeping {
    policy: Reattach,
    /// Offer of permessage-deflate in the gateway's own name: each message stands alone, so that another backend can go
    /// on behind any of them.
    offer: Option<deflate::DeflateOffer>,
    agreement: Option<Agreement>,
    protocol: Option<Box<str>>,
    head: Vec<u8>,
    passed_on: Option<PassedOn>,
}

impl Ctx {
    /// Begins to keep what a re-attachment takes, where the route has it: compression is offered in the gateway's own
    /// name from here on.
    pub(in crate::gateway) fn begin_keeping(&mut self, lines: &mut Vec<FieldLine<'_>>, offered: &mut Offer) {
        let Some(target) = self.target() else { return };
        let Some(policy) = target.reattach else { return };
        let values: Vec<_> = lines
            .values_of(&header::SEC_WEBSOCKET_EXTENSIONS)
            .filter_map(|value| http::HeaderValue::from_bytes(value).ok())
            .collect();
        let offer = match target.compression {
            Compression::Inspect => deflate::offer(&values),
            Compression::Strip => None,
        };
        lines.retain(|line| !is_extensions(line));
        offered.extensions.clear();
        if let Some(offer) = &offer {
            let value = Cow::Owned(offer.header().as_bytes().to_vec());
            lines.push(FieldLine { name: header::SEC_WEBSOCKET_EXTENSIONS.as_str(), value });
            offered.extensions.push("permessage-deflate".to_owned());
        }
        let (head, passed_on) = (Vec::new(), None);
        self.keeping = Some(Box::new(Keeping { policy, offer, agreement: None, protocol: None, head, passed_on }));
    }

    /// Names the conversation in a request that backends are about to be sent, and keeps it.
    pub(in crate::gateway) fn name_session(&mut self, request: &mut Vec<u8>, passed_on: Option<PassedOn>) {
        let Some(keeping) = &mut self.keeping else { return };
        add(request, &SESSION, &format!("{:032x}", rand::random::<u128>()));
        keeping.head = request.clone();
        keeping.passed_on = passed_on;
    }

    /// State for the tunnel that the handshake has become; `None` where it ends with its backend.
    pub(in crate::gateway) fn kept(&mut self, heads: &Heads) -> Option<Box<KeptRequest>> {
        let Keeping { policy, agreement, protocol, head, passed_on, .. } = *self.keeping.take()?;
        if head.len() > MOST_HEAD {
            log::warn!("request {}: its head is too long to be kept, its tunnel is not re-attached", self.id());
            return None;
        }
        let head = heads.keep(&head);
        let key = self.request.as_ref().and_then(|request| request.key.as_ref()).map(|key| key.bytes.clone());
        let passed_on = passed_on.map(|passed| (passed.source, passed.destination));
        Some(Box::new(KeptRequest { policy, head, key, passed_on, protocol, compression: agreement }))
    }
}

impl Keeping {
    /// Notes the compression and the subprotocol of a backend's 101.
    ///
    /// # Errors
    /// The compression is none that was offered.
    pub(super) fn agree(&mut self, headers: &HeaderMap) -> Result<(), BadAgreement> {
        self.agreement = agreed(self.offer.as_ref(), headers)?;
        self.protocol = protocol(headers);
        Ok(())
    }

    /// The lines of a 101 for the client, with the compression that was agreed on.
    pub(in crate::gateway) fn edit_answer<'b>(&self, lines: &mut Vec<FieldLine<'b>>) {
        let agreed = self.offer.as_ref().and_then(|offer| {
            let values: Vec<_> = lines
                .values_of(&header::SEC_WEBSOCKET_EXTENSIONS)
                .filter_map(|value| http::HeaderValue::from_bytes(value).ok())
                .collect();
            // An answer that breaks the rules opens no tunnel.
            offer.agree(&values).ok().flatten()
        });
        lines.retain(|line| !is_extensions(line));
        if let Some(agreement) = agreed {
            let value = Cow::Owned(agreement.header().as_bytes().to_vec());
            lines.push(FieldLine { name: "Sec-WebSocket-Extensions", value });
        }
    }
}

/// The compression of a 101 to an offer of the gateway's own.
///
/// # Errors
/// The backend agreed to a compression that was not offered.
pub(in crate::gateway) fn agreed(
    offer: Option<&deflate::DeflateOffer>,
    headers: &HeaderMap,
) -> Result<Option<Agreement>, BadAgreement> {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    offer.map_or(Ok(None), |offer| offer.agree(values))
}

/// The subprotocol of a 101; an empty one is none.
pub(in crate::gateway) fn protocol(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.into())
}

fn is_extensions(line: &FieldLine<'_>) -> bool {
    line.name.eq_ignore_ascii_case(header::SEC_WEBSOCKET_EXTENSIONS.as_str())
}
