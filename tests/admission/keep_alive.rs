//! `limits.keep_alive.requests`: the requests of one connection.

use crate::lab::{LISTENERS, Lab, Setup, stranger};

#[tokio::test]
async fn the_answer_to_the_last_request_of_a_connection_says_so_and_the_connection_ends() {
    let mut lab = Lab::start("{ keep_alive: { requests: 3 } }").await;
    for listener in LISTENERS {
        let mut guest = lab.connect(stranger(1), listener).await.unwrap();
        for number in 1..=3 {
            let answer = guest.get("").await.expect("an answer");
            let says_close = answer.field("connection") == Some("close");
            assert_eq!((answer.status(), says_close), (200, number == 3), "answer {number}: {}", answer.head);
        }
        assert_eq!(guest.rest().await, b"");
        // Answers of the gateway's own count as well, and those to handshakes that are refused.
        let mut guest = lab.connect(stranger(1), listener).await.unwrap();
        for number in 1..=3 {
            let answer = guest.shake("/subprotocol", "").await.expect("an answer");
            assert_eq!((answer.status(), answer.field("connection") == Some("close")), (502, number == 3));
        }
        assert_eq!(guest.rest().await, b"");
    }
    lab.reload(&Setup { limits: "{ keep_alive: { requests: off } }", ..Setup::default() }).await;
    let mut guest = lab.connect(stranger(1), LISTENERS[0]).await.unwrap();
    for _ in 0..20 {
        assert_ne!(guest.get("").await.expect("an answer").field("connection"), Some("close"));
    }
}

#[tokio::test]
async fn requests_sent_ahead_of_answers_are_counted_one_by_one() {
    let lab = Lab::start("{ keep_alive: { requests: 2 } }").await;
    let mut guest = lab.connect(stranger(1), LISTENERS[0]).await.unwrap();
    guest.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(5)).await;
    assert_eq!(guest.answer().await.expect("an answer").status(), 200);
    assert_eq!(guest.answer().await.expect("an answer").field("connection"), Some("close"));
    assert_eq!(guest.rest().await, b"");
    assert_eq!(lab.cast.asked("/"), 2, "the third reached no backend");
}
