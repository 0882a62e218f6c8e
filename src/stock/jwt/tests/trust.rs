//! Tokens that are valid, and tokens that are not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::issuer::{Issuer, jwks};
use super::{bear, chain, claims, now, with_secret};

const PUBLIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

const SECRET: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

#[tokio::test]
async fn every_algorithm_is_verified_with_its_key_and_with_no_other_key() {
    for (algorithms, field) in [(&SECRET[..], "secret_file"), (&PUBLIC[..], "public_key_file")] {
        for algorithm in algorithms {
            let issuer = Issuer::new(*algorithm);
            let chain = chain(&format!("{field}: {}", issuer.key_file()));
            assert_eq!(bear(&chain, &issuer.token(&claims(json!({})))).await.status(), 200, "{algorithm:?}");
            let mut forged = issuer.token(&claims(json!({}))).into_bytes();
            // Not the last character, whose low bits may count for nothing.
            let signature = forged.len() - 20;
            forged[signature] = if forged[signature] == b'A' { b'B' } else { b'A' };
            let outcome = bear(&chain, std::str::from_utf8(&forged).unwrap()).await;
            assert_eq!(outcome.status(), 401, "{algorithm:?}");
            assert!(outcome.challenge().contains("signature is wrong"), "{}", outcome.challenge());
        }
    }
}

#[tokio::test]
async fn a_set_of_keys_verifies_with_the_key_that_the_token_names() {
    let issuers = PUBLIC.map(Issuer::new);
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk(&format!("{:?}", issuer.algorithm))).collect();
    let file = issuers[0].file("jwks", &jwks(&keys));
    let chain = chain(&format!("jwks_file: {file}"));
    for issuer in &issuers {
        let own = format!("{:?}", issuer.algorithm);
        assert_eq!(bear(&chain, &issuer.token_by(&own, &claims(json!({})))).await.status(), 200, "{own}");
        assert_eq!(bear(&chain, &issuer.token(&claims(json!({})))).await.status(), 200, "{own} without an id");
        let outcome = bear(&chain, &issuer.token_by("other", &claims(json!({})))).await;
        assert_eq!(outcome.status(), 401, "{own}");
        assert!(outcome.challenge().contains("key is not known"), "{}", outcome.challenge());
    }
}

#[tokio::test]
async fn keys_of_a_set_that_cannot_be_used_hide_no_others() {
    let issuer = Issuer::new(Algorithm::ES256);
    let mut encrypts = issuer.jwk("encrypts");
    encrypts["use"] = "enc".into();
    let keys = [
        encrypts,
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1" }),
        json!({ "kty": "new", "alg": "XX999" }),
        json!({ "kty": 7 }),
        issuer.jwk("good"),
    ];
    let chain = chain(&format!("jwks_file: {}", issuer.file("jwks", &jwks(&keys))));
    assert_eq!(bear(&chain, &issuer.token_by("good", &claims(json!({})))).await.status(), 200);
    assert_eq!(bear(&chain, &issuer.token_by("encrypts", &claims(json!({})))).await.status(), 401);
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let (issuer, with) = with_secret();
    let chain = chain(&with);
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", "NONE", "", "HS257"] {
        let head = encode(json!({ "alg": algorithm, "typ": "JWT" }));
        let body = encode(claims(json!({})));
        for token in [format!("{head}.{body}."), format!("{head}.{body}"), format!("{head}.{body}.AAAA")] {
            assert_eq!(bear(&chain, &token).await.status(), 401, "{token}");
        }
    }
    let good = issuer.token(&claims(json!({})));
    let without = good.rsplit_once('.').unwrap().0;
    assert_eq!(bear(&chain, &format!("{without}.")).await.status(), 401);
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let issuer = Issuer::new(algorithm);
        let set = issuer.file("jwks", &jwks(&[issuer.jwk("k")]));
        let head = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::HS256) };
        let secret = EncodingKey::from_secret(issuer.public.as_bytes());
        let forged = encode(&head, &claims(json!({})), &secret).unwrap();
        for with in [format!("public_key_file: {}", issuer.key_file()), format!("jwks_file: {set}")] {
            let outcome = bear(&chain(&with), &forged).await;
            assert_eq!(outcome.status(), 401, "{with}");
            assert!(outcome.challenge().contains("algorithm is not accepted"), "{}", outcome.challenge());
        }
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_listed_is_refused_though_the_key_could() {
    let issuer = Issuer::new(Algorithm::RS256);
    let chain = chain(&format!("public_key_file: {}\nalgorithms: [PS256, RS512]", issuer.key_file()));
    assert_eq!(bear(&chain, &issuer.token(&claims(json!({})))).await.status(), 401);
}

#[tokio::test]
async fn a_symmetric_key_of_a_set_counts_only_where_its_algorithm_is_listed() {
    let issuer = Issuer::new(Algorithm::HS256);
    let file = issuer.file("jwks", &jwks(&[issuer.jwk("k"), Issuer::new(Algorithm::ES256).jwk("e")]));
    let token = issuer.token_by("k", &claims(json!({})));
    assert_eq!(bear(&chain(&format!("jwks_file: {file}\nalgorithms: [HS256]")), &token).await.status(), 200);
    assert_eq!(bear(&chain(&format!("jwks_file: {file}")), &token).await.status(), 401);
}

#[tokio::test]
async fn a_key_that_the_token_brings_along_is_not_looked_at() {
    let (ours, theirs) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let chain = chain(&format!("public_key_file: {}", ours.key_file()));
    let token = theirs.token_with(|header| header.jwk = Some(serde_json::from_value(theirs.jwk("k")).unwrap()));
    assert_eq!(bear(&chain, &token).await.status(), 401);
}

#[tokio::test]
async fn extensions_that_must_be_understood_are_refused() {
    let (issuer, with) = with_secret();
    let token = issuer.token_with(|header| header.crit = Some(vec!["b64".to_owned()]));
    assert_eq!(bear(&chain(&with), &token).await.status(), 401);
}

#[tokio::test]
async fn claims_are_checked_with_a_leeway_and_the_answer_says_which_failed() {
    let (issuer, with) = with_secret();
    let chain = chain(&format!("{with}\nissuer: [us, them]\naudience: chat\nleeway: 10s\nrequire: [exp, sub]"));
    let good = json!({ "iss": "us", "aud": "chat" });
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        issuer.token(&claims(changed))
    };
    for (token, why) in [
        (issuer.token(&claims(good.clone())), None),
        (with("iss", "them".into()), None),
        (with("aud", json!(["other", "chat"])), None),
        (with("exp", json!(now() - 5)), None),
        (with("exp", json!(now() as f64 + 60.5)), None),
        (with("nbf", json!(now() + 5)), None),
        (with("exp", json!(now() - 60)), Some("the token has expired")),
        (with("nbf", json!(now() + 60)), Some("the token is not valid yet")),
        (with("iss", "else".into()), Some("the token is from another issuer")),
        (with("iss", json!(7)), Some("the token has no usable claim 'iss'")),
        (with("iss", Value::Null), Some("the token has no usable claim 'iss'")),
        (with("aud", "other".into()), Some("the token is for another audience")),
        (with("aud", json!(["other"])), Some("the token is for another audience")),
        (with("aud", json!([])), Some("the token is for another audience")),
        (with("aud", Value::Null), Some("the token has no usable claim 'aud'")),
        (with("exp", Value::Null), Some("the token has no usable claim 'exp'")),
        (with("exp", "tomorrow".into()), Some("the token has no usable claim 'exp'")),
        (with("sub", Value::Null), Some("the token has no usable claim 'sub'")),
        ("rubbish".to_owned(), Some("the token is malformed")),
        ("a.b.c".to_owned(), Some("the token is malformed")),
        ("x".repeat(20_000), Some("the token is malformed")),
    ] {
        let outcome = bear(&chain, &token).await;
        match why {
            None => assert_eq!(outcome.status(), 200, "{token}: {}", outcome.challenge()),
            Some(why) => {
                assert_eq!(outcome.status(), 401, "{token}");
                let challenge = format!(r#"Bearer realm="longhaul", error="invalid_token", error_description="{why}""#);
                assert_eq!(outcome.challenge(), challenge, "{token}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_without_an_end_are_let_in_where_that_is_configured() {
    let (issuer, with) = with_secret();
    let token = issuer.token(&json!({ "sub": "u-1", "aud": "anything" }));
    assert_eq!(bear(&chain(&with), &token).await.status(), 401);
    assert_eq!(bear(&chain(&format!("{with}\nrequire: []")), &token).await.status(), 200);
}
