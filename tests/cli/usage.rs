//! Usage: what is wrong about it, help, and output that cannot be written.

use std::process::{Command, Stdio};

use super::{CONFIG, file, longhaul, stderr, stdout};

#[test]
fn wrong_usage_exits_2_with_a_word_on_what_is_right() {
    let (_dir, path) = file(CONFIG);
    for (arguments, hint) in [
        (&[][..], "-c FILE"),
        (&["--nonsense"], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["-d"], "--conf"),
        (&["-t"], "--conf"),
        (&["check"], "FILE"),
        (&["-c"], "FILE"),
        (&["-c", &path, "check", &path], "check"),
        (&["where", "-c", &path], "--ip"),
        (&["where", "-c", &path, "--ip", "nobody"], "nobody"),
        (&["where", "-c", &path, "--ip", "::1", "--path", "ws"], "a path begins with /"),
        (&["where", "-c", &path, "--ip", "::1", "--cookie", "x"], "NAME=VALUE"),
        (&["where", "-c", &path, "--ip", "::1", "--header", "x"], "NAME=VALUE"),
        (&["where", "-c", &path, "--ip", "::1", "--header", "a b=c"], "--header"),
        (&["demo", "--listen", "8080"], "write an IP address and a port, as in 127.0.0.1:8080"),
    ] {
        let output = longhaul(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure_and_one_that_nobody_reads_is_none() {
    let (_dir, path) = file(CONFIG);
    for arguments in [
        &["check", "-c", &path][..],
        &["-t", "-c", &path],
        &["where", "-c", &path, "--ip", "127.0.0.1"],
        &["plan", &path, &path],
        &["--help"],
    ] {
        let run = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
            command.args(arguments).stdin(Stdio::null()).stdout(stdout).output().unwrap()
        };
        let full = run(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
        let said = stderr(&full);
        assert_eq!((full.status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
        assert!(said.starts_with("longhaul: standard output cannot be written: "), "{arguments:?}: {said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = run(writer.into());
        assert_eq!((unread.status.code(), &*stderr(&unread)), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn help_tells_of_every_command_and_every_flag() {
    let help = stdout(&longhaul(&["--help"]));
    for part in ["check", "where", "demo", "-c, --conf <FILE>", "-d, --daemon", "-u, --upgrade", "-t, --test", "-V"] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 wrong usage") && help.contains("Signals: "), "{help}");
    for arguments in
        [&["--help"][..], &["check", "--help"], &["where", "--help"], &["demo", "--help"], &["help", "where"]]
    {
        let output = longhaul(arguments);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{arguments:?}");
        let help = stdout(&output);
        let lines: Vec<&str> = help.lines().collect();
        let flags = lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with('-'));
        for (at, line) in flags {
            // A flag's meaning stands behind it, or on the next line.
            let behind = line.trim_start().split_once("  ").is_some_and(|(_, text)| !text.trim().is_empty());
            let below = lines.get(at + 1).is_some_and(|next| next.starts_with("          ") && !next.trim().is_empty());
            assert!(behind || below, "{arguments:?}: {line:?} says nothing");
        }
    }
    let short = stdout(&longhaul(&["-h"]));
    assert!(short.contains("Usage: longhaul"), "{short}");
}

#[test]
fn the_version_is_the_packages() {
    for flag in ["--version", "-V"] {
        let output = longhaul(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stdout(&output), format!("longhaul {}\n", env!("CARGO_PKG_VERSION")));
    }
}
