//! Places where tokens are found, and the request that is left without its token.

use serde_json::json;

use super::{ask, bear, chain, claims, upgraded, with_secret};

const PLACES: &str =
    "from: [{header: authorization}, {header: x-token}, {cookie: session}, {query: token}, {protocol: bearer.}]";

#[tokio::test]
async fn a_token_is_found_in_each_of_its_places() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\n{PLACES}"));
    let token = issuer.token(&claims(json!({})));
    for (target, name, value) in [
        ("/", "authorization", format!("Bearer {token}")),
        ("/", "authorization", format!("bearer  {token}")),
        ("/", "x-token", token.clone()),
        ("/", "x-token", format!("Bearer {token}")),
        ("/", "cookie", format!("a=b; session={token}; c=d")),
        ("/", "cookie", format!("session=\"{token}\"")),
        (&format!("/?a=b&token={token}"), "x-a", String::new()),
        ("/", "sec-websocket-protocol", format!("chat.v1, bearer.{token}")),
    ] {
        let outcome = ask(&chain, target, &[(name, &value)]).await;
        assert_eq!(outcome.status(), 200, "{target} {name}: {value}");
        assert!(name == "sec-websocket-protocol" || outcome.sees(name) == [value], "{name} goes on");
    }
}

#[tokio::test]
async fn without_a_token_the_answer_names_no_error() {
    let (_issuer, with) = with_secret();
    let chain = chain(&format!("{with}\nrealm: chat room"));
    for headers in [&[][..], &[("authorization", "Basic YTpi")], &[("cookie", "session=x")]] {
        let outcome = ask(&chain, "/", headers).await;
        assert_eq!((outcome.status(), outcome.challenge()), (401, r#"Bearer realm="chat room""#));
    }
}

#[tokio::test]
async fn the_first_place_with_a_token_counts_and_tokens_in_others_are_not_passed_on() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\nfrom: [{{header: authorization}}, {{cookie: session}}]"));
    let good = issuer.token(&claims(json!({})));
    let bearer = format!("Bearer {good}");
    let outcome = ask(&chain, "/", &[("authorization", &bearer), ("cookie", "a=b; session=unverified")]).await;
    assert_eq!((outcome.status(), outcome.sees("cookie")), (200, vec!["a=b"]));
    let cookie = format!("session={good}");
    assert_eq!(ask(&chain, "/", &[("authorization", "Bearer bad"), ("cookie", &cookie)]).await.status(), 401);
}

#[tokio::test]
async fn two_tokens_in_one_place_are_refused() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\n{PLACES}"));
    let token = issuer.token(&claims(json!({})));
    let bearer = format!("Bearer {token}");
    for (target, headers) in [
        ("/".to_owned(), vec![("authorization", bearer.clone()), ("authorization", bearer.clone())]),
        ("/".to_owned(), vec![("cookie", format!("session={token}; session=x"))]),
        ("/".to_owned(), vec![("cookie", format!("session={token}")), ("cookie", "session=x".to_owned())]),
        (format!("/?token={token}&token=x"), vec![]),
        ("/".to_owned(), vec![("sec-websocket-protocol", format!("bearer.{token}, bearer.x"))]),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let outcome = ask(&chain, &target, &headers).await;
        assert_eq!(outcome.status(), 400, "{target} {headers:?}");
        assert!(outcome.challenge().contains(r#"error="invalid_request""#), "{}", outcome.challenge());
    }
}

#[tokio::test]
async fn a_token_that_is_not_forwarded_is_taken_out_and_the_rest_stays_as_it_was() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\n{PLACES}\nforward: false"));
    let token = issuer.token(&claims(json!({})));
    let bearer = format!("Bearer {token}");
    let outcome = ask(&chain, "/", &[("authorization", "Basic YTpi"), ("authorization", &bearer)]).await;
    assert_eq!((outcome.status(), outcome.sees("authorization")), (200, vec!["Basic YTpi"]));
    let outcome = ask(&chain, "/", &[("cookie", &format!("a=b; session={token}")), ("cookie", "c=d")]).await;
    assert_eq!(outcome.sees("cookie"), ["a=b; c=d"]);
    let outcome = ask(&chain, "/", &[("cookie", &format!("session={token}"))]).await;
    assert!(outcome.sees("cookie").is_empty());
    let outcome = ask(&chain, &format!("/p%20q?a=%20b&token={token}&&c"), &[]).await;
    assert_eq!(outcome.header.uri.to_string(), "/p%20q?a=%20b&&c");
    let outcome = ask(&chain, &format!("/?%74oken={token}"), &[]).await;
    assert_eq!((outcome.status(), outcome.header.uri.to_string()), (200, "/".to_owned()));
}

#[tokio::test]
async fn a_token_among_the_subprotocols_is_acknowledged_unless_the_backend_takes_another() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\nfrom: [{{protocol: bearer.}}]"));
    let entry = format!("bearer.{}", issuer.token(&claims(json!({}))));
    let mut outcome = ask(&chain, "/", &[("sec-websocket-protocol", &format!("{entry} ,chat.v2, chat.v1"))]).await;
    assert_eq!(outcome.sees("sec-websocket-protocol"), ["chat.v2, chat.v1"]);
    let given = [("sec-websocket-protocol", "chat.v1")];
    assert_eq!(upgraded(&chain, &mut outcome.contexts, &given).await["sec-websocket-protocol"], "chat.v1");
    let mut outcome = ask(&chain, "/", &[("sec-websocket-protocol", &entry)]).await;
    assert!(outcome.sees("sec-websocket-protocol").is_empty());
    assert_eq!(upgraded(&chain, &mut outcome.contexts, &[]).await["sec-websocket-protocol"], entry.as_str());
}

#[tokio::test]
async fn the_entry_after_the_marker_is_the_token_and_only_the_marker_is_acknowledged() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\nfrom: [{{protocol: access_token}}]"));
    let token = issuer.token(&claims(json!({})));
    let headers = [("sec-websocket-protocol", "access_token"), ("sec-websocket-protocol", token.as_str())];
    let mut outcome = ask(&chain, "/", &headers).await;
    assert_eq!(outcome.status(), 200);
    assert!(outcome.sees("sec-websocket-protocol").is_empty());
    assert_eq!(upgraded(&chain, &mut outcome.contexts, &[]).await["sec-websocket-protocol"], "access_token");
    assert_eq!(ask(&chain, "/", &[("sec-websocket-protocol", "access_token")]).await.status(), 401);
}

#[tokio::test]
async fn claims_are_told_in_headers_that_no_client_can_send() {
    let (issuer, with) = with_secret();
    let told = "claims: {sub: x-user, realm.roles: x-roles, 'https://a.example/plan': x-plan, email: x-email}";
    let chain = chain(&format!("{with}\n{told}\noptional: true"));
    let said = json!({ "realm": { "roles": ["a", "b"] }, "https://a.example/plan": 3 });
    let bearer = format!("Bearer {}", issuer.token(&claims(said)));
    let lies = [("x-user", "root"), ("x-user", "root"), ("x-email", "root@a.example")];
    let with_token: Vec<_> = lies.into_iter().chain([("authorization", bearer.as_str())]).collect();
    let outcome = ask(&chain, "/", &with_token).await;
    let seen = ["x-user", "x-roles", "x-plan", "x-email"].map(|name| outcome.sees(name).join("|"));
    assert_eq!(seen, ["u-1", "a,b", "3", ""]);
    let outcome = ask(&chain, "/", &lies).await;
    assert_eq!((outcome.status(), outcome.sees("x-user").len(), outcome.sees("x-email").len()), (200, 0, 0));
}

#[tokio::test]
async fn a_claim_can_be_the_affinity_key() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\nkey: room"));
    let in_room = issuer.token(&claims(json!({ "room": "r-7" })));
    assert_eq!(bear(&chain, &in_room).await.key.as_deref(), Some(&b"r-7"[..]));
    assert_eq!(bear(&chain, &issuer.token(&claims(json!({})))).await.key, None);
}

#[tokio::test]
async fn a_token_that_is_optional_may_be_missing_but_not_wrong() {
    let (_issuer, with) = with_secret();
    let chain = chain(&format!("{with}\noptional: true"));
    assert_eq!(ask(&chain, "/", &[]).await.status(), 200);
    assert_eq!(bear(&chain, "wrong").await.status(), 401);
}

#[tokio::test]
async fn a_token_under_a_name_that_passes_for_its_place_goes_to_no_backend() {
    let (issuer, with) = with_secret();
    let token = issuer.token(&claims(json!({})));
    for from in ["[{ header: authorization }, { header: x-token }]", "[{ header: x-token }]"] {
        let chain = chain(&format!("{with}\noptional: true\nfrom: {from}"));
        let outcome = ask(&chain, "/", &[("x_token", token.as_str()), ("x_other", "2")]).await;
        assert_eq!((outcome.status(), outcome.sees("x_token").len()), (200, 0));
        assert_eq!(outcome.sees("x_other"), ["2"]);
        assert_eq!(outcome.sees("authorization").len(), 0);
    }
    let chain = chain(&format!("{with}\noptional: true"));
    let basic = ask(&chain, "/", &[("authorization", "Basic YTpi")]).await;
    assert_eq!(basic.sees("authorization"), ["Basic YTpi"], "no token: it is not this hook's");
}
