//! The drain of one backend: it gets nothing new, its tunnels are closed, and `--undo` takes all of it back.

use crate::lab::{closed, config, echoes, longhaul, open};
use crate::support::{Echo, Gateway};

#[tokio::test]
async fn its_tunnels_are_closed_and_its_keys_go_elsewhere_until_it_is_undone() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = Gateway::start(&config("{}", &[one.address(), other.address()])).await;
    let (mut socket, home) = open(&gateway, "room").await;
    let backend = format!("u/{home}");
    let draining = format!("longhaul_backend_draining{{backend=\"{home}\",upstream=\"u\"}}");
    assert_eq!(gateway.metric(&draining).await, 0.0);

    let client = tokio::spawn(async move { closed(&mut socket).await.0 });
    let said = longhaul(&gateway, &["drain", "backend", &backend, "--over", "0s"]).await;
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    assert!(said.out.ends_with(&format!("{backend} has nothing left\n")), "{said:?}");
    assert_eq!(client.await.unwrap(), 1012);
    gateway.access.find(&["tunnel_end", "reason=backend_drained", "close_code=1012", "by=gateway"]).await;

    assert_eq!(gateway.metric(&draining).await, 1.0);
    let status = longhaul(&gateway, &["status"]).await.out;
    let line = status.lines().find(|line| line.contains(&home.to_string())).unwrap();
    assert!(line.ends_with("weight 1, 0 tunnels, load 0, draining"), "{status}");
    let (mut moved, elsewhere) = open(&gateway, "room").await;
    assert_ne!(elsewhere, home);

    let said = longhaul(&gateway, &["drain", "backend", &backend, "--undo"]).await;
    assert_eq!((said.code, said.out), (Some(0), format!("{backend} takes its share again\n")));
    assert_eq!(open(&gateway, "room").await.1, home);
    assert!(echoes(&mut moved).await);
    assert_eq!(gateway.metric(&draining).await, 0.0);
    let said = longhaul(&gateway, &["drain", "backend", &backend, "--undo"]).await;
    assert_eq!((said.code, said.out), (Some(0), format!("{backend} was not drained\n")));
}

#[tokio::test]
async fn only_its_own_tunnels_are_closed() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = Gateway::start(&config("{}", &[one.address(), other.address()])).await;
    let (mut drained, mut kept) = (Vec::new(), Vec::new());
    for key in 0..40 {
        let (socket, at) = open(&gateway, &key.to_string()).await;
        if at == one.address() { drained.push(socket) } else { kept.push(socket) }
    }
    assert!(!drained.is_empty() && !kept.is_empty());
    let clients: Vec<_> =
        drained.into_iter().map(|mut socket| tokio::spawn(async move { closed(&mut socket).await.0 })).collect();
    let said = longhaul(&gateway, &["drain", "backend", &format!("u/{}", one.address()), "--over", "100ms"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for client in clients {
        assert_eq!(client.await.unwrap(), 1012);
    }
    for socket in &mut kept {
        assert!(echoes(socket).await);
    }
}

#[tokio::test]
async fn who_watches_a_drain_is_told_that_it_was_called_off() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    let (mut socket, _) = open(&gateway, "a").await;
    let backend = format!("u/{}", echo.address());
    let begun = longhaul(&gateway, &["drain", "backend", &backend, "--over", "1d", "--no-wait"]).await;
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let arguments = ["drain", "backend", &backend, "--over", "1d"];
    let watch = longhaul(&gateway, &arguments);
    let undo = async {
        gateway.log.find_nth(&["is drained: nothing new"], 1).await;
        longhaul(&gateway, &["drain", "backend", &backend, "--undo"]).await
    };
    let (watched, undone) = tokio::join!(watch, undo);
    assert_eq!(undone.code, Some(0), "{undone:?}");
    assert_eq!((watched.code, watched.err), (Some(1), format!("longhaul: the drain of {backend} was called off\n")));
    assert!(echoes(&mut socket).await);
}

#[tokio::test]
async fn with_every_backend_drained_nobody_is_left_to_ask() {
    let (one, other) = (Echo::start().await, Echo::start().await);
    let gateway = Gateway::start(&config("{}", &[one.address(), other.address()])).await;
    for address in [one.address(), other.address()] {
        let said = longhaul(&gateway, &["drain", "backend", &format!("u/{address}")]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    for query in ["", "?key=room"] {
        let answer = reqwest::get(format!("http://{}/{query}", gateway.address())).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
}

#[tokio::test]
async fn what_there_is_not_cannot_be_drained() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config("{}", &[echo.address()])).await;
    for (backend, part) in [
        ("chat/127.0.0.1:9", "there is no upstream `chat`"),
        ("u/127.0.0.1:9", "upstream `u` has no backend 127.0.0.1:9"),
        ("u", "write UPSTREAM/BACKEND"),
        ("u/", "write UPSTREAM/BACKEND"),
        ("u/localhost:9", "upstream `u` has no backend localhost:9"),
    ] {
        let said = longhaul(&gateway, &["drain", "backend", backend]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
    }
}
