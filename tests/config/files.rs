//! Files that a configuration names: every fault of them in one run, at the place that names them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use longhaul::config::{self, NoHooks};
use tempfile::TempDir;

use crate::certificates::{Authority, Issued, ending_in};
use crate::{golden_folder, said_of};

/// A folder with one file of every kind of wrong, and some right ones.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    let root = Authority::new("Root");
    let middle = root.intermediate("Middle");
    let chat = middle.issue(&["chat.example.com"]);
    let (right, wrong_way) = (format!("{}{}", chat.cert, middle.pem), format!("{}{}", middle.pem, chat.cert));
    chat.write(path, "alone");
    write("right.pem", &right);
    write("right.key", &chat.key);
    write("both.pem", &format!("{}{right}", chat.key));
    write("wrong_way.pem", &wrong_way);
    write("stranger_behind.pem", &format!("{}{}", chat.cert, Authority::new("Middle").pem));
    middle.issue(&["other.example.com"]).write(path, "other");
    let expired = |params: &mut rcgen::CertificateParams| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2019, 1, 1), rcgen::date_time_ymd(2020, 2, 3));
    };
    middle.issue_with(&["old.example.com"], expired).write(path, "expired");
    let from = |params: &mut rcgen::CertificateParams| params.not_before = rcgen::date_time_ymd(3001, 2, 3);
    middle.issue_with(&["new.example.com"], from).write(path, "not_yet");
    middle.issue(&[]).write(path, "nameless");
    write("text.pem", "this is no PEM file\n");
    write("empty.pem", "");
    write("damaged.pem", &chat.cert.replacen("MII", "!!!", 1));
    write("inside.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    write("cut.pem", chat.cert.split_once("-----END").unwrap().0);
    write("begin_cut.pem", &chat.cert.replacen("CERTIFICATE-----", "CERTIFICATE--", 1));
    write("indented.pem", &chat.cert.replace("-----BEGIN", "  -----BEGIN"));
    write("damaged.key", &chat.key.replacen("MI", "!!", 1));
    write("openssh.key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    for name in ["legacy", "weak", "weak_pkcs8", "curve", "ed448"] {
        let key = fs::read_to_string(golden_folder().join(format!("files/keys/{name}.key"))).unwrap();
        write(&format!("{name}.key"), &key);
        write(&format!("right_and_{name}.pem"), &format!("{key}{right}"));
    }
    write_sections(path, &chat, &middle.pem);
    write_forms(path, &chat.cert);
    write("nonsense.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    write("keys", "c2hvcnQ=\n");
    write("no_keys", "# none\n");
    write("blank_password", "\nsecret\n");
    write("password", "secret\n");
    fs::set_permissions(path.join("password"), Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(path.join("folder.pem")).unwrap();
    folder
}

/// Files in which a section of several is not as it should be, and one with sections and comments that are skipped.
fn write_sections(path: &Path, chat: &Issued, middle: &str) {
    let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    let Issued { cert, key } = chat;
    let other = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    let (ec, dh, request) = (other("EC PARAMETERS"), other("DH PARAMETERS"), other("CERTIFICATE REQUEST"));
    // The fault comes first: certificates are not always of as many lines.
    write("joined.pem", &format!("{}{cert}{middle}", dh.trim_end()));
    write("mark.pem", &format!("{dh}\u{feff}{cert}{middle}"));
    write("joined.key", &format!("{}{key}", dh.trim_end()));
    write("trusted.pem", &format!("{}{cert}", middle.replace("CERTIFICATE", "TRUSTED CERTIFICATE")));
    write("x509.pem", &format!("{}{cert}", middle.replace("CERTIFICATE", "X509 CERTIFICATE")));
    write("small.pem", &format!("{}{cert}", middle.replace("CERTIFICATE", "certificate")));
    write("small.key", &key.replace("PRIVATE KEY", "private key"));
    write("no_begin.pem", &format!("AAAA\n-----END CERTIFICATE-----\n{cert}"));
    write("hollow.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
    write("escaped.pem", &format!("{cert}{middle}").replace('\n', "\\n"));
    write("beside.key", &format!("{ec}{key}"));
    write("beside.pem", &format!("{dh}{cert}# the issuer\n\nMiddle\n======\n{middle}{request}"));
}

/// Files of other forms than PEM.
fn write_forms(path: &Path, cert: &str) {
    let write = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes).unwrap();
    write("archive.p12", b"\x30\x82\x0a\x00\x02\x01\x03\x30\x82\x09\xc0");
    write("certificate.der", b"\x30\x82\x05\x00\x30\x82\x04\x00");
    let wide: Vec<u8> = cert.encode_utf16().flat_map(u16::to_le_bytes).collect();
    write("wide.pem", &wide);
    write("marked_wide.pem", &[b"\xff\xfe", wide.as_slice()].concat());
}

/// The answer to a configuration whose `{dir}` stands for `folder`, with the folder written as `{dir}` again.
fn said(yaml: &str, name: &str, folder: &Path) -> String {
    let dir = folder.to_str().unwrap();
    let path = folder.join(name);
    fs::write(&path, yaml.replace("{dir}", dir)).unwrap();
    let said = match config::load(&path, &NoHooks) {
        Ok(loaded) => said_of(Ok(&loaded), name),
        Err(error) => error.to_string() + "\n",
    };
    said.replace(&format!("{dir}/{name}"), name).replace(dir, "{dir}")
}

#[test]
fn every_fault_of_files_is_told_in_one_run_at_the_place_that_names_them() {
    let folder = folder();
    let mut wrong = String::new();
    let kept = ["pushed_members", "pushed_members_kept"];
    let files = ["wrong_files", "wrong_keys", "wrong_files_and_keys", "right_files", "upstream_files", "etcd_files"];
    for name in files.into_iter().chain(["wrong_sections", "wrong_forms"]).chain(kept) {
        let golden = golden_folder().join("files");
        let yaml = fs::read_to_string(golden.join(format!("{name}.yaml"))).unwrap();
        let said = said(&yaml, &format!("{name}.yaml"), folder.path());
        let beside = golden.join(format!("{name}.expected"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&beside, &said).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            wrong += &format!("--- {name}: expected\n{expected}--- {name}: said\n{said}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_certificate_is_warned_of_from_fourteen_days_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::new("Root");
    let day = Duration::from_secs(86_400);
    let yaml = "version: 1\nlisteners:\n  - address: 127.0.0.1:0\n    tls:\n      certificates:\n        \
                - { cert: '{dir}/a.pem', key: '{dir}/a.key' }\nroutes: [{ upstream: u }]\n\
                upstreams: { u: { backends: [127.0.0.1:9001] } }\n";
    for (left, warned) in [(13 * day, true), (15 * day, false)] {
        root.issue_with(&["a.example.com"], ending_in(left)).write(folder.path(), "a");
        let said = said(yaml, "a.yaml", folder.path());
        assert_eq!(said.contains("a.yaml:6:19: warning: listeners[0].tls.certificates[0].cert: "), warned, "{said}");
        assert_eq!(said.contains("the certificate in {dir}/a.pem expires on "), warned, "{said}");
    }
}
