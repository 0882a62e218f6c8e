//! Answers that a file is written from, each accepted by the reader of configuration files.

use super::file;
use super::questions::GivenAnswers;
use crate::config::{self, NoHooks};

/// The three answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    /// Address of the listener, as it is written into the file.
    pub(super) listen: String,
    /// Addresses of the backends, at least one.
    pub(super) backends: Vec<String>,
    /// Key that keeps a client on its backend.
    pub(super) affinity: Affinity,
}

/// Key that keeps a client on its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    /// A cookie that the gateway sets.
    IssueCookie,
    /// A session cookie that backends set.
    Session(String),
    /// A cookie that is there before a backend is picked.
    Cookie(String),
    /// A request header.
    Header(String),
    /// An argument of the request's URL.
    Query(String),
    /// The client's address.
    ClientIp,
    /// Nothing: the backend with the fewest tunnels and requests is picked.
    None,
}

/// Why an answer is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// No backend was named, and there is nobody to ask.
    #[error("there is no terminal to ask on; name the backends with `--backend ADDRESS`")]
    NoBackend,
    /// The word names no kind of affinity.
    #[error(
        "--affinity {0}: not known\n  expected: issue_cookie, session=COOKIE, cookie=NAME, header=NAME, query=NAME, \
         client_ip or none"
    )]
    UnknownAffinity(String),
    /// A configuration file with this answer in it would be refused.
    #[error("--{option} {answer}: {problem}")]
    Refused {
        /// The option that the answer belongs to.
        option: &'static str,
        /// The answer.
        answer: String,
        /// Words of the reader of configuration files.
        problem: String,
    },
}

impl Answers {
    /// Answers for what is not given: those of a command that nobody is asked by.
    pub(super) fn preset() -> Self {
        Self { listen: LISTEN.to_owned(), backends: vec![BACKEND.to_owned()], affinity: Affinity::IssueCookie }
    }

    /// The answers that options give, and preset ones for the rest.
    ///
    /// # Errors
    /// An answer is refused.
    pub(super) fn of_options(given: &GivenAnswers) -> Result<Self, Wrong> {
        let mut answers = Self::preset();
        if let Some(listen) = &given.listen {
            answers.set_listen(listen)?;
        }
        if !given.backends.is_empty() {
            answers.set_backends(given.backends.clone())?;
        }
        if let Some(affinity) = &given.affinity {
            answers.set_affinity(affinity)?;
        }
        Ok(answers)
    }

    pub(super) fn set_listen(&mut self, listen: &str) -> Result<(), Wrong> {
        let changed = Self { listen: listen.to_owned(), ..Self::preset() };
        changed.accepted("listen", listen)?;
        self.listen = changed.listen;
        Ok(())
    }

    /// Takes the backends, each judged alone, and then together.
    pub(super) fn set_backends(&mut self, backends: Vec<String>) -> Result<(), Wrong> {
        for backend in &backends {
            Self { backends: vec![backend.clone()], ..Self::preset() }.accepted("backend", backend)?;
        }
        let all = backends.join(",");
        let changed = Self { backends, ..Self::preset() };
        changed.accepted("backend", &all)?;
        self.backends = changed.backends;
        Ok(())
    }

    pub(super) fn set_affinity(&mut self, affinity: &str) -> Result<(), Wrong> {
        let kind = Affinity::of(affinity).ok_or_else(|| Wrong::UnknownAffinity(affinity.to_owned()))?;
        let changed = Self { affinity: kind, ..Self::preset() };
        changed.accepted("affinity", affinity)?;
        self.affinity = changed.affinity;
        Ok(())
    }

    /// Reads the file that these answers make, as `longhaul check` would.
    fn accepted(&self, option: &'static str, answer: &str) -> Result<(), Wrong> {
        let Err(problems) = config::parse(&file::text(self), &NoHooks) else { return Ok(()) };
        let first = problems.iter().next().map(|problem| problem.without_place().to_string());
        Err(Wrong::Refused { option, answer: answer.to_owned(), problem: first.unwrap_or_default() })
    }
}

impl Affinity {
    /// Reads `KIND` or `KIND=NAME`; `None` for a word that is not known.
    fn of(text: &str) -> Option<Self> {
        let name = |name: &str| name.trim().to_owned();
        Some(match text.split_once('=') {
            Some(("session", cookie)) => Self::Session(name(cookie)),
            Some(("cookie", cookie)) => Self::Cookie(name(cookie)),
            Some(("header", header)) => Self::Header(name(header)),
            Some(("query", argument)) => Self::Query(name(argument)),
            Some(_) => return None,
            None => match text {
                "issue_cookie" => Self::IssueCookie,
                "client_ip" => Self::ClientIp,
                "none" => Self::None,
                _ => return None,
            },
        })
    }
}

/// The listener where none is named: nginx's choice of addresses, and a port without privileges.
const LISTEN: &str = "0.0.0.0:8080";
/// A backend that stands in while other answers are judged.
const BACKEND: &str = "127.0.0.1:9001";
