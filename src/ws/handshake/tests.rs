//! Each rule of the handshake, broken and kept.

use http::HeaderValue;

use super::*;

/// The key and the accept of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

type Lines<'a> = &'a [(&'static str, &'a str)];

const HANDSHAKE: Lines<'static> =
    &[("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];
const ANSWER: Lines<'static> = &[("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", ACCEPT)];

/// `base` with the lines of every header named in `changes` replaced by those of `changes`; an empty value takes the
/// header away.
fn changed(base: Lines, changes: Lines) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let kept = base.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    for (name, value) in kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())) {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn get(changes: Lines) -> Result<UpgradeKind, UpgradeRefused> {
    classify(&Method::GET, Version::HTTP_11, &changed(HANDSHAKE, changes))
}

fn offer() -> Offer {
    Offer {
        key: KEY.to_owned(),
        protocols: vec!["chat".to_owned(), "mqtt".to_owned()],
        extensions: vec!["permessage-deflate".to_owned()],
    }
}

fn answer(changes: Lines) -> Result<(), BadAnswer> {
    verify(&offer(), StatusCode::SWITCHING_PROTOCOLS, &changed(ANSWER, changes))
}

fn is_websocket(wanted: &Result<UpgradeKind, UpgradeRefused>) -> bool {
    matches!(wanted, Ok(UpgradeKind::WebSocket(_)))
}

#[test]
fn a_request_without_upgrade_is_plain() {
    assert_eq!(get(&[("upgrade", "")]), Ok(UpgradeKind::Plain));
}

#[test]
fn a_handshake_by_the_book_is_a_websocket() {
    let offered = Offer { key: KEY.to_owned(), protocols: vec![], extensions: vec![] };
    assert_eq!(get(&[]), Ok(UpgradeKind::WebSocket(offered)));
}

#[test]
fn other_http_versions_drop_the_upgrade() {
    let headers = changed(HANDSHAKE, &[]);
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        assert_eq!(classify(&Method::GET, version, &headers), Ok(UpgradeKind::DropUpgrade), "{version:?}");
    }
}

#[test]
fn another_protocol_drops_the_upgrade_whatever_else_is_wrong() {
    for other in ["h2c", "TLS/1.0, IRC/6.9", "websocket/13", "websockets", "web socket", ","] {
        assert_eq!(get(&[("upgrade", other), ("connection", "")]), Ok(UpgradeKind::DropUpgrade), "{other}");
    }
}

#[test]
fn websocket_is_found_in_a_list_in_any_letter_case_and_over_several_lines() {
    for list in ["WebSocket", "h2c, WEBSOCKET", " websocket ,h2c", ",,websocket,"] {
        assert!(is_websocket(&get(&[("upgrade", list)])), "{list}");
    }
    assert!(is_websocket(&get(&[("upgrade", "h2c"), ("upgrade", "websocket")])));
}

#[test]
fn connection_must_name_upgrade() {
    for connection in ["", "keep-alive", "upgraded", "up grade"] {
        assert_eq!(get(&[("connection", connection)]), Err(UpgradeRefused::ConnectionWithoutUpgrade), "{connection}");
    }
    for connection in ["upgrade", "keep-alive, UpGrade", "a,b\t,\tupgrade"] {
        assert!(is_websocket(&get(&[("connection", connection)])), "{connection}");
    }
    assert!(is_websocket(&get(&[("connection", "keep-alive"), ("connection", "upgrade")])));
}

#[test]
fn the_method_must_be_get() {
    for method in [Method::POST, Method::HEAD, Method::CONNECT, Method::OPTIONS] {
        let refused = classify(&method, Version::HTTP_11, &changed(HANDSHAKE, &[]));
        assert_eq!(refused, Err(UpgradeRefused::MethodNotGet), "{method}");
    }
}

#[test]
fn a_body_is_refused_and_a_length_of_0_is_none() {
    for length in ["1", "5", "+0", "0, 5", "x", "-1"] {
        assert_eq!(get(&[("content-length", length)]), Err(UpgradeRefused::Body), "{length}");
    }
    assert_eq!(get(&[("content-length", "0"), ("content-length", "7")]), Err(UpgradeRefused::Body));
    assert_eq!(get(&[("transfer-encoding", "chunked")]), Err(UpgradeRefused::Body));
    assert!(is_websocket(&get(&[("content-length", "0")])));
}

#[test]
fn the_version_must_be_13_and_nothing_else() {
    for version in ["", "8", "12", "013", "13.0", "13, 8", "8, 13"] {
        assert_eq!(get(&[("sec-websocket-version", version)]), Err(UpgradeRefused::VersionNot13), "{version}");
    }
    let twice = get(&[("sec-websocket-version", "13"), ("sec-websocket-version", "13")]);
    assert_eq!(twice, Err(UpgradeRefused::VersionNot13));
    assert_eq!(UpgradeRefused::VersionNot13.status(), StatusCode::UPGRADE_REQUIRED);
}

#[test]
fn the_key_must_be_there_once_and_hold_16_bytes() {
    assert_eq!(get(&[("sec-websocket-key", "")]), Err(UpgradeRefused::KeyMissing));
    let twice = get(&[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)]);
    assert_eq!(twice, Err(UpgradeRefused::KeyRepeated));
    for key in [
        "abc",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "dGhlIHNhbXBsZSBub25jZ-==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
    ] {
        assert_eq!(get(&[("sec-websocket-key", key)]), Err(UpgradeRefused::KeyMalformed), "{key}");
    }
    assert!(is_websocket(&get(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==")])), "bits beyond the 16th byte");
}

#[test]
fn a_key_that_is_no_text_is_malformed() {
    let mut headers = changed(HANDSHAKE, &[("sec-websocket-key", "")]);
    headers.insert("sec-websocket-key", HeaderValue::from_bytes(b"\xFF\xFE").unwrap());
    assert_eq!(classify(&Method::GET, Version::HTTP_11, &headers), Err(UpgradeRefused::KeyMalformed));
}

#[test]
fn every_refusal_but_the_version_s_is_a_400() {
    use UpgradeRefused::*;
    for refused in [ConnectionWithoutUpgrade, MethodNotGet, Body, KeyMissing, KeyRepeated, KeyMalformed] {
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
}

#[test]
fn subprotocols_and_extensions_are_collected_over_several_lines() {
    let wanted = get(&[
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-protocol", "mqtt"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"),
        ("sec-websocket-extensions", "foo;a=\"b\""),
    ]);
    let Ok(UpgradeKind::WebSocket(offer)) = wanted else { panic!("{wanted:?}") };
    assert_eq!(offer.protocols, ["chat", "superchat", "mqtt"]);
    assert_eq!(offer.extensions, ["permessage-deflate", "x-webkit-deflate-frame", "foo"]);
}

#[test]
fn the_accept_of_the_rfc_is_computed() {
    assert_eq!(accept(KEY), ACCEPT);
}

#[test]
fn a_right_answer_is_taken() {
    assert_eq!(answer(&[]), Ok(()));
    assert_eq!(answer(&[("upgrade", "WebSocket"), ("connection", "keep-alive, upgrade")]), Ok(()));
}

#[test]
fn another_status_is_not_a_switch() {
    for status in [StatusCode::OK, StatusCode::CONTINUE, StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE] {
        assert_eq!(verify(&offer(), status, &changed(ANSWER, &[])), Err(BadAnswer::NotSwitching(status)));
    }
    let text = BadAnswer::NotSwitching(StatusCode::SERVICE_UNAVAILABLE).to_string();
    assert_eq!(text, "status 503, expected 101");
}

#[test]
fn the_answer_must_upgrade_to_websocket_alone() {
    for upgrade in ["", "h2c", "websocket, h2c", "websocket/13"] {
        assert_eq!(answer(&[("upgrade", upgrade)]), Err(BadAnswer::UpgradeWrong), "{upgrade}");
    }
    for connection in ["", "keep-alive", "close"] {
        assert_eq!(answer(&[("connection", connection)]), Err(BadAnswer::ConnectionWithoutUpgrade), "{connection}");
    }
}

#[test]
fn the_accept_must_be_there_once_and_match() {
    assert_eq!(answer(&[("sec-websocket-accept", "")]), Err(BadAnswer::AcceptMissing));
    let twice = answer(&[("sec-websocket-accept", ACCEPT), ("sec-websocket-accept", ACCEPT)]);
    assert_eq!(twice, Err(BadAnswer::AcceptRepeated));
    for wrong in [KEY, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo="] {
        assert_eq!(answer(&[("sec-websocket-accept", wrong)]), Err(BadAnswer::AcceptWrong), "{wrong}");
    }
}

#[test]
fn the_subprotocol_must_be_one_of_those_offered() {
    assert_eq!(answer(&[("sec-websocket-protocol", "mqtt")]), Ok(()));
    for other in ["MQTT", "amqp", "chatty"] {
        let refused = answer(&[("sec-websocket-protocol", other)]);
        assert_eq!(refused, Err(BadAnswer::ProtocolNotOffered(other.to_owned())));
    }
    assert_eq!(answer(&[("sec-websocket-protocol", "chat, mqtt")]), Err(BadAnswer::ProtocolRepeated));
    let twice = answer(&[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat")]);
    assert_eq!(twice, Err(BadAnswer::ProtocolRepeated));
}

#[test]
fn an_answer_may_not_choose_an_extension_that_was_not_offered() {
    for offered in ["permessage-deflate", "permessage-deflate; server_no_context_takeover", "Permessage-Deflate"] {
        assert_eq!(answer(&[("sec-websocket-extensions", offered)]), Ok(()), "{offered}");
    }
    let refused = answer(&[("sec-websocket-extensions", "permessage-deflate, mux; n=4")]);
    assert_eq!(refused, Err(BadAnswer::ExtensionNotOffered("mux".to_owned())));
}
