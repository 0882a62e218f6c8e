//! Members as a file lists them in place of `backends`: our own form, and that of Prometheus (`file_sd_configs`).

use super::backends::{self, SeenBackends};
use super::keys;
use super::matching::backend_name;
use crate::config::model::{Backend, ListedMember};
use crate::config::yaml::address::{AddressUse, socket_address};
use crate::config::yaml::node::{self, Mark};
use crate::config::yaml::problem::{Problem, Problems, Report, Severity};
use crate::config::yaml::scalar::boolean;
use crate::config::yaml::value::Value;

const LIST: &str = "a list of members, such as `- { name: shard-0, address: 10.0.0.11:9001 }`";

/// Reads the text of a file of members. An empty list is right; a file without a list is not, because it may be one
/// that is being written.
///
/// # Errors
/// Every problem of the text, with line and column.
pub fn read_members(text: &str) -> Result<Vec<ListedMember>, Problems> {
    let root = node::read(text)?;
    let Some(root) = root.filter(|root| !root.is_null()) else {
        let problem = Problem::new(Severity::Error, Mark::START, String::new(), "the file is empty");
        return Err(problem.expected(LIST).remedy("a list without members is written `[]`").into());
    };
    let mut report = Report::default();
    match read(&Value::root(&root), &mut report) {
        Some(members) if !report.has_errors() => Ok(members),
        _ => Err(report.close()),
    }
}

fn read(root: &Value<'_>, report: &mut Report) -> Option<Vec<ListedMember>> {
    if root.is_mapping() {
        let mut fields = keys::MEMBERS.fields(root, report)?;
        return list(&fields.required("members", LIST, report)?, report);
    }
    list(root, report)
}

fn list(value: &Value<'_>, report: &mut Report) -> Option<Vec<ListedMember>> {
    let mut read = Members::default();
    for item in &value.items(LIST, report)? {
        if item.under("targets").is_some() {
            read.group(item, report);
        } else if let Some(member) = member(item, report) {
            read.add(member, item, report);
        }
    }
    let weights: Vec<_> = read.members.iter().map(|member| member.backend.weight).collect();
    if let Some(problem) = backends::wrong_with_weights(value, &weights).filter(|_| !weights.is_empty()) {
        return report.refuse(problem);
    }
    Some(read.members)
}

#[derive(Default)]
struct Members {
    members: Vec<ListedMember>,
    seen: SeenBackends,
}

impl Members {
    fn add(&mut self, member: ListedMember, item: &Value<'_>, report: &mut Report) {
        self.seen.note(Some(&member.backend), self.members.len(), item, report);
        self.members.push(member);
    }

    /// Reads a group of Prometheus' form: `targets`, and `labels` of which ours have a meaning here.
    fn group(&mut self, item: &Value<'_>, report: &mut Report) {
        let Some(mut fields) = keys::TARGET_GROUP.fields(item, report) else { return };
        let labels = fields.take("labels").map(|v| Labels::read(&v, report)).unwrap_or_default();
        let Some(targets) = fields.required("targets", TARGETS, report) else { return };
        let Some(items) = targets.items(TARGETS, report) else { return };
        if labels.name.is_some() && items.len() > 1 {
            let problem = targets.error(format!("a group with the label `{NAME}` has {} targets", items.len()));
            report.push(problem.expected("one target: no two members have one name"));
        }
        for item in &items {
            let Some(address) = socket_address(item, AddressUse::Connect, report) else { continue };
            let backend = Backend { name: labels.name.clone(), address, weight: labels.weight };
            self.add(ListedMember { backend, leaving: labels.leaving }, item, report);
        }
    }
}

/// The labels of a group that have a meaning here. Prometheus' own, and those of other programs, are passed over.
struct Labels {
    name: Option<Box<str>>,
    weight: u16,
    leaving: bool,
}

impl Default for Labels {
    fn default() -> Self {
        Self { name: None, weight: 1, leaving: false }
    }
}

impl Labels {
    fn read(value: &Value<'_>, report: &mut Report) -> Self {
        let mut labels = Self::default();
        for (label, _, value) in value.pairs("a mapping of labels", report).unwrap_or_default() {
            match label {
                NAME => labels.name = backend_name(&value, report).map(Into::into),
                WEIGHT => labels.weight = backends::weight_of_label(&value, report).unwrap_or(1),
                LEAVING => labels.leaving = truth(&value, report).unwrap_or_default(),
                _ => {}
            }
        }
        labels
    }
}

fn member(value: &Value<'_>, report: &mut Report) -> Option<ListedMember> {
    if !value.is_mapping() {
        let backend = Backend { name: None, address: socket_address(value, AddressUse::Connect, report)?, weight: 1 };
        return Some(ListedMember { backend, leaving: false });
    }
    let mut fields = keys::MEMBER.fields(value, report)?;
    let leaving = fields.take_or("leaving", false, |v| boolean(v, report));
    let backend = backends::take_backend(&mut fields, report);
    Some(ListedMember { backend: backend?, leaving: leaving? })
}

/// Values of labels are texts, in quotes where the file is JSON.
fn truth(value: &Value<'_>, report: &mut Report) -> Option<bool> {
    match value.text() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => report.refuse(value.wrong("`true` or `false`")),
    }
}

const NAME: &str = "longhaul_name";
const WEIGHT: &str = "longhaul_weight";
const LEAVING: &str = "longhaul_leaving";
const TARGETS: &str = "a list of targets, such as `[\"10.0.0.11:9001\"]`";

#[cfg(test)]
mod tests;
