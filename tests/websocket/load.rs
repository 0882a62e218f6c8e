//! Many handshakes and many tunnels: none is lost, and each is at the backend of its key.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use tokio::net::TcpSocket;

use crate::support::{Backend, Gateway, within};
use crate::wire::{From, Wire, configuration, frame, switching, text, upgrade};

/// One test at a time that holds thousands of sockets: the process may have 20,000.
pub static HEAVY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A backend that answers at once and in one write: the 101 and, where `/glued` is asked for, a frame with its own
/// address. It then sends every frame back. Plain requests get an empty 200.
pub async fn mirror() -> Backend {
    Backend::start(|stream| async move {
        let address = stream.local_addr().unwrap().to_string();
        let mut server = Wire::of(stream);
        while let Some(head) = server.next_head().await {
            if !head.contains("websocket") {
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            let glued = if head.starts_with("GET /glued") { text(From::Backend, &address) } else { Vec::new() };
            server.send([switching("").as_bytes(), &glued].concat()).await;
            while let Some(message) = server.next_frame().await {
                server.send(frame(From::Backend, message.first, &message.payload)).await;
            }
            return;
        }
    })
    .await
}

/// A gateway before mirrors, without an access log.
pub async fn quiet_gateway(backends: &[SocketAddr], upstream: &str) -> Gateway {
    Gateway::start(&configuration(backends, upstream).replace("routes:", "access_log: off\nroutes:")).await
}

/// Opens a tunnel from a source address. Its first frame holds the backend's address.
pub async fn tunnel_from(source: Ipv4Addr, gateway: SocketAddr) -> std::io::Result<Wire> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut client = Wire::of(socket.connect(gateway).await?);
    client.send(upgrade("").replace("GET / ", "GET /glued ")).await;
    match client.next_head().await {
        Some(head) if head.starts_with("HTTP/1.1 101 ") => Ok(client),
        other => Err(std::io::Error::other(format!("{other:?}"))),
    }
}

/// Sends a message, and tells whether it comes back.
async fn echoes(client: &mut Wire, message: &str) -> bool {
    client.send(text(From::Client, message)).await;
    client.next_frame().await.is_some_and(|frame| frame.payload == message.as_bytes())
}

/// The `number`th address of 127.0.0.0/8 that no other test uses.
pub fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 77, 0, 0).to_bits() + 1 + number)
}

/// Threads that use all processor time they can get, for as long as this lives.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start(threads: usize) -> Self {
        let busy = Arc::new(AtomicBool::new(true));
        for _ in 0..threads {
            let busy = Arc::clone(&busy);
            std::thread::spawn(move || {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_10_000_tunnels_opened_under_full_processors_every_one_lives() {
    let _alone = HEAVY.lock().await;
    let backend = mirror().await;
    let gateway = quiet_gateway(&[backend.address], "").await;
    let _busy = Busy::start(2);
    let address = gateway.address();
    let shake = |number: u32| async move {
        let mut client = Wire::connect(address).await;
        let glued = number.is_multiple_of(7);
        let path = if glued { "GET /glued " } else { "GET / " };
        client.send(upgrade("").replace("GET / ", path)).await;
        let switched = client.next_head().await.is_some_and(|head| head.starts_with("HTTP/1.1 101 "));
        let greeted = !glued || client.next_frame().await.is_some();
        switched && greeted && echoes(&mut client, &number.to_string()).await
    };
    let shake = |number| within("a tunnel", shake(number));
    let alive = stream::iter(0..10_000).map(shake).buffer_unordered(50).filter(|alive| std::future::ready(*alive));
    assert_eq!(alive.count().await, 10_000);
    gateway.metric_becomes("longhaul_tunnels_opened_total{upstream=\"u\"}", 10_000.0).await;
    let name = format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", backend.address);
    gateway.metric_becomes(&name, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_5_000_tunnels_at_once_each_is_at_its_own_backend_and_every_one_lives() {
    let _alone = HEAVY.lock().await;
    let backends = [mirror().await, mirror().await, mirror().await];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let gateway = quiet_gateway(&addresses, "    affinity: [ client_ip: {} ]\n").await;
    let at = gateway.address();
    let open = |number| async move { (source(number), tunnel_from(source(number), at).await.unwrap()) };
    let mut tunnels: Vec<_> = stream::iter(0..5000).map(open).buffer_unordered(50).collect().await;

    let mut homes = HashMap::new();
    for (source, client) in &mut tunnels {
        let home = String::from_utf8(client.frame().await.payload).unwrap();
        homes.insert(*source, home.parse::<SocketAddr>().unwrap());
    }
    for address in addresses {
        let here = homes.values().filter(|home| **home == address).count();
        let tunnels = format!("longhaul_backend_tunnels{{backend=\"{address}\",upstream=\"u\"}}");
        gateway.metric_becomes(&tunnels, here as f64).await;
        assert!(here > 1000, "{here} of 5000 at {address}");
    }
    for number in (0..5000).step_by(100) {
        assert_eq!(where_is(&gateway, source(number)), homes[&source(number)], "{}", source(number));
    }
    let mut alive = 0;
    for (source, client) in &mut tunnels {
        alive += usize::from(within("an echo", echoes(client, &source.to_string())).await);
    }
    assert_eq!(alive, 5000);
    drop(tunnels);
    for address in addresses {
        gateway.metric_becomes(&format!("longhaul_backend_load{{backend=\"{address}\",upstream=\"u\"}}"), 0.0).await;
    }
}

/// The backend that `longhaul where` names for a client.
fn where_is(gateway: &Gateway, client: Ipv4Addr) -> SocketAddr {
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["where", "--json", "--ip", &client.to_string(), "-c"])
        .arg(gateway.dir.path().join("longhaul.yaml"))
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["backend"].as_str().unwrap().parse().unwrap()
}
