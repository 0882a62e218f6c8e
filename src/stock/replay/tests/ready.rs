//! The ready rules for STOMP and Phoenix.

use super::*;

#[tokio::test]
async fn stomp_is_connected_and_subscribed_again() {
    let mut talk = open("protocol: stomp").await;
    let connect = "CONNECT\naccept-version:1.2\nhost:chat\n\n\0";
    let subscribe = "SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:r1\n\n\0";
    let other = "SUBSCRIBE\nid:2\ndestination:/topic/b\n\n\0";
    says(&mut talk, &[connect]).await;
    assert!(hears(&mut talk, "CONNECTED\nversion:1.2\n\n\0").await);
    says(&mut talk, &[subscribe, other, "SEND\ndestination:/topic/a\n\nhello\0", "\n"]).await;
    assert!(hears(&mut talk, "RECEIPT\nreceipt-id:r1\n\n\0").await);
    says(&mut talk, &["UNSUBSCRIBE\nid:2\n\n\0"]).await;
    assert_eq!(greeted(&mut talk, 0, "CONNECTED\nversion:1.2\n\n\0", false).await, [connect, subscribe]);
    assert!(!hears(&mut talk, "RECEIPT\nreceipt-id:r1\n\n\0").await);
    assert!(hears(&mut talk, "MESSAGE\nsubscription:1\nmessage-id:9\n\nhello\0").await);
    says(&mut talk, &["DISCONNECT\nreceipt:bye\n\n\0"]).await;
    assert_eq!(repeated(&mut talk, 0).await, [""; 0]);
}

#[tokio::test]
async fn phoenix_topics_are_joined_again_and_a_refused_one_ends_the_tunnel() {
    let mut talk = open("protocol: phoenix").await;
    let join = |number: u8, topic: &str| format!(r#"["{number}","{number}","{topic}","phx_join",{{}}]"#);
    let reply = |number: u8, topic: &str, status: &str| {
        format!(r#"["{number}","{number}","{topic}","phx_reply",{{"status":"{status}","response":{{}}}}]"#)
    };
    says(&mut talk, &[&join(1, "a"), &join(2, "b"), &join(3, "c")]).await;
    assert!(hears(&mut talk, &reply(1, "a", "ok")).await);
    assert!(hears(&mut talk, &reply(2, "b", "error")).await, "a refusal is the client's to know");
    assert!(hears(&mut talk, &reply(3, "c", "ok")).await);
    says(&mut talk, &[r#"["3","4","c","phx_leave",{}]"#, r#"[null,"5","phoenix","heartbeat",{}]"#]).await;
    assert_eq!(repeated(&mut talk, 0).await, [join(1, "a")]);
    assert!(!hears(&mut talk, &reply(1, "a", "ok")).await);
    assert!(hears(&mut talk, &reply(6, "a", "ok")).await, "a reply to something else");
    assert_eq!(repeated(&mut talk, 0).await, [join(1, "a")]);
    let refused = talk.tunnel.message(Direction::ToClient, Message::text(reply(1, "a", "error"))).await;
    let why = "the next backend refuses what the one before had accepted";
    assert_eq!(refused, Ok(Verdict::close(1012, why)));
}
