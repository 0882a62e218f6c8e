//! Sends one event to an endpoint. The event is signed, and sent again if it did not arrive.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use reqwest::{Client, StatusCode, Url};
use tokio::time;

use super::event::WebhookEvent;
use crate::stock::outgoing::{self, OutgoingError};

/// An HTTP endpoint that takes events.
#[derive(Debug)]
pub(super) struct WebhookEndpoint {
    pub(super) url: Url,
    pub(super) client: Client,
    /// Sent along with every event.
    pub(super) headers: HeaderMap,
    /// Key that signs events.
    pub(super) secret: Option<hmac::Key>,
    /// Number of further tries for an event that did not arrive.
    pub(super) retries: u32,
}

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    /// The endpoint refuses the event; to send it again would not help.
    #[error("{0}")]
    Refused(OutgoingError),
    /// The event did not arrive, or the endpoint cannot take it at the moment.
    #[error("{0}")]
    Failed(OutgoingError),
    /// The event was not sent: as many calls are under way as may be.
    #[error("too many calls are under way")]
    Busy,
}

impl WebhookEndpoint {
    /// Sends an event once.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub(super) async fn send(&self, event: &WebhookEvent) -> Result<(), NotTaken> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let mut headers = self.headers.clone();
        if let Some(secret) = &self.secret {
            headers.insert("webhook-signature", text(&signature(secret, &event.id, &at, &event.body)));
        }
        headers.insert("webhook-id", text(&event.id));
        headers.insert("webhook-timestamp", text(&at));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = self.client.post(self.url.clone()).headers(headers).body(event.body.clone());
        match outgoing::send(request, LONGEST_ANSWER).await {
            Ok(_) | Err(OutgoingError::TooLong(_)) => Ok(()),
            Err(error @ OutgoingError::Status(status)) if !is_worth_another_try(status) => {
                Err(NotTaken::Refused(error))
            }
            Err(error) => Err(NotTaken::Failed(error)),
        }
    }

    /// Sends an event until it is taken or refused, or was sent as often as is allowed.
    ///
    /// # Errors
    /// Outcome of the last try.
    pub(super) async fn deliver(&self, event: &WebhookEvent) -> Result<(), NotTaken> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..self.retries {
            match self.send(event).await {
                Err(NotTaken::Failed(_)) => {}
                outcome => return outcome,
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.send(event).await
    }
}

/// Standard Webhooks 1.0: HMAC-SHA256 over id, time and body.
fn signature(secret: &hmac::Key, id: &str, at: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(secret);
    for part in [id.as_bytes(), b".", at.as_bytes(), b".", body] {
        context.update(part);
    }
    format!("v1,{}", STANDARD.encode(context.sign()))
}

/// Tells whether an event is sent again after this answer: 408 (RFC 9110 §15.5.9), 429 (RFC 6585 §4), or 500 and above.
fn is_worth_another_try(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("ids, times and signatures are printable ASCII")
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Most bytes of an answer's body that are read, so that the connection can be used again. The body is not looked at.
const LONGEST_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, which its libraries are tested with too.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
