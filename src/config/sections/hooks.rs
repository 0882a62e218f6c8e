//! The hooks of a route: which ones, in which order, with which settings.

use std::time::Duration;

use super::keys;
use crate::config::model::HookEntry;
use crate::config::settings::Settings;
use crate::config::yaml::near::likely;
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{Span, duration, one_of, text};
use crate::config::yaml::value::{Value, join};

/// The hooks that a program has, as far as a configuration file must know them.
pub trait KnownHooks {
    /// The names that they are registered by, in the order in which they are to be told.
    fn names(&self) -> Vec<&str>;

    /// Checks the settings of the hook `name`, which is one of [`KnownHooks::names`]: with [`Settings::read`], as the
    /// type that the hook declares.
    ///
    /// # Errors
    /// Everything that is wrong with `settings`.
    fn check(&self, name: &str, settings: &Settings) -> Result<(), Vec<Problem>>;
}

/// A program without hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoHooks;

impl KnownHooks for NoHooks {
    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn check(&self, _: &str, _: &Settings) -> Result<(), Vec<Problem>> {
        Ok(())
    }
}

/// [`KnownHooks`], asked once for their names.
pub(crate) struct Registered<'r> {
    known: &'r dyn KnownHooks,
    names: Vec<&'r str>,
}

impl<'r> From<&'r dyn KnownHooks> for Registered<'r> {
    fn from(known: &'r dyn KnownHooks) -> Self {
        Self { known, names: known.names() }
    }
}

impl HookEntry {
    /// `timeout` where it is left out.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// Each hook of a route costs every one of its requests; nobody needs more, and a list repeated by aliases stays small.
const MAX_HOOKS: usize = 64;

const TIMEOUT: Span = Span { least: Duration::from_millis(1), most: Duration::from_secs(3_600), example: "5s" };

const EXPECTED: &str = "a list of hooks, such as `- hook: NAME`";
const NAME: &str = "the name of a hook";

/// Reads `hooks`.
pub(crate) fn read(value: &Value<'_>, hooks: &Registered<'_>, report: &mut Report) -> Option<Vec<HookEntry>> {
    let items = value.items(EXPECTED, report)?;
    if items.len() > MAX_HOOKS {
        let problem = value.error(format!("{} hooks on one route", items.len()));
        return report.refuse(problem.expected(format!("at most {MAX_HOOKS}")));
    }
    let entries: Vec<_> = items.iter().map(|item| read_entry(item, hooks, report)).collect();
    entries.into_iter().collect()
}

fn read_entry(value: &Value<'_>, hooks: &Registered<'_>, report: &mut Report) -> Option<HookEntry> {
    let without_settings = || Settings::left_out(value.mark(), join(&value.path(), "with"));
    if value.text().is_some() {
        let name = registered(value, hooks, report)?;
        let settings = checked(&name, without_settings(), hooks, report)?;
        return Some(HookEntry { name, settings, timeout: HookEntry::DEFAULT_TIMEOUT });
    }
    if let Some(name) = settings_under_name(value, hooks) {
        let problem = value.error(format!("settings are not written under the name of the hook, {}", quoted(name)));
        let remedy = format!("write `hook: {name}`, and its settings beside that under `with:`");
        return report.refuse(problem.expected("a mapping with the keys hook, with, timeout").remedy(remedy));
    }
    let mut fields = keys::HOOK.fields(value, report)?;
    let name = fields.required("hook", NAME, report).and_then(|v| registered(&v, hooks, report));
    let settings = match fields.take("with") {
        Some(with) if with.is_null() => report.refuse(with.wrong("the settings of the hook")),
        Some(with) => Some(Settings::of(&with)),
        // They are written elsewhere.
        None if fields.had_unknown() => None,
        None => Some(without_settings()),
    };
    let timeout = fields.take_or("timeout", HookEntry::DEFAULT_TIMEOUT, |v| duration(v, &TIMEOUT, report));
    let name = name?;
    let settings = checked(&name, settings?, hooks, report);
    Some(HookEntry { name, settings: settings?, timeout: timeout? })
}

/// `- jwt: { … }`, as it is written in other places.
fn settings_under_name<'h>(value: &Value<'_>, hooks: &'h Registered<'_>) -> Option<&'h str> {
    let pairs = value.pairs("", &mut Report::default())?;
    let [(key, ..)] = pairs.as_slice() else { return None };
    hooks.names.iter().copied().find(|name| name == key && !keys::HOOK.keys.contains(name))
}

/// The name of a hook that there is.
fn registered(value: &Value<'_>, hooks: &Registered<'_>, report: &mut Report) -> Option<String> {
    let name = text(value, NAME, report)?;
    if hooks.names.contains(&name) {
        return Some(name.to_owned());
    }
    let problem = value.error(format!("there is no hook {}", quoted(name)));
    report.refuse(match likely(name, &hooks.names) {
        _ if hooks.names.is_empty() => problem.remedy("this program has no hooks"),
        Some(near) => problem.expected(one_of(&hooks.names)).remedy(format!("did you mean `{near}`?")),
        None => problem.expected(one_of(&hooks.names)),
    })
}

fn checked(name: &str, settings: Settings, hooks: &Registered<'_>, report: &mut Report) -> Option<Settings> {
    match hooks.known.check(name, &settings) {
        Ok(()) => Some(settings),
        Err(problems) => {
            problems.into_iter().for_each(|problem| report.push(problem));
            if !report.has_errors() {
                report.push(settings.problem("", format!("{} refuses its settings", quoted(name))));
            }
            None
        }
    }
}
