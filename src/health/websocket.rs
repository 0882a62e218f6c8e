//! The `websocket` check: the fields of its handshake, and the Close that ends it.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dial::{self, Transport};
use crate::ws::{Cursor, Offer, Side, frame};

/// A handshake with a new key that offers these subprotocols and no extension.
pub(super) fn offer(subprotocols: &[String]) -> Offer {
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    Offer { key, protocols: subprotocols.to_vec(), extensions: Vec::new() }
}

/// The fields of a request with this offer.
pub(super) fn fields(Offer { key, protocols, .. }: &Offer) -> String {
    let offered = match protocols.as_slice() {
        [] => String::new(),
        names => format!("Sec-WebSocket-Protocol: {}\r\n", names.join(", ")),
    };
    format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         {offered}"
    )
}

/// Sends Close 1000 and waits for the backend's Close or end, shortly, so that the backend sees an orderly end and no
/// reset. The check has passed: an error here and a wait in vain change nothing.
pub(super) async fn say_goodbye(mut stream: impl Transport, early: &[u8], until: Instant) {
    let until = until.min(Instant::now() + FAREWELL);
    let close = frame::close(1000, "", Some(rand::random()));
    if dial::write_all(&mut stream, &close, until).await.is_err() {
        return;
    }
    let mut cursor = Cursor::new(Side::Backend);
    cursor.advance(early, &mut |_| {});
    let mut bytes = Vec::new();
    while cursor.closed().is_none() {
        bytes.clear();
        match dial::read(&mut stream, &mut bytes, until).await {
            Ok(0) | Err(_) => return,
            Ok(_) => cursor.advance(&bytes, &mut |_| {}),
        }
    }
}

/// Longest wait for the answer to the Close of a check: plenty for a backend that means to answer, and short enough
/// that one that does not keeps no other check waiting.
const FAREWELL: Duration = Duration::from_millis(250);
