//! The configuration as its users meet it: golden files of every complaint, and the files that come with Longhaul.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use longhaul::config::{self, LoadError, Loaded, Problem, Problems};

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// What there is to say about a file named `file`: its problems or warnings, or `ok`.
fn said_of(read: Result<&Loaded, &Problems>, file: &str) -> String {
    let said = match read {
        Err(problems) => problems.in_file(file).to_string(),
        Ok(Loaded { warnings, .. }) if warnings.is_empty() => format!("{file}: ok"),
        Ok(Loaded { warnings, .. }) => {
            let lines: Vec<_> = warnings.iter().map(|warning| warning.in_file(file).to_string()).collect();
            lines.join("\n")
        }
    };
    said + "\n"
}

fn names_with(extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(golden_folder()).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// `UPDATE_GOLDEN=1 cargo test --test config` writes what is said now beside each file; read the difference before
/// committing it.
#[test]
fn every_golden_file_gets_the_answer_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for name in names_with("yaml") {
        let text = fs::read_to_string(golden_folder().join(format!("{name}.yaml"))).unwrap();
        let said = said_of(config::parse(&text).as_ref(), &format!("{name}.yaml"));
        let beside = golden_folder().join(format!("{name}.expected"));
        if update {
            fs::write(&beside, &said).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            write!(wrong, "--- {name}: expected\n{expected}--- {name}: said\n{said}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_golden_answer_has_its_file() {
    let orphans: Vec<_> = names_with("expected").difference(&names_with("yaml")).cloned().collect();
    assert!(orphans.is_empty(), "without a file: {orphans:?}");
}
