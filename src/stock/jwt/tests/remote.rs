//! Keys from a URL: the moments at which they are fetched, the keys that are valid meanwhile, and those that a hook
//! leaves to its successor.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::issuer::{Issuer, jwks};
use super::{Outcome, bear, chain, chain_after, claims, jwt};
use crate::hook::{Chain, Hook, Injector, Item, Outlet, To};
use crate::stock::jwt::Keys;
use crate::stock::jwt::remote::{KeySetSource, Remote};
use crate::stock::outgoing;

/// An HTTP server that publishes keys.
struct Provider {
    address: SocketAddr,
    page: Arc<Mutex<Page>>,
}

struct Page {
    status: StatusCode,
    body: String,
    asked: usize,
}

impl Provider {
    async fn start(keys: &[Value]) -> Self {
        let page = Arc::new(Mutex::new(Page { status: StatusCode::OK, body: jwks(keys), asked: 0 }));
        let shown = Arc::clone(&page);
        let answer = move || {
            let mut page = shown.lock().unwrap();
            page.asked += 1;
            std::future::ready((page.status, page.body.clone()))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Router::new().route("/keys", get(answer));
        tokio::spawn(async move { axum::serve(listener, site).await.unwrap() });
        Self { address, page }
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn publish(&self, keys: &[Value]) {
        self.page.lock().unwrap().body = jwks(keys);
    }

    fn fail(&self, status: StatusCode) {
        self.page.lock().unwrap().status = status;
    }

    fn asked(&self) -> usize {
        self.page.lock().unwrap().asked
    }
}

/// An outlet that leads to no tunnel.
struct Nowhere;

impl Outlet for Nowhere {
    fn deliver(&self, _: To, _: Item, _: tokio::sync::mpsc::UnboundedSender<usize>) {}
}

fn started(chain: Chain) -> Chain {
    chain.start(&Injector::new(Arc::new(Nowhere)));
    chain
}

/// The keys of the provider. They may be fetched again when `cooldown` is over.
fn remote(provider: &Provider, cooldown: Duration) -> Arc<Remote> {
    let url = provider.url().parse().unwrap();
    let timeout = Duration::from_secs(5);
    let client = outgoing::client(&url, None, timeout).unwrap();
    let refresh = Duration::from_secs(3600);
    let origin = KeySetSource { url, ca_file: None, timeout, refresh, cooldown, accepted: None };
    let remote = Arc::new(Remote::new(origin, client));
    remote.start();
    remote
}

async fn bear_by(chain: &Chain, issuer: &Issuer, id: &str) -> Outcome {
    bear(chain, &issuer.token_by(id, &claims(json!({})))).await
}

#[tokio::test]
async fn the_first_requests_wait_for_the_keys() {
    let issuer = Issuer::new(Algorithm::ES256);
    let provider = Provider::start(&[issuer.jwk("a")]).await;
    let chain = started(chain(&format!("jwks_url: {}", provider.url())));
    assert_eq!(bear_by(&chain, &issuer, "a").await.status(), 200);
    assert_eq!(bear_by(&chain, &issuer, "a").await.status(), 200);
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn without_keys_the_answer_is_503_and_nobody_is_let_in() {
    let issuer = Issuer::new(Algorithm::ES256);
    let provider = Provider::start(&[issuer.jwk("a")]).await;
    provider.fail(StatusCode::BAD_GATEWAY);
    let chain = started(chain(&format!("jwks_url: {}\nfetch_timeout: 100ms", provider.url())));
    assert_eq!(bear_by(&chain, &issuer, "a").await.status(), 503);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_looked_for_at_once_but_not_time_and_again() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::RS256));
    let provider = Provider::start(&[old.jwk("old")]).await;
    let chain = started(chain(&format!("jwks_url: {}\ncooldown: 1h", provider.url())));
    assert_eq!(bear_by(&chain, &old, "old").await.status(), 200);
    provider.publish(&[old.jwk("old"), new.jwk("new")]);
    // The fetch of the start was just now.
    for _ in 0..3 {
        assert_eq!(bear_by(&chain, &new, "new").await.status(), 401);
    }
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn keys_are_rotated_when_a_token_names_a_new_one_and_one_fetch_does_for_all_that_wait() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let provider = Provider::start(&[old.jwk("old")]).await;
    let remote = remote(&provider, Duration::ZERO);
    let known = remote.keys().await.unwrap();
    provider.publish(&[new.jwk("new")]);
    let all = futures::future::join_all((0..20).map(|_| remote.after(&known))).await;
    let newer = all[0].clone().unwrap();
    assert!(all.iter().all(|other| Arc::ptr_eq(other.as_ref().unwrap(), &newer)));
    assert!(newer.keys.lacks("old") && !newer.keys.lacks("new"));
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn the_keys_stay_while_the_url_fails_and_whatever_it_answers() {
    let issuer = Issuer::new(Algorithm::ES256);
    let provider = Provider::start(&[issuer.jwk("a")]).await;
    let remote = remote(&provider, Duration::ZERO);
    let known = remote.keys().await.unwrap();
    provider.fail(StatusCode::SERVICE_UNAVAILABLE);
    assert!(remote.after(&known).await.is_none());
    provider.fail(StatusCode::MOVED_PERMANENTLY);
    assert!(remote.after(&known).await.is_none());
    provider.fail(StatusCode::OK);
    provider.publish(&[]);
    assert!(remote.after(&known).await.is_none());
    provider.page.lock().unwrap().body = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(2 << 20));
    assert!(remote.after(&known).await.is_none());
    assert!(Arc::ptr_eq(&remote.current().unwrap(), &known));
    assert!(provider.asked() >= 5);
    provider.publish(&[issuer.jwk("b")]);
    assert!(remote.after(&known).await.is_some_and(|newer| !newer.keys.lacks("b")));
}

#[tokio::test]
async fn a_reload_keeps_the_keys_and_fetches_again_only_where_settings_changed() {
    let issuer = Issuer::new(Algorithm::ES256);
    let provider = Provider::start(&[issuer.jwk("a")]).await;
    let with = format!("jwks_url: {}", provider.url());
    let before = started(chain(&with));
    assert_eq!(bear_by(&before, &issuer, "a").await.status(), 200);
    provider.fail(StatusCode::BAD_GATEWAY);
    let same = started(chain_after(&format!("{with}\nleeway: 5s"), Some(&before)));
    drop(before);
    assert_eq!(bear_by(&same, &issuer, "a").await.status(), 200);
    assert_eq!(provider.asked(), 1);
    let other = started(chain_after(&format!("{with}\nrefresh: 1h"), Some(&same)));
    assert_eq!(bear_by(&other, &issuer, "a").await.status(), 200);
}

#[tokio::test]
async fn a_process_that_takes_over_has_the_keys_though_the_url_fails() {
    let issuer = Issuer::new(Algorithm::ES256);
    let provider = Provider::start(&[issuer.jwk("a")]).await;
    let made = || jwt(Keys::Remote(remote(&provider, Duration::from_secs(10))), None);
    let before = made();
    let token = issuer.token_by("a", &claims(json!({})));
    assert!(before.verify(&token).await.is_ok());
    let saved = before.save().unwrap();
    provider.fail(StatusCode::BAD_GATEWAY);
    let after = made();
    after.restore(&saved).unwrap();
    assert!(after.verify(&token).await.is_ok());
    assert!(after.restore(b"rubbish").is_err());
}
