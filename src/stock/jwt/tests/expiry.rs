//! Tunnels whose tokens expire: the moment at which they are closed, and the process that closes them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time;

use super::issuer::Issuer;
use super::{Outcome, bear, chain, claims, jwt, now, with_secret};
use crate::hook::{Chain, Closed, Hook, Injector, Item, Outlet, To, Tunnel, TunnelId};
use crate::stock::jwt::expiry::Expiry;
use crate::stock::jwt::keys::KeySet;
use crate::stock::jwt::{Context, Keys};

/// An outlet that passes orders to tunnels on to the test. It counts an order as taken as often as `taken` allows.
struct Tunnels {
    told: mpsc::UnboundedSender<(To, Item)>,
    refusals: std::sync::Mutex<usize>,
}

impl Outlet for Tunnels {
    fn deliver(&self, to: To, item: Item, done: mpsc::UnboundedSender<usize>) {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return;
        }
        self.told.send((to, item)).unwrap();
        done.send(1).unwrap();
    }
}

fn injector(refusals: usize) -> (Injector, mpsc::UnboundedReceiver<(To, Item)>) {
    let (told, receiver) = mpsc::unbounded_channel();
    (Injector::new(Arc::new(Tunnels { told, refusals: refusals.into() })), receiver)
}

/// A started chain whose tunnels refuse the order to close as often as `refusals` says, and then take it.
fn started(with: &str, refusals: usize) -> (Chain, Injector, mpsc::UnboundedReceiver<(To, Item)>) {
    let chain = chain(with);
    let (injector, told) = injector(refusals);
    chain.start(&injector);
    (chain, injector, told)
}

fn tunnel(injector: &Injector) -> Tunnel {
    Tunnel {
        id: TunnelId::random(),
        request_id: "id".into(),
        client: [192, 0, 2, 1].into(),
        route: "* /".into(),
        upstream: "chat".into(),
        backend: ([127, 0, 0, 1], 9001).into(),
        key: None,
        injector: injector.clone(),
        outbox: crate::hook::Outbox::default(),
    }
}

/// Opens a tunnel with a token that expires at `exp`.
async fn open(chain: &Chain, injector: &Injector, issuer: &Issuer, exp: Value) -> (Tunnel, Outcome) {
    let mut outcome = bear(chain, &issuer.token(&claims(json!({ "exp": exp })))).await;
    assert_eq!(outcome.status(), 200, "{}", outcome.challenge());
    let tunnel = tunnel(injector);
    chain.on_open(&tunnel, &mut outcome.contexts).await.unwrap();
    (tunnel, outcome)
}

async fn next(told: &mut mpsc::UnboundedReceiver<(To, Item)>) -> (To, Item) {
    time::timeout(Duration::from_secs(20), told.recv()).await.expect("a tunnel is told in time").unwrap()
}

fn closed(tunnel: &Tunnel, code: u16) -> (To, Item) {
    (To::Tunnel(tunnel.id), Item::Close { code, reason: "token expired".to_owned() })
}

#[tokio::test]
async fn a_tunnel_is_closed_when_its_token_is_no_longer_accepted() {
    let (issuer, with) = with_secret();
    let (chain, injector, mut told) = started(&format!("{with}\nleeway: 30s"), 0);
    let (later, _later) = open(&chain, &injector, &issuer, json!(now() - 26)).await;
    let (first, _first) = open(&chain, &injector, &issuer, json!(now() - 27)).await;
    let (_, _never) = open(&chain, &injector, &issuer, json!(now() + 3600)).await;
    assert_eq!(next(&mut told).await, closed(&first, 4401));
    assert_eq!(next(&mut told).await, closed(&later, 4401));
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn an_order_that_nobody_took_is_given_again() {
    let (issuer, with) = with_secret();
    let (chain, injector, mut told) = started(&format!("{with}\nleeway: 0s\nexpiry_code: 4000"), 1);
    let (tunnel, _outcome) = open(&chain, &injector, &issuer, json!(now() + 3)).await;
    assert_eq!(next(&mut told).await, closed(&tunnel, 4000));
}

#[tokio::test]
async fn tunnels_that_ended_are_forgotten_and_those_that_may_outlive_their_token_are_left_alone() {
    let (issuer, with) = with_secret();
    let (keeps, other, mut never) = started(&format!("{with}\nleeway: 0s\non_expiry: keep"), 0);
    let (chain, injector, mut told) = started(&format!("{with}\nleeway: 0s"), 0);
    let _kept = open(&keeps, &other, &issuer, json!(now() + 3)).await;
    let (ended, mut outcome) = open(&chain, &injector, &issuer, json!(now() + 3)).await;
    let closing = Closed::new("client_close", 1000, Duration::from_secs(1), [0; 2], [0; 2]);
    chain.on_close(&ended, &closing, &mut outcome.contexts).await;
    let (open, _outcome) = open(&chain, &injector, &issuer, json!(now() + 4)).await;
    // The first that is told is due after the one that is not.
    assert_eq!(next(&mut told).await, closed(&open, 4401));
    assert!(never.try_recv().is_err());
}

#[tokio::test]
async fn a_tunnel_that_moves_to_another_process_is_closed_there() {
    let made = || {
        let jwt = Arc::new(jwt(Keys::Fixed(KeySet::secret(&[b's'; 32], None).unwrap()), Some(Expiry::new(4401, 0))));
        let (injector, told) = injector(0);
        jwt.start(&injector);
        (jwt, injector, told)
    };
    let (before, injector, _told) = made();
    let mut context = Context { expires: Some(now() + 2), ..Context::default() };
    let tunnel = tunnel(&injector);
    before.on_open(&tunnel, &mut context).await.unwrap();
    let packed = before.pack(&context).unwrap();
    let (after, _, mut told) = made();
    let unpacked = after.unpack(&packed).unwrap();
    assert_eq!(next(&mut told).await, closed(&tunnel, 4401));
    assert_eq!(unpacked.expires, context.expires);
    assert!(after.unpack(b"rubbish").is_err());
}
