//! Files of `longhaul init`: each is a configuration without a fault, whatever was answered.

use super::answers::{Affinity, Answers};
use super::file;
use super::questions::{GivenAnswers, ask};
use crate::config::{self, NoHooks};

fn given(listen: &str, backends: &[&str], affinity: &str) -> GivenAnswers {
    let backends = backends.iter().map(|&backend| backend.to_owned()).collect();
    GivenAnswers { listen: Some(listen.to_owned()), backends, affinity: Some(affinity.to_owned()) }
}

fn nothing() -> GivenAnswers {
    GivenAnswers { listen: None, backends: Vec::new(), affinity: None }
}

/// Reads a file, which has neither a problem nor a warning.
fn read(text: &str) -> config::Config {
    let loaded = config::parse(text, &NoHooks).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert!(loaded.warnings.is_empty(), "{:?}\n{text}", loaded.warnings);
    loaded.config
}

const KINDS: [&str; 7] =
    ["issue_cookie", "session=JSESSIONID", "cookie=account", "header=x-room", "query=room", "client_ip", "none"];

#[test]
fn every_kind_of_answer_makes_a_file_that_says_just_that() {
    for kind in KINDS {
        let answers = Answers::of_options(&given("[::1]:8443", &["127.0.0.1:9001", "[::1]:9002"], kind)).unwrap();
        let text = file::text(&answers);
        let config = read(&text);
        assert_eq!(config.listeners[0].address.to_string(), "[::1]:8443");
        let upstream = &config.upstreams[0];
        let addresses: Vec<_> = upstream.backends.iter().map(|backend| backend.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:9001", "[::1]:9002"]);
        assert!(upstream.health.is_some());
        let sources = format!("{:?}", upstream.affinity);
        let word = kind.split('=').nth(1).unwrap_or(match kind {
            "issue_cookie" => "IssueCookie",
            "client_ip" => "ClientIp",
            _ => "[]",
        });
        assert!(sources.contains(word), "{kind}: {sources}");
    }
}

#[test]
fn every_key_that_is_off_can_be_turned_on() {
    for kind in KINDS {
        let text = file::text(&Answers::of_options(&given("127.0.0.1:8080", &["chat.internal:9001"], kind)).unwrap());
        let mut turned_on = 0;
        let on: String = text
            .lines()
            .map(|line| {
                let key = line.trim_start().strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic));
                turned_on += usize::from(key.is_some());
                line.replacen('#', if key.is_some() { "" } else { "#" }, 1) + "\n"
            })
            .collect();
        assert!(turned_on >= 12, "{turned_on}");
        // The certificate is not here; nothing else is wrong.
        let Err(problems) = config::parse(&on, &NoHooks) else { continue };
        let others: Vec<_> = problems.iter().filter(|one| !one.message.contains("No such file")).collect();
        assert!(others.is_empty(), "{others:?}\n{on}");
    }
}

#[test]
fn names_that_yaml_reads_as_something_else_stay_names() {
    for name in ["true", "null", "on", "123", "1.5", "~x", "Off"] {
        let answers = Answers::of_options(&given("127.0.0.1:80", &["127.0.0.1:1"], &format!("cookie={name}"))).unwrap();
        let config = read(&file::text(&answers));
        assert_eq!(config.upstreams[0].affinity[0], config::AffinitySource::Cookie(name.to_owned()));
    }
}

#[test]
fn an_answer_that_no_file_may_have_is_refused_with_the_readers_own_words() {
    for (listen, backends, affinity, option) in [
        ("127.0.0.1:99999", &["127.0.0.1:1"][..], "none", "--listen 127.0.0.1:99999: "),
        ("localhost:80", &["127.0.0.1:1"], "none", "--listen localhost:80: "),
        ("127.0.0.1:80", &["127.0.0.1"], "none", "--backend 127.0.0.1: "),
        ("127.0.0.1:80", &["127.0.0.1:1", "127.0.0.1:1"], "none", "--backend 127.0.0.1:1,127.0.0.1:1: "),
        ("127.0.0.1:80", &["x\n  - y: 1"], "none", "--backend x\n"),
        ("127.0.0.1:80", &["127.0.0.1:1"], "cookie=a b", "--affinity cookie=a b: "),
        ("127.0.0.1:80", &["127.0.0.1:1"], "cookie=", "--affinity cookie=: "),
        ("127.0.0.1:80", &["127.0.0.1:1"], "luck", "--affinity luck: not known"),
    ] {
        let wrong = Answers::of_options(&given(listen, backends, affinity)).unwrap_err().to_string();
        assert!(wrong.starts_with(option), "{option:?}: {wrong}");
    }
}

#[test]
fn a_wrong_answer_is_asked_for_again_and_an_empty_one_is_the_one_in_brackets() {
    let typed = "nowhere\n127.0.0.1:8081\n\n  \n127.0.0.1:9001, 127.0.0.1:9002\nluck\nheader=x-room\n";
    let answers = ask(&mut typed.as_bytes(), &nothing(), Answers::preset()).unwrap();
    let backends = ["127.0.0.1:9001", "127.0.0.1:9002"].map(str::to_owned).to_vec();
    let affinity = Affinity::Header("x-room".to_owned());
    assert_eq!(answers, Answers { listen: "127.0.0.1:8081".to_owned(), backends: backends.clone(), affinity });

    let answers = ask(&mut "\n127.0.0.1:9001 127.0.0.1:9002\n\n".as_bytes(), &nothing(), Answers::preset()).unwrap();
    assert_eq!(answers, Answers { backends, ..Answers::preset() });
}

#[test]
fn answers_that_end_too_soon_write_nothing() {
    let error = ask(&mut "\n127.0.0.1:9001\n".as_bytes(), &nothing(), Answers::preset()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn an_answer_given_by_an_option_is_not_asked_for() {
    let rest = GivenAnswers { affinity: None, ..given("127.0.0.1:81", &["127.0.0.1:2"], "none") };
    let from_options = Answers::of_options(&rest).unwrap();
    let answers = ask(&mut "client_ip\n".as_bytes(), &rest, from_options).unwrap();
    assert_eq!((&*answers.listen, answers.affinity), ("127.0.0.1:81", Affinity::ClientIp));
}
