//! `hooks`: the hooks of a route, their order and their settings.

use std::time::Duration;

use super::keys;
use crate::config::model::HookEntry;
use crate::config::settings::Settings;
use crate::config::yaml::near::likely;
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, duration, one_of, text};
use crate::config::yaml::value::{Value, join};

/// The hooks of a program, as far as a configuration file refers to them.
pub trait KnownHooks {
    /// Names that the hooks are registered under, in the order in which messages list them.
    fn names(&self) -> Vec<&str>;

    /// Checks the settings of the hook `name`, one of [`KnownHooks::names`], with [`Settings::read`] as the type that
    /// the hook declares.
    ///
    /// # Errors
    /// `settings` do not fit the hook: all their problems.
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

/// [`KnownHooks`] together with their names, which are asked for once.
pub(crate) struct NamedHooks<'r> {
    known: &'r dyn KnownHooks,
    names: Vec<&'r str>,
}

impl<'r> From<&'r dyn KnownHooks> for NamedHooks<'r> {
    fn from(known: &'r dyn KnownHooks) -> Self {
        Self { known, names: known.names() }
    }
}

impl HookEntry {
    /// `timeout` of an entry that leaves it out.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
}

/// Most hooks of a route. Each one costs every request of the route, and a list repeated by aliases must stay small.
const MAX_HOOKS: usize = 64;

const TIMEOUT: DurationBounds =
    DurationBounds { least: Duration::from_millis(1), most: Duration::from_secs(3_600), example: "5s" };

const EXPECTED: &str = "a list of hooks, such as `- hook: NAME`";
const NAME: &str = "the name of a hook";

/// Reads `hooks`.
pub(crate) fn read(value: &Value<'_>, hooks: &NamedHooks<'_>, report: &mut Report) -> Option<Vec<HookEntry>> {
    let items = value.items(EXPECTED, report)?;
    if items.len() > MAX_HOOKS {
        let problem = value.error(format!("{} hooks on one route", items.len()));
        return report.refuse(problem.expected(format!("at most {MAX_HOOKS}")));
    }
    let entries: Vec<_> = items.iter().map(|item| read_entry(item, hooks, report)).collect();
    entries.into_iter().collect()
}

fn read_entry(value: &Value<'_>, hooks: &NamedHooks<'_>, report: &mut Report) -> Option<HookEntry> {
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
        // The settings are probably among the unknown keys.
        None if fields.had_unknown() => None,
        None => Some(without_settings()),
    };
    let timeout = fields.take_or("timeout", HookEntry::DEFAULT_TIMEOUT, |v| duration(v, &TIMEOUT, report));
    let name = name?;
    let settings = checked(&name, settings?, hooks, report);
    Some(HookEntry { name, settings: settings?, timeout: timeout? })
}

/// The name in `- jwt: { … }`, a form that other programs use.
fn settings_under_name<'h>(value: &Value<'_>, hooks: &'h NamedHooks<'_>) -> Option<&'h str> {
    let pairs = value.pairs("", &mut Report::default())?;
    let [(key, ..)] = pairs.as_slice() else { return None };
    hooks.names.iter().copied().find(|name| name == key && !keys::HOOK.keys.contains(name))
}

/// Reads the name of a registered hook.
fn registered(value: &Value<'_>, hooks: &NamedHooks<'_>, report: &mut Report) -> Option<String> {
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

fn checked(name: &str, settings: Settings, hooks: &NamedHooks<'_>, report: &mut Report) -> Option<Settings> {
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
