//! Members that are told by commands: each command, what outlives the process, and what is refused.

use std::fs;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::lab::{Load, Tunnel, backend, config, get, in_folder, leads_to, longhaul, of_source};
use crate::support::{Gateway, within};

#[tokio::test]
async fn members_are_set_added_removed_and_leave_by_commands_while_clients_go_on() {
    let (one, two, three) = (backend().await, backend().await, backend().await);
    let gateway = Gateway::start(&config("push", "    drain_window: 0s\n")).await;
    assert_eq!(get(gateway.address(), "/").await.0, 503);
    let tell = async |arguments: &[&str]| {
        let (code, said) = longhaul(&gateway, &[&["members", "a"], arguments].concat()).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    };
    let named = |name: &str, address| format!("{name}={address}");
    let said = tell(&["set", &named("x", one.address), &format!("{},2", two.address)]).await;
    assert!(said.contains("+ backend x (") && said.contains(", weight 2"), "{said}");
    leads_to(&gateway, &[one.address, two.address]).await;
    let load = Load::on(gateway.address());
    let mut tunnels = Vec::new();
    for key in 0..8 {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    tell(&["add", &named("x", three.address)]).await;
    leads_to(&gateway, &[three.address, two.address]).await;
    for tunnel in tunnels.iter_mut().filter(|tunnel| tunnel.backend == one.address) {
        assert_eq!(tunnel.closed().await, 1012);
    }
    tell(&["leave", "x"]).await;
    leads_to(&gateway, &[two.address]).await;
    tell(&["add", &named("x", one.address)]).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    tell(&["remove", &two.address.to_string()]).await;
    leads_to(&gateway, &[one.address]).await;
    assert!(tell(&["add", &named("x", one.address)]).await.contains("nothing to change"));
    load.goes_on(20).await;
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.metric(&of_source("members", "push")).await, 1.0);
}

#[tokio::test]
async fn told_members_outlive_a_reload_an_upgrade_and_a_restart() {
    let one = backend().await;
    let gateway = Gateway::start(&config("push", "")).await;
    let list = in_folder(&gateway, "list.yaml");
    fs::write(&list, format!("- {{ name: x, address: {} }}\n", one.address)).unwrap();
    let set = ["members", "a", "set", "--file", list.to_str().unwrap()];
    assert_eq!(longhaul(&gateway, &set).await.0, Some(0));
    assert_eq!(longhaul(&gateway, &["reload"]).await.0, Some(0));
    leads_to(&gateway, &[one.address]).await;

    fs::remove_dir_all(in_folder(&gateway, "state")).unwrap();
    let successor = gateway.successor().await;
    successor.log.find(&["took over 0 tunnels"]).await;
    leads_to(&successor, &[one.address]).await;
    // The successor has kept nothing yet: it is told the same once more, and something else.
    let add = ["members", "a", "add", "y=127.0.0.1:9"];
    successor.log.find(&["control socket at"]).await;
    assert_eq!(longhaul(&successor, &add).await.0, Some(0));
    let dir = successor.dir.clone();
    drop((gateway, successor));
    let again = Gateway::begin(dir, &[], &[]).listening().await;
    assert!(longhaul(&again, &["status"]).await.1.contains("2 members by push"));
}

#[tokio::test]
async fn a_controller_that_dies_in_a_word_or_is_away_costs_no_request_and_no_tunnel() {
    let (one, two) = (backend().await, backend().await);
    let gateway = Gateway::start(&config("push", "")).await;
    let set = ["members", "a", "set", &format!("x={}", one.address)];
    assert_eq!(longhaul(&gateway, &set).await.0, Some(0));
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut tunnel = Tunnel::open(gateway.address(), "k").await;
    let socket = in_folder(&gateway, "control.sock");
    let whole = "{\"version\":1,\"command\":\"members\",\"upstream\":\"a\",\"action\":\"set\",\"members\":[]}\n";
    for said in [1, whole.len() / 2, whole.len() - 2] {
        // The connection ends in the middle of an order to have no members.
        let mut controller = UnixStream::connect(&socket).await.unwrap();
        controller.write_all(&whole.as_bytes()[..said]).await.unwrap();
        controller.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The other end may be gone at any time.
        let _ = within("the end of the connection", controller.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("members changed"), "{answer}");
    }
    leads_to(&gateway, &[one.address]).await;
    // Nobody says anything any more, through a reload and in the process after this one.
    assert_eq!(longhaul(&gateway, &["reload"]).await.0, Some(0));
    let successor = gateway.successor().await;
    successor.log.find(&["took over 1 tunnel "]).await;
    load.goes_on(50).await;
    leads_to(&successor, &[one.address]).await;
    successor.log.find(&["control socket at"]).await;
    let add = ["members", "a", "add", &format!("y={}", two.address)];
    assert_eq!(longhaul(&successor, &add).await.0, Some(0));
    leads_to(&successor, &[one.address, two.address]).await;
    tunnel.echo("still here").await;
    load.goes_on(20).await;
    assert_eq!(load.failures().await, [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_and_changes_nothing() {
    let one = backend().await;
    let gateway = Gateway::start(&config("push", "  b: { backends: [127.0.0.1:9] }\n")).await;
    let member = format!("x={}", one.address);
    assert_eq!(longhaul(&gateway, &["members", "a", "set", &member]).await.0, Some(0));
    for (arguments, part) in [
        (vec!["c", "remove", "x"], "there is no upstream `c`"),
        (vec!["b", "remove", "x"], "the members of `b` are not told by commands"),
        (vec!["a", "remove", "y"], "there is no member `y`"),
        (vec!["a", "set", "x=127.0.0.1:1", "x=127.0.0.1:2"], "`x` is the name of two backends"),
        (vec!["a", "add", "y=127.0.0.1:0"], "127.0.0.1:0: port 0 cannot be connected to"),
        (vec!["a", "add", "y=0.0.0.0:9"], "`0.0.0.0:9` is for listening, not for connecting"),
        (vec!["a", "add", "c=127.0.0.1:1", "c=127.0.0.1:2"], "`c` is the name of two backends"),
        (vec!["a", "add", &format!("y={}", one.address)], "is a backend twice"),
        (vec!["a", "set", "y=127.0.0.1:1,0"], "every weight is 0: no backend would get anything"),
        (vec!["a", "add", "y z=127.0.0.1:1"], "`y z` has a space in it"),
        (vec!["a", "add", "y\u{1b}[2J=127.0.0.1:1"], "has `\\u{1b}` in it"),
        (vec!["a", "add", "ü=127.0.0.1:1"], "`ü` has `ü` in it"),
        (vec!["a", "add", "../x=127.0.0.1:1"], "has `/` in it"),
        (vec!["a", "add", &format!("{}=127.0.0.1:1", "x".repeat(200))], "the name is longer than 128 bytes"),
        (vec!["a", "add", "y=localhost:1"], "write [NAME=]ADDRESS[,WEIGHT]"),
        (vec!["a", "set"], "required arguments were not provided"),
    ] {
        let (code, said) = longhaul(&gateway, &[&["members"], arguments.as_slice()].concat()).await;
        assert!(code == Some(2) && said.contains(part), "{arguments:?}: {said}");
    }
    leads_to(&gateway, &[one.address]).await;
    let kept = fs::read_to_string(in_folder(&gateway, "state").join("members-a.json")).unwrap();
    assert_eq!(kept.matches("\"name\"").count(), 1, "{kept}");
    // A pipe to standard input, as a controller has it.
    let command = format!(
        "echo '[]' | {} members a set --file - --socket {}",
        env!("CARGO_BIN_EXE_longhaul"),
        in_folder(&gateway, "control.sock").display()
    );
    assert!(Command::new("sh").arg("-c").arg(command).status().unwrap().success());
    assert_eq!(get(gateway.address(), "/").await.0, 503);
}

#[tokio::test]
async fn members_are_told_by_the_admin_api_as_well() {
    let one = backend().await;
    let yaml = config("push", "").replace("routes:\n", "admin: { address: 127.0.0.1:0 }\nroutes:\n");
    let gateway = Gateway::start(&yaml).await;
    let url = format!("http://{}/api/v1/members", gateway.admin.unwrap());
    let tell = async |action: &str, member: serde_json::Value| {
        let body = serde_json::json!({ "upstream": "a", "action": action, "members": [member] });
        let request = reqwest::Client::new().post(&url).header("x-longhaul-admin", "1").json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let member = serde_json::json!({ "name": "x", "address": one.address });
    let (code, said) = tell("add", member.clone()).await;
    assert!(code == 200 && said.contains("+ backend x ("), "{said}");
    leads_to(&gateway, &[one.address]).await;
    assert_eq!(tell("leave", serde_json::json!({ "name": "y" })).await.0, 422);
    assert_eq!(tell("add", serde_json::json!({ "name": "y", "adress": one.address })).await.0, 422);
    leads_to(&gateway, &[one.address]).await;
    assert_eq!(tell("leave", serde_json::json!({ "name": "x" })).await.0, 200);
    assert_eq!(get(gateway.address(), "/").await.0, 503);
}
