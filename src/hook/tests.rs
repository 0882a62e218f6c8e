//! The guard around hooks, the order they are called in, and what they find of those before them.

use std::time::Duration;

use pingora::http::RequestHeader;
use serde::Deserialize;

use super::*;
use crate::config::{HookEntry, KnownHooks, Settings};
use crate::metrics::Metrics;

/// Does what its settings say.
struct Doing {
    settings: DoingSettings,
    made: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct DoingSettings {
    #[serde(default)]
    note: String,
    #[serde(default)]
    on_request: What,
    #[serde(default)]
    refuse_settings: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    #[default]
    Nothing,
    Fail,
    Panic,
    Hang,
    Answer,
}

impl Hook for Doing {
    type Settings = DoingSettings;
    type Context = u32;

    fn new(settings: DoingSettings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if settings.refuse_settings {
            return Err(SetupError::at("refuse_settings", "as you wish"));
        }
        Ok(Self { settings, made: setup.previous().map_or(1, |previous| previous.made + 1) })
    }

    async fn on_request(&self, request: &mut Request<'_>, context: &mut u32) -> Result<Next> {
        *context += 1;
        match self.settings.on_request {
            What::Nothing => request.append_header("x-note", &self.settings.note)?,
            What::Fail => return Err(Error::new("as told")),
            What::Panic => panic!("as told"),
            What::Hang => std::future::pending().await,
            What::Answer => return Ok(Answer::new(403, "as told").into()),
        }
        Ok(Next::Continue)
    }

    async fn on_response(&self, response: &mut Response<'_>, context: &mut u32) -> Result<()> {
        response.append_header("x-note", format!("{}{}{context}", self.settings.note, self.made))
    }

    fn on_log(&self, entry: &mut Entry<'_>, context: &mut u32) {
        entry.add("seen", context.to_string());
    }
}

fn registry() -> HookRegistry {
    let mut registry = HookRegistry::empty();
    registry.add::<Doing>("doing");
    registry
}

fn entry(with: &str) -> HookEntry {
    HookEntry { name: "doing".into(), settings: Settings::parse(with).unwrap(), timeout: Duration::from_millis(50) }
}

fn chain(entries: &[&str], previous: Option<&Chain>, metrics: &Metrics) -> Chain {
    let entries: Vec<_> = entries.iter().map(|with| entry(with)).collect();
    Chain::build(&entries, "* /", &registry(), previous, |name| metrics.hook(name)).unwrap()
}

fn header() -> RequestHeader {
    RequestHeader::build("GET", b"/chat?room=a%20b", None).unwrap()
}

fn facts() -> Facts<'static> {
    Facts {
        id: "id",
        client: [192, 0, 2, 1].into(),
        peer: ([192, 0, 2, 1], 1).into(),
        host: "example.com",
        route: "* /",
        upstream: "chat",
        upgrade: false,
        secure: false,
        certificate: None,
        injector: Injector::to_nobody(),
    }
}

async fn ask(chain: &Chain) -> (Result<Next, Failure>, RequestHeader, Contexts) {
    let mut header = header();
    let mut contexts = chain.contexts().unwrap();
    let outcome = chain.on_request(&mut Request::bare(&mut header, facts()), &mut contexts).await;
    (outcome, header, contexts)
}

fn notes(headers: &http::HeaderMap) -> Vec<&str> {
    headers.get_all("x-note").iter().map(|note| note.to_str().unwrap()).collect()
}

#[tokio::test]
async fn requests_go_down_the_chain_and_responses_up_again() {
    let metrics = Metrics::new();
    let chain = chain(&["note: a", "note: b"], None, &metrics);
    let (outcome, header, mut contexts) = ask(&chain).await;
    assert_eq!((outcome, notes(&header.headers)), (Ok(Next::Continue), vec!["a", "b"]));
    let mut response = pingora::http::ResponseHeader::build(200, None).unwrap();
    chain.on_response(&mut Response::new(&mut response), &mut contexts).await.unwrap();
    assert_eq!(notes(&response.headers), ["b11", "a11"]);
}

#[tokio::test]
async fn an_answer_ends_the_walk_and_is_counted() {
    let metrics = Metrics::new();
    let chain = chain(&["on_request: answer", "note: never"], None, &metrics);
    let (outcome, header, _) = ask(&chain).await;
    assert_eq!(outcome, Ok(Answer::new(403, "as told").into()));
    assert!(notes(&header.headers).is_empty());
    let text = String::from_utf8(metrics.render(std::iter::empty())).unwrap();
    let counted = r#"longhaul_hook_verdicts_total{hook="doing",phase="request",verdict="answer"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn an_error_a_panic_and_a_call_that_hangs_are_failures_that_name_the_hook() {
    for (what, cause, kind) in [
        ("fail", "error", FailureKind::Error("as told".into())),
        ("panic", "panic", FailureKind::Panic("as told".into())),
        ("hang", "timeout", FailureKind::Timeout(Duration::from_millis(50))),
    ] {
        let metrics = Metrics::new();
        let chain = chain(&[&format!("on_request: {what}")], None, &metrics);
        let failure = ask(&chain).await.0.unwrap_err();
        assert_eq!(failure, Failure { hook: "doing".into(), phase: Phase::Request, kind });
        let text = String::from_utf8(metrics.render(std::iter::empty())).unwrap();
        let counted = format!(r#"longhaul_hook_failures_total{{cause="{cause}",hook="doing",phase="request"}} 1"#);
        assert!(text.contains(&counted), "{text}");
    }
}

#[tokio::test]
async fn each_hook_finds_its_predecessor_by_name_and_place() {
    let metrics = Metrics::new();
    let before = chain(&["note: a", "note: b"], None, &metrics);
    let between = chain(&["note: a"], Some(&before), &metrics);
    let after = chain(&["note: a", "note: b"], Some(&between), &metrics);
    let mut response = pingora::http::ResponseHeader::build(200, None).unwrap();
    let mut contexts = after.contexts().unwrap();
    after.on_response(&mut Response::new(&mut response), &mut contexts).await.unwrap();
    assert_eq!(notes(&response.headers), ["b10", "a30"]);
}

#[test]
fn settings_are_checked_by_the_type_and_by_the_hook() {
    let check = |with: &str| {
        let problems = registry().check("doing", &Settings::parse(with).unwrap()).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(check("noet: x").starts_with("1:1: noet: unknown key"), "{}", check("noet: x"));
    assert!(check("on_request: sleep").contains("on_request"), "{}", check("on_request: sleep"));
    assert_eq!(check("\nrefuse_settings: true"), "2:18: refuse_settings: as you wish");
}

#[test]
fn log_fields_of_every_hook_are_kept_up_to_a_bound() {
    let metrics = Metrics::new();
    let with = ["note: a"; 40];
    let chain = chain(&with, None, &metrics);
    let mut entry = Entry::new("request", "id", "* /", 200, Duration::ZERO);
    chain.on_log(&mut entry, &mut chain.contexts().unwrap());
    assert_eq!(entry.added().len(), 32);
}

#[test]
fn a_context_without_a_size_can_be_handed_over_and_another_cannot() {
    struct Plain;
    impl Hook for Plain {
        type Settings = NoSettings;
        type Context = ();

        fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
            Ok(Self)
        }
    }
    assert_eq!(Plain.pack(&()), Some(Vec::new()));
    assert_eq!(Doing { settings: DoingSettings::default(), made: 1 }.pack(&0), None);
}

#[test]
fn a_header_that_a_hook_sets_or_removes_has_no_double_that_a_backend_takes_for_it() {
    let mut header = header();
    for name in ["X_User", "x-user", "x_roles", "x-userx", "content_length"] {
        header.append_header(name, "admin").unwrap();
    }
    let mut request = Request::bare(&mut header, facts());
    request.set_header("X-User", "mallory").unwrap();
    request.remove_header("X-Roles");
    request.remove_header("Content-Length");
    let fields = ["x_user", "x-user", "x_roles", "x-userx", "content_length"].map(|name| request.header(name));
    assert_eq!(fields, [None, Some("mallory"), None, Some("admin"), Some("admin")]);
}

#[test]
fn a_request_shows_its_parts() {
    let mut header = header();
    header.append_header("cookie", "a=1; session=xyz").unwrap();
    let mut request = Request::bare(&mut header, facts());
    assert_eq!((request.path(), request.query_value("room").as_deref()), ("/chat", Some("a b")));
    assert_eq!((request.cookie("session"), request.cookie("none")), (Some("xyz"), None));
    request.set_target("/other?x=1").unwrap();
    assert_eq!((request.path(), request.uri().query()), ("/other", Some("x=1")));
    assert!(request.set_target("other").is_err());
    assert!(request.set_header("bad name", "x").is_err());
    assert!(request.set_header("x", "bad\r\nvalue").is_err());
    request.set_upstream("else");
    assert_eq!(request.upstream(), "else");
}
