//! The configuration file: any text is a configuration or a list of problems, each at a place in the text, and in words
//! that no terminal takes for commands; comments and the kind of line ends mean nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::config::{self, KnownHooks, Loaded, Problem, Problems, Settings, Severity};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = config::parse(text, &AnyHooks);
    match &read {
        Ok(Loaded { config, warnings }) => {
            assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
            are_in_the_text(warnings, text);
            let again = config::parse(text, &AnyHooks).expect("it was read before");
            assert_eq!(format!("{config:?}"), format!("{:?}", again.config));
        }
        Err(problems) => {
            let list: Vec<Problem> = problems.iter().cloned().collect();
            assert!(list.iter().any(|problem| problem.severity == Severity::Error));
            are_in_the_text(&list, text);
            are_words(problems);
            assert_eq!(Some(problems), config::parse(text, &AnyHooks).as_ref().err());
        }
    }
    // In a text without line ends of its own kind, the other kind means the same.
    if !text.contains('\r')
        && let (Ok(loaded), Ok(other)) = (read, config::parse(&text.replace('\n', "\r\n"), &AnyHooks))
    {
        assert_eq!(format!("{:?}", loaded.config.upstreams), format!("{:?}", other.config.upstreams));
    }
});

fn are_in_the_text(problems: &[Problem], text: &str) {
    assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)));
    // A carriage return alone ends a line, too (YAML 1.2 §5.4).
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    for problem in problems {
        assert!((1..=lines + 1).contains(&problem.line) && problem.column >= 1, "{problem:?}");
        assert!(!problem.message.is_empty());
    }
}

fn are_words(problems: &Problems) {
    let said = problems.in_file("longhaul.yaml").to_string();
    assert!(!said.chars().any(|character| character.is_control() && character != '\n'), "{said:?}");
}

/// A program with two hooks, which take any settings.
struct AnyHooks;

impl KnownHooks for AnyHooks {
    fn names(&self) -> Vec<&str> {
        vec!["jwt", "headers"]
    }

    fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
        Ok(())
    }
}
