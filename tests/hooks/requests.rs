//! What hooks do with requests and answers: continue, answer, change, choose, veto, log.

use crate::lab::Lab;
use crate::support::Wire;

#[tokio::test]
async fn hooks_see_a_request_in_order_and_its_answer_in_the_reverse_order() {
    let lab = Lab::start().await;
    let answer = lab.get("/", &[], "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(lab.seen().head.all("x-seen-by"), ["a", "b"]);
    assert_eq!(answer.head.all("x-answer-seen-by"), ["b", "a"]);
}

#[tokio::test]
async fn a_backend_gets_the_request_as_hooks_left_it() {
    let lab = Lab::start().await;
    let acts = [
        "a request set X-One 1",
        "a request add x-two 2",
        "b request set x-one 3",
        "b request remove x-gone",
        "b request target /other?q=1",
        "a request set host inner.test",
    ];
    lab.get("/path?room=r", &acts, "X-Gone: here\r\nX-Two: 0\r\n").await;
    let seen = lab.seen().head;
    assert_eq!(seen.target(), "/other?q=1");
    assert_eq!(seen.all("x-one"), ["3"]);
    assert_eq!(seen.all("x-two"), ["0", "2"]);
    assert_eq!(seen.get("x-gone"), None);
    assert_eq!(seen.all("host"), ["inner.test"]);
    assert_eq!(seen.all("x-forwarded-host"), ["lab"], "what the client asked for");
}
