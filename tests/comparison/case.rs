//! The requests that are compared.

use std::collections::BTreeSet;

use serde::Deserialize;

/// One request, and where wanted the answer of the backend.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Name in the table.
    pub(crate) name: String,
    /// Its first line.
    #[serde(default = "get")]
    first: String,
    /// The line of its `Host`; none where empty.
    #[serde(default = "host")]
    host: String,
    /// Further lines of its head.
    #[serde(default)]
    lines: Vec<String>,
    /// The bytes behind its head.
    #[serde(default)]
    body: String,
    /// The client ends its side behind the request.
    #[serde(default)]
    pub(crate) half_close: bool,
    /// The table shows the answer alone, because what reaches the backend is a matter of luck.
    #[serde(default)]
    pub(crate) answer_only: bool,
    /// The bytes that the backend answers with before it closes; a plain 200, or the right 101, where left out.
    #[serde(default)]
    pub(crate) answer: Option<String>,
    /// Header fields that the table shows of what reached the backend.
    #[serde(default)]
    pub(crate) watch: Vec<String>,
    /// Header fields that the table shows of the answer, and the answer's body with them.
    #[serde(default)]
    pub(crate) watch_answer: Option<Vec<String>>,
    /// Why the three differ; empty where they do not.
    #[serde(default)]
    pub(crate) why: String,
}

fn get() -> String {
    "GET /a HTTP/1.1".to_owned()
}

fn host() -> String {
    "Host: h".to_owned()
}

impl Case {
    /// The bytes that the client sends. Texts of the file are bytes: each character up to U+00FF is one.
    pub(crate) fn request(&self) -> Vec<u8> {
        let host = Some(self.host.clone()).filter(|host| !host.is_empty());
        let lines = std::iter::once(self.first.clone()).chain(host).chain(self.lines.iter().cloned());
        let head: String = lines.map(|line| line + "\r\n").collect();
        bytes(&format!("{head}\r\n{}", self.body))
    }
}

pub(crate) fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).expect("a byte")).collect()
}

/// All of them. No two have the same name.
pub(crate) fn all() -> Vec<Case> {
    let cases: Vec<Case> = serde_yaml::from_str(include_str!("cases.yaml")).unwrap();
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "a name twice");
    cases
}
