//! A frontend, backend or listen section with the defaults that it inherits.

use super::words::{Section, Statement};
use crate::convert::place::SourceLine;
use crate::convert::quantity::haproxy_time;

/// A section that traffic goes through.
pub(super) struct Proxy<'s> {
    pub(super) kind: &'s str,
    pub(super) name: &'s str,
    section: &'s Section,
    defaults: Option<&'s Section>,
}

/// All sections that traffic goes through, each with the `defaults` before it, or those it names.
pub(super) fn all(sections: &[Section]) -> Vec<Proxy<'_>> {
    let mut latest = None;
    let mut proxies = Vec::new();
    for section in sections {
        match section.kind.as_str() {
            "defaults" => latest = Some(section),
            "frontend" | "backend" | "listen" => {
                let named = section
                    .from
                    .as_ref()
                    .and_then(|name| sections.iter().find(|other| other.kind == "defaults" && other.name == *name));
                let (kind, name) = (section.kind.as_str(), section.name.as_str());
                proxies.push(Proxy { kind, name, section, defaults: named.or(latest) });
            }
            _ => {}
        }
    }
    proxies
}

impl<'s> Proxy<'s> {
    pub(super) fn is_frontend(&self) -> bool {
        self.kind != "backend"
    }

    pub(super) fn is_backend(&self) -> bool {
        self.kind != "frontend"
    }

    pub(super) fn line(&self) -> SourceLine {
        SourceLine::new(&self.section.place, &[self.kind, self.name])
    }

    pub(super) fn place(&self) -> &'s crate::convert::place::SourcePlace {
        &self.section.place
    }

    /// The lines of the section itself.
    pub(super) fn own(&self) -> &'s [Statement] {
        &self.section.statements
    }

    /// The last line that begins with `words`, of the section, else of its defaults.
    pub(super) fn last(&self, words: &[&str]) -> Option<&'s Statement> {
        let of = |section: &'s Section| section.statements.iter().rev().find(|statement| statement.begins(words));
        of(self.section).or_else(|| of(self.defaults?))
    }

    /// All lines that begin with `words`, those of the defaults first.
    pub(super) fn all(&self, words: &[&str]) -> Vec<&'s Statement> {
        let sections = self.defaults.into_iter().chain([self.section]);
        sections.flat_map(|section| &section.statements).filter(|statement| statement.begins(words)).collect()
    }

    /// Tells whether an option is in force.
    pub(super) fn has_option(&self, name: &str) -> bool {
        let of = |section: &Section| {
            let on = |statement: &&Statement| {
                statement.begins(&["option", name]) || statement.begins(&["no", "option", name])
            };
            section.statements.iter().rev().find(on).map(|statement| statement.word(0) == "option")
        };
        of(self.section).or_else(|| of(self.defaults?)).unwrap_or(false)
    }

    pub(super) fn is_http(&self) -> bool {
        self.last(&["mode"]).is_some_and(|mode| mode.word(1) == "http")
    }

    /// A timeout in milliseconds, within bounds.
    pub(super) fn timeout(&self, name: &str, least: u64, most: u64) -> Option<u64> {
        let old = [("client", "clitimeout"), ("server", "srvtimeout"), ("connect", "contimeout")];
        let old = old.iter().find(|(new, _)| *new == name).and_then(|(_, old)| self.last(&[old]));
        let text = self.last(&["timeout", name]).map(|statement| statement.word(2)).or(old.map(|old| old.word(1)))?;
        haproxy_time(text).map(|time| time.clamp(least, most))
    }
}
