//! Messages about settings that do not fit.

use jsonwebtoken::Algorithm;

use super::issuer::{Issuer, jwks, pem};
use super::problems;

#[test]
fn each_problem_is_told_where_it_is() {
    let issuer = Issuer::new(Algorithm::ES256);
    let key = issuer.key_file();
    let secret = issuer.file("secret", &"s".repeat(41));
    for (with, told) in [
        ("optional: true".to_owned(), "there is no key: one of `secret_file`, `secret_env`, `public_key_file`"),
        (format!("public_key_file: {key}\njwks_url: https://a.example/"), "2:11: jwks_url: there is `public_key_file`"),
        (format!("secret_file: {secret}\nrefresh: 5m"), "2:10: refresh: this belongs to `jwks_url`"),
        ("secret_file: /nowhere/secret".to_owned(), "1:14: secret_file: /nowhere/secret: No such file"),
        ("secret_env: LONGHAUL_NO_SUCH".to_owned(), "1:13: secret_env: LONGHAUL_NO_SUCH: environment variable not"),
        (format!("secret_file: {key}"), "1:14: secret_file: this is a PEM file, not a secret"),
        (format!("secret_file: {}", issuer.file("s", "hush\n")), "a secret of at least 32 bytes, and this one has 4"),
        (format!("secret_file: {secret}\nalgorithms: [HS256, HS512]"), "2:13: algorithms: HS512 needs a secret of at"),
        (
            format!("secret_file: {secret}\nalgorithms: [ES256]"),
            "2:13: algorithms: this key is for HS256, HS384, HS512",
        ),
        (format!("secret_file: {secret}\nsecret_encoding: base64"), "1:14: secret_file: this is not base64"),
        (format!("public_key_file: {secret}"), "1:18: public_key_file: no public key"),
        (format!("public_key_file: {}", issuer.file("p", &pem("PRIVATE KEY", b"x"))), "this is a private key"),
        (format!("public_key_file: {}", issuer.file("c", &pem("CERTIFICATE", b"x"))), "this is a certificate"),
        (format!("public_key_file: {key}\nalgorithms: [RS256]"), "2:13: algorithms: this key is for ES256, and none"),
        (format!("public_key_file: {key}\nalgorithms: [ES256, HS256]"), "2:21: algorithms[1]: HS256 is signed with a"),
        (format!("public_key_file: {key}\nalgorithms: [none]"), "2:14: algorithms[0]: "),
        (format!("public_key_file: {key}\nalgorithms: []"), "2:13: algorithms: no algorithm is accepted"),
        ("jwks_url: https://a.example/\nalgorithms: [HS256]".to_owned(), "2:14: algorithms[0]: HS256 is signed with"),
        ("jwks_url: a.example/keys".to_owned(), "1:11: jwks_url: not a URL"),
        ("jwks_url: file:///etc/passwd".to_owned(), "1:11: jwks_url: a URL of `file:`"),
        ("jwks_url: https://a.example/\nrefresh: 0s".to_owned(), "2:10: refresh: from 1s to 7d"),
        ("jwks_url: https://a.example/\nca_file: /nowhere".to_owned(), "2:10: ca_file: /nowhere cannot be read"),
        (format!("jwks_url: https://a.example/\nca_file: {secret}"), "2:10: ca_file: "),
        (format!("jwks_file: {key}"), "1:12: jwks_file: not a JWK Set"),
        (format!("jwks_file: {}", issuer.file("none", &jwks(&[]))), "1:12: jwks_file: none of its keys (0)"),
        (format!("secret_file: {secret}\nleeway: 2h"), "2:9: leeway: at most 1h"),
        (format!("secret_file: {secret}\nfrom: []"), "2:7: from: a token is looked for nowhere"),
        (format!("secret_file: {secret}\nfrom: [{{body: x}}]"), "2:9: from[0]"),
        (format!("secret_file: {secret}\nfrom: [{{header: a b}}]"), "from[0].header: this is not the name of a header"),
        (format!("secret_file: {secret}\nfrom: [{{protocol: 'a b'}}]"), "from[0].protocol: this is not the beginning"),
        (format!("secret_file: {secret}\nclaims: {{sub: host}}"), "2:15: claims.sub: host is a part of the protocol"),
        (format!("secret_file: {secret}\nclaims: {{sub: 'a b'}}"), "2:15: claims.sub: \"a b\" is not the name"),
        (format!("secret_file: {secret}\nexpiry_code: 1000"), "2:14: expiry_code: a code of one's own"),
        (format!("secret_file: {secret}\nrealm: 'a\"b'"), "2:8: realm: printable ASCII"),
        (format!("secret_file: {secret}\naudiense: chat"), "2:1: audiense: unknown key"),
    ] {
        let said = problems(&with);
        assert!(said.contains(told), "{with}\n-> {said}\nnot {told}");
    }
}
