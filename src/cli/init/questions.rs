//! The three questions, on a terminal. A wrong answer is explained, and the question asked again.

use std::io::{self, BufRead};

use super::answers::{Answers, Wrong};
use crate::cli::output::complain;

/// Answers that options gave.
#[derive(Debug)]
pub(super) struct GivenAnswers {
    pub(super) listen: Option<String>,
    pub(super) backends: Vec<String>,
    pub(super) affinity: Option<String>,
}

impl GivenAnswers {
    /// Tells whether nothing is left to be asked.
    pub(super) fn is_whole(&self) -> bool {
        self.listen.is_some() && !self.backends.is_empty() && self.affinity.is_some()
    }
}

/// Asks for what is not given, beginning from the answers that options gave.
///
/// # Errors
/// The input cannot be read, or ended before the last answer.
pub(super) fn ask(input: &mut impl BufRead, given: &GivenAnswers, mut answers: Answers) -> io::Result<Answers> {
    complain("Enter takes the answer in brackets.\n");
    if given.listen.is_none() {
        until_taken(input, LISTEN, |text| match text {
            "" => Ok(()),
            text => answers.set_listen(text),
        })?;
    }
    if given.backends.is_empty() {
        until_taken(input, BACKENDS, |text| {
            let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
            let backends: Vec<_> = words.map(str::to_owned).collect();
            if backends.is_empty() { Err(Wrong::NoBackend) } else { answers.set_backends(backends) }
        })?;
    }
    if given.affinity.is_none() {
        until_taken(input, AFFINITY, |text| match text {
            "" => Ok(()),
            text => answers.set_affinity(text),
        })?;
    }
    Ok(answers)
}

/// Asks until an answer is taken.
fn until_taken(
    input: &mut impl BufRead,
    question: &str,
    mut take: impl FnMut(&str) -> Result<(), Wrong>,
) -> io::Result<()> {
    loop {
        complain(question);
        match take(&line(input)?) {
            Ok(()) => return Ok(()),
            Err(Wrong::NoBackend) => complain("  at least one is needed, such as 127.0.0.1:9001\n"),
            Err(Wrong::Refused { answer, problem, .. }) => complain(format_args!("  {answer}: {problem}\n")),
            Err(Wrong::UnknownAffinity(answer)) => complain(format_args!("  {answer} is none of these\n")),
        }
    }
}

/// The next line of at most [`LONGEST`] bytes, without blanks around it.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    let read = io::Read::take(&mut *input, LONGEST).read_line(&mut text)?;
    match read {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answers ended")),
        _ => Ok(text.trim().to_owned()),
    }
}

/// Longer than any answer; a terminal's own limit of a line is 4 KiB.
const LONGEST: u64 = 64 << 10;

const LISTEN: &str = "1. Which address do clients connect to? [0.0.0.0:8080]";
const BACKENDS: &str =
    "2. Where are your backends? IP addresses or host names with ports, such as 10.0.0.11:9001, 10.0.0.12:9001";
const AFFINITY: &str = "\
3. What keeps a client on its backend? [issue_cookie]
     issue_cookie     a cookie that Longhaul sets
     session=COOKIE   a session cookie that your backends set, such as session=JSESSIONID
     cookie=NAME      a cookie that is set elsewhere, such as by a login service
     header=NAME, query=NAME
     client_ip        the client's address
     none             nothing: the backend with the fewest tunnels and requests is picked";
