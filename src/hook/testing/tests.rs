//! The harness asks hooks as the gateway would.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;

use super::*;
use crate::hook::{
    Closed, Entry, Error, FailureKind, Item, KeyTag, Loss, Message, Mode, NoSettings, Phase, Pick, Reattach, Request,
    Response, Result, To, Tunnel, Upgrade, Verdict,
};

/// Adds its mark to whatever comes by.
struct Marking {
    mark: String,
    fail_in: Option<String>,
    opened: AtomicU32,
}

#[derive(Deserialize)]
struct MarkingSettings {
    mark: String,
    fail_in: Option<String>,
}

impl Marking {
    fn tried(&self, phase: &str) -> Result<()> {
        match self.fail_in.as_deref() {
            Some(failing) if failing == phase => Err(Error::new("as told")),
            _ => Ok(()),
        }
    }
}

impl Hook for Marking {
    type Settings = MarkingSettings;
    type Context = Vec<u8>;

    fn new(settings: MarkingSettings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if settings.mark.is_empty() {
            return Err(SetupError::at("mark", "a mark is to be seen"));
        }
        let opened = setup.previous().map_or(0, |previous| previous.opened.load(Ordering::Relaxed));
        Ok(Self { mark: settings.mark, fail_in: settings.fail_in, opened: opened.into() })
    }

    fn start(self: &Arc<Self>, injector: &Injector) {
        injector.post(To::All, Item::Message(Direction::ToClient, Message::text(&self.mark)));
    }

    fn messages(&self) -> Messages {
        Messages { to_backend: Mode::Sync, to_client: Mode::Async }
    }

    async fn on_request(&self, request: &mut Request<'_>, context: &mut Vec<u8>) -> Result<Next> {
        self.tried("request")?;
        context.push(b'r');
        if request.path() == "/private" {
            return Ok(Answer::new(403, "not for you").into());
        }
        if let Some(room) = request.query_value("room") {
            request.set_key(room);
            request.set_upstream("rooms");
        }
        request.append_header("x-mark", &self.mark)?;
        Ok(Next::Continue)
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, context: &mut Vec<u8>) -> Result<Next> {
        context.push(b'u');
        upgrade.limits.max_message = Some(10);
        Ok(Next::Continue)
    }

    async fn on_pick(&self, backend: &crate::hook::Backend<'_>, _: &mut Vec<u8>) -> Result<Pick> {
        Ok(if backend.tries == 0 { Pick::Veto } else { Pick::Accept })
    }

    async fn on_response(&self, response: &mut Response<'_>, _: &mut Vec<u8>) -> Result<()> {
        response.append_header("x-mark", &self.mark)
    }

    async fn on_open(&self, _: &Tunnel, context: &mut Vec<u8>) -> Result<()> {
        self.tried("open")?;
        context.push(b'o');
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut Vec<u8>) -> Result<Verdict> {
        let Some(text) = message.as_text() else { return Ok(Verdict::Drop) };
        match text {
            "panic" => panic!("as told"),
            "bye" => Ok(Verdict::close(4000, "bye")),
            _ => Ok(Verdict::Replace(Message::text(format!("{text}{}", self.mark)))),
        }
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut Vec<u8>) -> Result<Verdict> {
        match message.as_text() {
            Some("hang") => std::future::pending().await,
            text => Ok(Verdict::Replace(Message::text(format!("{}{}", text.unwrap_or_default(), self.mark)))),
        }
    }

    async fn on_close(&self, tunnel: &Tunnel, closed: &Closed, _: &mut Vec<u8>) {
        assert_ne!(self.fail_in.as_deref(), Some("close"), "as told");
        let told = Message::text(format!("{} {}", closed.code, closed.messages[0]));
        tunnel.send(Direction::ToClient, told);
    }

    fn on_log(&self, entry: &mut Entry<'_>, context: &mut Vec<u8>) {
        entry.add("phases", String::from_utf8_lossy(context));
    }

    fn pack(&self, context: &Vec<u8>) -> Option<Vec<u8>> {
        (self.mark != "heavy").then(|| context.clone())
    }

    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>> {
        Ok([packed, b"h"].concat())
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.opened.load(Ordering::Relaxed).to_be_bytes().into())
    }

    fn restore(&self, saved: &[u8]) -> Result<()> {
        self.opened.store(u32::from_be_bytes(saved.try_into()?), Ordering::Relaxed);
        Ok(())
    }
}

fn two() -> Harness {
    let two = Harness::builder().hook::<Marking>("marking", "mark: a").hook::<Marking>("marking", "mark: b");
    two.build().unwrap()
}

fn failing_in(phase: &str) -> Harness {
    Harness::new::<Marking>(&format!("{{ mark: a, fail_in: {phase} }}")).unwrap()
}

fn marks(headers: &http::HeaderMap) -> Vec<&str> {
    headers.get_all("x-mark").iter().map(|mark| mark.to_str().unwrap()).collect()
}

#[test]
fn settings_that_do_not_fit_are_told_as_check_tells_them() {
    let told = |with: &str| Harness::new::<Marking>(with).unwrap_err().to_string();
    assert!(told("mrak: a").contains("did you mean `mark`?"), "{}", told("mrak: a"));
    assert!(told("\nmark: ''").contains(":2:1: mark: a mark is to be seen"), "{}", told("\nmark: ''"));
    assert!(told("mark: [").starts_with("configuration:"), "{}", told("mark: ["));
    let both = Harness::builder().hook::<Marking>("one", "mark: ''").hook::<Marking>("two", "mark: {");
    assert_eq!(both.build().unwrap_err().iter().count(), 2);
}

#[tokio::test]
async fn a_request_shows_what_hooks_made_of_it() {
    let request = TestRequest::get("/chat?room=7").cookie("a", "1").host("chat.example.com").client([198, 51, 100, 1]);
    let mut exchange = two().request(request).await;
    assert!(exchange.continues(), "{:?}", exchange.outcome());
    assert_eq!((exchange.key(), exchange.upstream()), (Some(&b"7"[..]), "rooms"));
    assert_eq!((exchange.target(), exchange.header("cookie")), ("/chat?room=7", Some("a=1")));
    assert_eq!((marks(exchange.headers()), exchange.limits()), (vec!["a", "b"], None));
    assert_eq!(exchange.pick(([10, 0, 0, 1], 9001)).await, Ok(Pick::Veto));
    assert_eq!(exchange.pick(([10, 0, 0, 2], 9001)).await, Ok(Pick::Accept));
    let response = exchange.response(200, &[("x-mark", "backend")]).await.unwrap();
    assert_eq!(marks(response.headers()), ["backend", "b", "a"]);
    assert_eq!(exchange.log(200).unwrap(), [("phases", "r".to_owned()), ("phases", "r".to_owned())]);
    assert_eq!(exchange.open().await.err(), Some(Stopped::NoUpgrade));
}

#[tokio::test]
async fn an_answer_and_a_failure_keep_a_tunnel_from_opening() {
    let exchange = two().upgrade(TestRequest::get("/private")).await;
    let answer = Answer::new(403, "not for you");
    assert_eq!((exchange.answer(), exchange.limits()), (Some(&answer), None));
    assert_eq!(exchange.open().await.err(), Some(Stopped::Answered(answer)));
    for (phase, place) in [("request", Phase::Request), ("open", Phase::Open)] {
        let failure = Failure { hook: "hook".into(), phase: place, kind: FailureKind::Error("as told".into()) };
        assert_eq!(failing_in(phase).open().await.err(), Some(Stopped::Failed(failure)));
    }
}

#[tokio::test]
async fn messages_pass_the_hooks_in_the_order_of_their_direction() {
    let mut tunnel = two().open().await.unwrap();
    assert_eq!(tunnel.context::<Marking>(), b"ruo");
    let replaced = |text: &str| Ok(Verdict::Replace(Message::text(text)));
    assert_eq!(tunnel.message(Direction::ToBackend, Message::text("-")).await, replaced("-ab"));
    assert_eq!(tunnel.message(Direction::ToClient, Message::text("-")).await, replaced("-ba"));
    assert_eq!(tunnel.message(Direction::ToBackend, Message::binary("-")).await, Ok(Verdict::Drop));
    let bye = tunnel.message(Direction::ToBackend, Message::text("bye")).await;
    assert_eq!(bye, Ok(Verdict::close(4000, "bye")));
    assert_eq!(tunnel.message(Direction::ToBackend, Message::text("-")).await, Err(Stopped::Ended));
}

/// Tells the next backend where the one before stopped.
struct Bookmark;

impl Hook for Bookmark {
    type Settings = NoSettings;
    type Context = u32;

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    fn on_message(&self, _: &Tunnel, _: Direction, _: &Message, seen: &mut u32) -> Result<Verdict> {
        *seen += 1;
        Ok(Verdict::Pass)
    }

    async fn on_reattach(&self, _: &Tunnel, reattach: &mut Reattach, seen: &mut u32) -> Result<()> {
        match (reattach.times(), reattach.loss()) {
            (1, Loss::Leaving) => {
                reattach.set_header("x-seen", "0")?;
                reattach.set_header("X-Seen", (u64::from(*seen) - reattach.held()).to_string())?;
                reattach.send(Direction::ToClient, Message::text("one moment"))
            }
            (2, _) => {
                reattach.refuse("twice is enough");
                Ok(())
            }
            _ => reattach.set_header("Sec-WebSocket-Protocol", "other"),
        }
    }
}

#[tokio::test]
async fn a_change_of_the_backend_shows_what_hooks_made_of_it() {
    let open = async || Harness::new::<Bookmark>("").unwrap().open().await.unwrap();
    let mut tunnel = open().await;
    for text in ["one", "two", "three"] {
        assert_eq!(tunnel.message(Direction::ToBackend, Message::text(text)).await, Ok(Verdict::Pass));
    }
    let changed = tunnel.reattach(Reattach::new(1, Loss::Leaving, 1)).await.unwrap();
    let headers: Vec<_> = changed.headers().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("x-seen", "2")]);
    assert_eq!(changed.messages(), [(Direction::ToClient, Message::text("one moment"))]);
    let refused = tunnel.reattach(Reattach::new(2, Loss::Crash, 0)).await.unwrap();
    assert_eq!(refused.refusal(), Some("twice is enough"));
    assert_eq!(tunnel.message(Direction::ToBackend, Message::text("-")).await, Err(Stopped::Ended));

    let mut wrong = open().await;
    let failed = wrong.reattach(Reattach::new(3, Loss::Crash, 0)).await.unwrap_err();
    assert!(failed.to_string().contains("sec-websocket-protocol is not a hook's to change"), "{failed}");
    assert_eq!(wrong.reattach(Reattach::new(1, Loss::Leaving, 0)).await.unwrap_err(), Stopped::Ended);
}

#[tokio::test]
async fn a_direction_that_no_hook_sees_is_told_apart_from_one_that_passes() {
    struct Blind;
    impl Hook for Blind {
        type Settings = NoSettings;
        type Context = ();

        fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
            Ok(Self)
        }
    }
    let mut tunnel = Harness::new::<Blind>("").unwrap().open().await.unwrap();
    let unseen = tunnel.message(Direction::ToClient, Message::text("-")).await.unwrap_err();
    assert_eq!(unseen.to_string(), "no hook sees messages to the client: `Hook::messages` does not ask for them");
}

#[tokio::test(start_paused = true)]
async fn panics_and_time_limits_are_failures_that_end_the_tunnel() {
    for (direction, text, kind) in [
        (Direction::ToBackend, "panic", FailureKind::Panic("as told".into())),
        (Direction::ToClient, "hang", FailureKind::Timeout(Duration::from_secs(5))),
    ] {
        let mut tunnel = Harness::new::<Marking>("mark: a").unwrap().open().await.unwrap();
        let failure = Failure { hook: "hook".into(), phase: Phase::Message, kind };
        assert_eq!(tunnel.message(direction, Message::text(text)).await, Err(Stopped::Failed(failure)));
        assert_eq!(tunnel.message(direction, Message::text("-")).await, Err(Stopped::Ended));
    }
}

#[tokio::test]
async fn what_is_sent_is_kept_and_counted_against_the_open_tunnels() {
    let harness = Harness::builder().hook::<Marking>("marking", "mark: a").route("* /ws").build().unwrap();
    harness.start();
    let one = harness.upgrade(TestRequest::get("/?room=7")).await.open().await.unwrap();
    let mut other = harness.open().await.unwrap();
    let message = Item::Message(Direction::ToClient, Message::text("hi"));
    for (to, tunnels) in [
        (To::All, 2),
        (To::Route("* /ws".into()), 2),
        (To::Route("* /".into()), 0),
        (To::Key(KeyTag::of(b"7")), 1),
        (To::Tunnel(one.tunnel().id), 1),
    ] {
        assert_eq!(harness.injector().send(to, message.clone()).await, tunnels);
    }
    drop(one);
    other.message(Direction::ToBackend, Message::text("-")).await.unwrap();
    other.close(1000).await.unwrap();
    let sent: Vec<_> = harness.sent().into_iter().map(|sent| sent.tunnels).collect();
    // The first by `start`, before any tunnel was open; the last by `on_close`, when none was any more.
    assert_eq!(sent, [0, 2, 2, 0, 1, 1, 0]);
    assert!(harness.sent().is_empty());
}

#[tokio::test]
async fn a_hook_that_fails_at_the_end_is_told_of() {
    let mut tunnel = failing_in("close").open().await.unwrap();
    assert_eq!(tunnel.close(1000).await.unwrap_err().phase, Phase::Close);
    assert_eq!(tunnel.log().unwrap(), [("phases", "ruo".to_owned())]);
}

#[tokio::test]
async fn a_reload_and_a_handover_carry_state_on() {
    let before = two();
    let tunnel = before.open().await.unwrap();
    let reloaded = Harness::builder().hook::<Marking>("marking", "mark: c").replacing(&before).build().unwrap();
    assert_eq!(reloaded.hook::<Marking>().opened.load(Ordering::Relaxed), 1);

    let successor = two();
    before.hand_over(&successor);
    assert_eq!(successor.hook::<Marking>().opened.load(Ordering::Relaxed), 1);
    let id = tunnel.tunnel().id;
    let adopted = tunnel.hand_over(&successor).unwrap();
    assert_eq!((adopted.tunnel().id, adopted.context::<Marking>()), (id, &b"ruoh".to_vec()));
    assert_eq!(successor.injector().send(To::Tunnel(id), Item::Close { code: 1000, reason: String::new() }).await, 1);

    let heavy = Harness::new::<Marking>("mark: heavy").unwrap();
    assert_eq!(heavy.open().await.unwrap().hand_over(&heavy).err(), Some(Stopped::Unpacked));
}
