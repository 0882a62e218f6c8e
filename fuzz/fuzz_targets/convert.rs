//! Configurations of other programs: any text is a list of problems at places in it, or a file that the configuration's
//! own parser takes, in words that no terminal takes for commands.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use longhaul::config::{KnownHooks, Problem, Settings};
use longhaul::convert::{ConvertError, Files, SourceFormat, convert};

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let kind = [SourceFormat::Nginx, SourceFormat::Haproxy, SourceFormat::Envoy][usize::from(first % 3)];
    match convert(Path::new("main"), Some(kind), &Alone(text), &Stock) {
        Ok(converted) => {
            let refused = converted.refused.map(|problems| problems.in_file("result").to_string());
            assert_eq!(refused, None, "{}", converted.text);
            let is_control = |c: char| c.is_control() && c != '\n';
            assert!(!converted.text.contains(is_control) && !converted.summary.contains(is_control));
        }
        Err(ConvertError::Refused(problems)) => {
            // A carriage return alone ends a line of YAML, too.
            let lines = text.split(['\n', '\r']).count() + 1;
            assert!(!problems.is_empty() && problems.iter().all(|problem| (1..=lines).contains(&problem.place.line)));
        }
        Err(other) => panic!("{other}"),
    }
});

/// One file that includes itself by any name.
struct Alone<'t>(&'t str);

impl Files for Alone<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("main") { Ok(self.0.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn matching(&self, _: &Path) -> Vec<PathBuf> {
        vec![PathBuf::from("main")]
    }

    fn variable(&self, name: &str) -> Option<String> {
        (!name.starts_with('N')).then(|| name.to_owned())
    }
}

/// The stock hooks that a conversion names, whose settings are not looked at.
struct Stock;

impl KnownHooks for Stock {
    fn names(&self) -> Vec<&str> {
        vec!["headers", "ip_filter", "rate_limit"]
    }

    fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
        Ok(())
    }
}
