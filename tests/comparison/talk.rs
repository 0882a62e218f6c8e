//! One request through one proxy, and what became of it in a few words.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case::Case;
use crate::recorder::{Reached, Recorder};
use crate::support::{Head, Wire, within};

/// The outcome of a case at a proxy: the answer, and behind `<-` what reached the backend.
pub(crate) async fn outcome(case: &Case, proxy: SocketAddr, recorder: &Recorder) -> String {
    recorder.answer_with(case.answer.as_deref());
    let mut client = Wire::connect(proxy).await;
    // A proxy that refuses may be gone before it has been sent everything.
    let _ = client.stream.write_all(&case.request()).await;
    if case.half_close {
        let _ = client.stream.shutdown().await;
    }
    let mut said = within(&format!("an answer of {proxy}: {}", case.name), answer(case, &mut client)).await;
    drop(client);
    let reached = recorder.reached().await;
    for Reached { head, body, cut } in reached.iter().filter(|_| !case.answer_only) {
        let line = head.start.rsplit_once(' ').map_or(&*head.start, |(line, _)| line);
        let _ = write!(said, " <- {}", line.escape_debug());
        fields(&mut said, head, &case.watch);
        if !body.is_empty() || *cut {
            let cut = if *cut { " cut" } else { "" };
            let _ = write!(said, "; body {:?}{cut}", String::from_utf8_lossy(body));
        }
    }
    said
}

/// The answer that the client gets: statuses, the fields that the case watches, and the body where it is the backend's.
async fn answer(case: &Case, client: &mut Wire) -> String {
    let mut said = String::new();
    let head = loop {
        let Ok(Some(head)) = client.head().await else { return said + "closed" };
        let Some(status) = head.start.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)) else {
            return said + "no head";
        };
        said.push_str(status);
        if !status.starts_with('1') || status == "101" {
            break head;
        }
        said.push(' ');
    };
    let Some(watched) = &case.watch_answer else { return said };
    fields(&mut said, &head, watched);
    let first = format!("HTTP/1.1 {}", &head.start[9..12]);
    let is_the_backends = case.answer.as_ref().is_some_and(|answer| answer.contains(&first));
    if head.start.contains(" 101 ") || !is_the_backends {
        return said;
    }
    let (body, whole) = body(client, &head).await;
    let _ = write!(said, "; body {body:?}{}", if whole { "" } else { " cut" });
    said
}

async fn body(client: &mut Wire, head: &Head) -> (String, bool) {
    let mut body = Vec::new();
    let whole = if head.get("transfer-encoding").is_some() {
        loop {
            match client.chunk().await {
                Ok(Some(chunk)) => body.extend(chunk),
                ended => break ended.is_ok(),
            }
        }
    } else {
        let length = head.get("content-length").map_or(u64::MAX, |length| length.parse().unwrap());
        let mut rest = (&mut client.stream).take(length);
        let ended = rest.read_to_end(&mut body).await;
        ended.is_ok() && (length == u64::MAX || body.len() as u64 == length)
    };
    (String::from_utf8_lossy(&body).into_owned(), whole)
}

fn fields(said: &mut String, head: &Head, names: &[String]) {
    for name in names {
        let lines = head.all(name);
        if !lines.is_empty() {
            let _ = write!(said, "; {name}: {}", lines.join(" + ").escape_debug());
        }
    }
}
