//! Settings of hooks: any text is accepted or refused with problems, by each hook that ships and by a type with a field
//! of every kind; what was read of the latter is read the same from its JSON, which is YAML.
//!
//! The first byte chooses the hook.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use longhaul::config::{Cidr, KnownHooks, Period, Settings, Size};
use longhaul::hook::HookRegistry;
use serde::{Deserialize, Serialize};

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // Some settings name files, and these are read.
    if ["/dev", "/proc", "/sys", ".."].iter().any(|place| text.contains(place)) {
        return;
    }
    let Ok(settings) = Settings::parse(text) else { return };
    assert_eq!(Settings::parse(text).as_ref(), Ok(&settings));
    let names = HOOKS.names();
    let name = names[usize::from(*choice) % names.len()];
    if let Err(problems) = HOOKS.check(name, &settings) {
        assert!(!problems.is_empty());
        let told: String = problems.iter().map(|problem| problem.to_string()).collect();
        assert!(!told.contains("panicked"), "{told}");
        assert!(!told.chars().any(|character| character.is_control() && character != '\n'), "{told:?}");
    }
    let _ = settings.read::<Quantities>();
    if let Ok(read) = settings.read::<Everything>() {
        let json = serde_json::to_string(&read).expect("plain values");
        let again = Settings::parse(&json).expect("JSON is YAML").read::<Everything>();
        assert_eq!(again.as_ref(), Ok(&read), "{json}");
    }
});

static HOOKS: LazyLock<HookRegistry> = LazyLock::new(longhaul::stock::registry);

/// Fields of the kinds that the file's own keys have.
#[derive(Deserialize)]
#[expect(dead_code, reason = "they are read, and that is all")]
struct Quantities {
    period: Option<Period>,
    size: Option<Size>,
    network: Option<Cidr>,
}

/// Fields of the kinds that serde knows.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    #[serde(default)]
    flag: bool,
    #[serde(default)]
    number: i64,
    #[serde(default)]
    small: Option<u8>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    letter: Option<char>,
    #[serde(default)]
    list: Vec<u32>,
    #[serde(default)]
    pair: (i8, String),
    #[serde(default)]
    map: BTreeMap<String, String>,
    #[serde(default)]
    choice: Option<Choice>,
    #[serde(default)]
    inner: Option<Box<Everything>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    One,
    Wrapped(u16),
    Two(i32, bool),
    Named { a: String },
}
