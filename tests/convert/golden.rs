//! Each source of `tests/convert` becomes the file beside it, which `longhaul check` takes.
//!
//! `UPDATE_GOLDEN=1 cargo test --test convert golden` writes the files anew; read the difference before committing it.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::certificates::Authority;
use crate::{longhaul, sources, text};

#[test]
fn every_source_becomes_the_file_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let sources = sources();
    assert!(sources.len() >= 35, "only {} sources", sources.len());
    for source in sources {
        let name = source.to_str().unwrap();
        let output = longhaul(&["convert", name]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        for (extension, found) in [("expected", text(&output.stdout)), ("summary", text(&output.stderr))] {
            let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(source.with_extension(extension));
            if update {
                std::fs::write(&beside, &found).unwrap();
            }
            let expected = std::fs::read_to_string(&beside).unwrap_or_default();
            if found != expected {
                write!(wrong, "--- {name}: expected\n{expected}--- {name}: found\n{found}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_expected_file_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let issued = Authority::new("lab").issue(&["lab.example.com"]);
    let pem = format!("{}{}", issued.cert, issued.key);
    let mut tls = 0;
    for source in sources() {
        let converted = Path::new(env!("CARGO_MANIFEST_DIR")).join(source.with_extension("expected"));
        let mut yaml = std::fs::read_to_string(&converted).unwrap();
        // The files of other machines, which the check reads.
        for file in named_files(&yaml) {
            let here = dir.path().join(file.trim_start_matches('/').replace('/', "-"));
            std::fs::write(&here, &pem).unwrap();
            yaml = yaml.replace(&format!(": {file}"), &format!(": {}", here.display()));
            tls += 1;
        }
        let path = dir.path().join("longhaul.yaml");
        std::fs::write(&path, &yaml).unwrap();
        let output = longhaul(&["check", "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}\n{yaml}", source.display(), text(&output.stderr));
    }
    assert!(tls >= 10, "only {tls} files were named");
}

/// Files that keys of TLS name.
fn named_files(yaml: &str) -> Vec<String> {
    let lines = yaml.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split([' ', ',', '{', '}']).filter(|word| !word.is_empty()));
    let words: Vec<&str> = words.collect();
    let of_key = |pair: &[&str]| matches!(pair[0], "cert:" | "key:" | "ca:" | "certificate:");
    let mut files: Vec<String> = words.windows(2).filter(|pair| of_key(pair)).map(|pair| pair[1].to_owned()).collect();
    // The longest first, so that no path is taken for the beginning of another one.
    files.sort_by_key(|file| std::cmp::Reverse(file.len()));
    files.dedup();
    files
}

#[test]
fn every_expected_file_has_its_source() {
    for folder in ["nginx", "haproxy", "envoy"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert").join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_expected = path.extension().is_some_and(|found| found == "expected" || found == "summary");
            let has = ["conf", "cfg", "yaml", "json"].iter().any(|source| path.with_extension(source).exists());
            assert!(!is_expected || has, "{} has no source", path.display());
        }
    }
}

#[test]
fn each_kind_is_found_by_its_content() {
    use longhaul::convert::SourceFormat;
    for source in sources() {
        let content = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&source)).unwrap();
        let kind = match source.parent().unwrap().file_name().unwrap().to_str().unwrap() {
            "nginx" => SourceFormat::Nginx,
            "haproxy" => SourceFormat::Haproxy,
            _ => SourceFormat::Envoy,
        };
        assert_eq!(SourceFormat::of(&content), Some(kind), "{}", source.display());
    }
    for text in ["", "# nothing\n", "hello world\n", "version: 1\nlisteners: []\n"] {
        assert_eq!(SourceFormat::of(text), None, "{text:?}");
    }
}
