//! Directives in force at a place, inherited as nginx inherits them: a level that has one of a name hides all of the
//! levels above.

use std::collections::HashMap;

use super::lex::Directive;
use crate::convert::quantity::nginx_time;

#[derive(Clone, Debug, Default)]
pub(super) struct NginxScope<'d> {
    by_name: HashMap<&'d str, Vec<&'d Directive>>,
}

impl<'d> NginxScope<'d> {
    /// The directives in force in a block that stands in this scope.
    pub(super) fn inside(&self, block: &'d [Directive]) -> Self {
        let mut here: HashMap<&str, Vec<&Directive>> = HashMap::new();
        for directive in block {
            here.entry(key(&directive.name)).or_default().push(directive);
        }
        let mut by_name = self.by_name.clone();
        by_name.extend(here);
        Self { by_name }
    }

    /// All directives of a name, in the order written. `allow` stands for `deny`, too.
    pub(super) fn all(&self, name: &str) -> &[&'d Directive] {
        self.by_name.get(key(name)).map_or(&[], Vec::as_slice)
    }

    /// The directive of a name.
    pub(super) fn one(&self, name: &str) -> Option<&'d Directive> {
        self.all(name).last().copied()
    }

    /// First argument of the directive of a name; empty where there is none.
    pub(super) fn word(&self, name: &str) -> &'d str {
        self.one(name).map_or("", |directive| directive.argument(0))
    }

    /// A time in milliseconds, within bounds.
    pub(super) fn time(&self, name: &str, least: u64, most: u64) -> Option<u64> {
        nginx_time(self.one(name)?.argument(0)).map(|time| time.clamp(least, most))
    }

    /// Tells whether a protection holds here that a file cannot carry.
    pub(super) fn is_protected(&self) -> bool {
        self.by_name.values().flatten().any(|directive| super::verdicts::is_protection(directive))
    }
}

fn key(name: &str) -> &str {
    if name == "deny" { "allow" } else { name }
}
