//! The hook, asked by the harness, and the gateway it is built into.

use std::time::Duration;

use downstream::{Lobby, gateway, table};
use longhaul::hook::testing::{Harness, Stopped, TestRequest};
use longhaul::hook::{Direction, Item, Message, Pick, Verdict};
use longhaul::tokio;

const SETTINGS: &str = "{ allow: 192.0.2.0/24, visit: 5m, message: 4KiB, ads: hide }";

fn lobby() -> Harness {
    Harness::new::<Lobby>(SETTINGS).unwrap()
}

#[tokio::test(crate = "longhaul::tokio")]
async fn a_request_goes_through_every_phase() {
    let harness = lobby();
    let mut exchange = harness.request(TestRequest::get("/x?table=7")).await;
    assert!(exchange.continues());
    assert_eq!((exchange.key(), exchange.target()), (Some(&[0, 0, 0, 7][..]), "/lobby"));
    assert_eq!((exchange.header("x-asked"), exchange.upstream()), (Some("GET /x"), "upstream"));
    assert_eq!(exchange.pick(([127, 0, 0, 1], 9001)).await, Ok(Pick::Veto));
    assert_eq!(exchange.pick(([127, 0, 0, 1], 9001)).await, Ok(Pick::Accept));
    let response = exchange.response(200, &[("server", "x")]).await.unwrap();
    assert_eq!((response.headers().len(), &response.headers()["x-house"]), (1, &"lobby".parse().unwrap()));
    assert!(exchange.response(204, &[]).await.unwrap_err().to_string().contains("the kitchen is closed"));
    assert_eq!(exchange.log(200).unwrap(), [("said", "0".to_owned())]);

    assert_eq!(harness.request(TestRequest::get("/")).await.upstream(), "bar");
    let stranger = harness.request(TestRequest::get("/").client([203, 0, 113, 1])).await;
    assert_eq!(stranger.answer().unwrap().status(), 403);
    assert!(harness.request(TestRequest::get("/?table=x")).await.failure().is_some());
    assert!(matches!(harness.open().await, Err(Stopped::Answered(answer)) if answer.status() == 302));
}

#[tokio::test(crate = "longhaul::tokio")]
async fn a_tunnel_goes_through_every_phase() {
    use Direction::{ToBackend, ToClient};
    let harness = lobby();
    harness.start();
    let exchange = harness.upgrade(TestRequest::get("/?table=7")).await;
    assert_eq!(exchange.limits().unwrap().max_age, Some(Duration::from_secs(300)));
    let mut tunnel = exchange.open().await.unwrap();
    for (direction, text, verdict) in [
        (ToBackend, "hello", Verdict::Pass),
        (ToBackend, "HELLO", Verdict::Replace(Message::text("hello"))),
        (ToBackend, "psst", Verdict::Drop),
        (ToBackend, "time?", Verdict::Reply(Message::text("late"))),
        (ToClient, "ad: buy", Verdict::Drop),
        (ToClient, "news", Verdict::Pass),
    ] {
        assert_eq!(tunnel.message(direction, Message::text(text)).await, Ok(verdict));
    }
    let note = Item::Message(ToClient, Message::text("last orders"));
    assert_eq!(harness.injector().send(table(7), note).await, 1);
    assert_eq!(tunnel.message(ToBackend, Message::binary("x")).await, Ok(Verdict::close(1003, "no binaries")));
    tunnel.close(1000).await.unwrap();
    assert_eq!(tunnel.log().unwrap(), [("said", "5".to_owned())]);
    assert_eq!(harness.sent().len(), 4);
}

#[tokio::test(crate = "longhaul::tokio")]
async fn state_goes_over_reloads_and_handovers() {
    let before = lobby();
    let mut tunnel = before.upgrade(TestRequest::get("/?table=7")).await.open().await.unwrap();
    tunnel.message(Direction::ToBackend, Message::text("hello")).await.unwrap();
    let reloaded = Harness::builder().hook::<Lobby>("hook", SETTINGS).replacing(&before).build().unwrap();
    assert_eq!(reloaded.hook::<Lobby>().visits(), 1);
    let successor = lobby();
    reloaded.hand_over(&successor);
    assert_eq!(successor.hook::<Lobby>().visits(), 1);
    assert_eq!(tunnel.hand_over(&successor).unwrap().context::<Lobby>().said, 1);
}

#[test]
fn the_command_line_knows_the_hook_and_its_settings() {
    let problems = Harness::new::<Lobby>("{ allow: 192.0.2.0/24, visit: 0s }").unwrap_err();
    assert_eq!(problems.iter().next().unwrap().message, "hook has no time for anybody");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("longhaul.yaml");
    let config = format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ u: {{ backends: [127.0.0.1:9001] }} }}\n\
         routes: [{{ upstream: u, hooks: [{{ hook: counted_lobby, with: {SETTINGS} }}] }}]\n"
    );
    std::fs::write(&file, config).unwrap();
    let check = ["downstream", "check", "-c", file.to_str().unwrap()];
    let exit = gateway().run_from(check);
    assert_eq!(format!("{exit:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}
