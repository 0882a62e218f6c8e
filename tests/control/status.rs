//! The answer to `status`, compared with the facts.

use tokio::io::AsyncReadExt;

use crate::lab::{command, config, control_socket, longhaul, open};
use crate::support::{Backend, Echo, Gateway};

#[tokio::test]
async fn the_status_agrees_with_the_facts() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = Gateway::start(&config("{}", &[one.address(), other.address()])).await;
    let mut tunnels = Vec::new();
    for key in 0..10 {
        tunnels.push(open(&gateway, &key.to_string()).await);
    }
    let to = |address| tunnels.iter().filter(|(_, at)| *at == address).count();
    let status = longhaul(&gateway, &["status", "--json"]).await.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], gateway.pid());
    assert_eq!(status["phase"], "serving");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["listeners"][0], gateway.address().to_string());
    assert_eq!(status["metrics"], gateway.metrics.unwrap().to_string());
    assert_eq!((&status["tunnels"], &status["requests"]), (&10.into(), &0.into()));
    let young = status["ages"][0].clone();
    assert_eq!((&young["under_seconds"], &young["tunnels"]), (&60.into(), &10.into()));
    assert!(status["last_reload"].is_null() && status["last_upgrade"].is_null());
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], "u");
    for (index, echo) in [&one, &other].into_iter().enumerate() {
        let backend = &upstream["backends"][index];
        assert_eq!(backend["address"], echo.address().to_string());
        assert_eq!((&backend["tunnels"], &backend["load"]), (&to(echo.address()).into(), &to(echo.address()).into()));
        assert_eq!(
            (&backend["up"], &backend["checked"], &backend["draining"]),
            (&true.into(), &false.into(), &false.into())
        );
    }

    let text = longhaul(&gateway, &["status"]).await;
    assert_eq!(text.code, Some(0));
    assert!(text.out.contains("\ntunnels      10 open, 0 away from home\nby age       under 1m: 10\n"), "{text:?}");
    assert!(text.out.contains(&format!("\nlisteners    {}\n", gateway.address())), "{text:?}");
}

#[tokio::test]
async fn a_backend_that_is_down_and_a_request_under_way_are_shown() {
    let silent = Backend::start(|mut stream| async move {
        let mut request = [0; 4096];
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let yaml = config("{}", &[silent.address, Backend::refusing()]).replace("health: off", "health: { check: tcp }");
    let gateway = Gateway::start(&yaml).await;
    let request = tokio::spawn(reqwest::get(format!("http://{}/", gateway.address())));
    gateway
        .metric_becomes(&format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", silent.address), 1.0)
        .await;
    let status = longhaul(&gateway, &["status", "--json"]).await.json();
    assert_eq!((&status["requests"], &status["tunnels"]), (&1.into(), &0.into()));
    let backends = &status["upstreams"][0]["backends"];
    assert_eq!((&backends[0]["up"], &backends[1]["up"]), (&true.into(), &false.into()));
    request.abort();
}

#[tokio::test]
async fn the_gateway_is_found_by_its_configuration_file() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let file = gateway.dir.path().join("longhaul.yaml");
    let said = command(&["status", "-c", file.to_str().unwrap(), "--json"], &[]).await;
    assert_eq!(said.json()["pid"], gateway.pid(), "{said:?}");
}

#[tokio::test]
async fn without_a_gateway_the_commands_say_so() {
    let echo = Echo::start().await;
    let mut gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
    assert!(!control_socket(&gateway).exists());
    for arguments in [&["status"][..], &["reload"], &["drain"]] {
        let said = longhaul(&gateway, arguments).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("no gateway answers at"), "{said:?}");
    }
}
