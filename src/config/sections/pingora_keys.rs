//! Pingora's own keys. Their names come from [`ServerConf`], and its deserializer reads them one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use pingora_core::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value as Yaml};

use crate::config::daemon_keys::DaemonKey;
use crate::config::named_files::NamedFiles;
use crate::config::yaml::node::{Content, Node};
use crate::config::yaml::problem::{Problem, Report, printable, quoted};
use crate::config::yaml::scalar::whole;
use crate::config::yaml::value::Value;

/// Most threads of one service; a larger number is taken for a mistake.
const MAX_THREADS: u64 = 1_024;
/// Most threads of a runtime for calls that block. Tokio adds to the number, and stacks of more are beyond any host.
const MAX_BLOCKING_THREADS: u64 = 65_536;
/// Most idle connections to backends that a thread keeps. Pingora makes room for all of them when it starts.
const MAX_IDLE_CONNECTIONS: u64 = 65_536;
/// Longest time in seconds, a year. It is added to the clock, which has an end.
const MAX_SECONDS: u64 = 365 * 24 * 60 * 60;

/// The names of Pingora's keys, in Pingora's order.
pub(crate) fn names() -> Vec<String> {
    match serde_yaml::to_value(ServerConf::default()) {
        Ok(Yaml::Mapping(conf)) => conf.into_iter().filter_map(|(key, _)| key.as_str().map(str::to_owned)).collect(),
        // ServerConf is a struct of plain values, which always serializes as a mapping.
        _ => Vec::new(),
    }
}

/// Reads Pingora's keys; those left out have Pingora's defaults, but for four: `threads` gets the number of cores,
/// clients stay on one thread each, Pingora's own timers, whose thread wakes a hundred times a second, are used
/// below one second only, and `pid_file` is empty: its place is chosen when the process starts.
pub(crate) fn read<'v, 'k>(
    given: impl Iterator<Item = (&'k str, Value<'v>)>,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<ServerConf> {
    let mut conf = Mapping::new();
    conf.insert("threads".into(), std::thread::available_parallelism().map_or(1, NonZeroUsize::get).into());
    conf.insert("work_stealing".into(), false.into());
    conf.insert("fast_timeout_to_tokio_threshold_seconds".into(), 0.into());
    // Pingora's default lies in a folder that every user may write to.
    conf.insert("pid_file".into(), "".into());
    let (mut complete, mut of_daemon) = (true, Vec::new());
    for (key, value) in given {
        let is_read = read_key(key, &value, &mut conf, report).is_some();
        complete &= is_read;
        if let Some(key) = DaemonKey::named(key).filter(|_| is_read) {
            // An empty `pid_file` is its default: the place is chosen at the start.
            of_daemon.extend(value.text().filter(|text| !text.is_empty()).map(|text| (key, value, text)));
        }
    }
    let folder = of_daemon.iter().find(|(key, ..)| *key == DaemonKey::WorkingDirectory).map(|(.., text)| *text);
    for (key, value, text) in &of_daemon {
        files.of_daemon(value, *key, key.place(text, folder));
    }
    if !complete {
        return None;
    }
    // Each key was read and validated by itself, and Pingora has no rule over two of them.
    serde_yaml::from_value(Yaml::Mapping(conf)).ok()
}

/// Copies a [`ServerConf`], which has plain values and no `Clone`.
pub(crate) fn copy(conf: &ServerConf) -> ServerConf {
    serde_yaml::to_value(conf)
        .and_then(serde_yaml::from_value)
        .expect("what Pingora writes of its values it reads again")
}

/// The keys whose values differ. `version` is left out: nothing depends on it.
pub(crate) fn differing(one: &ServerConf, other: &ServerConf) -> Vec<String> {
    let values = |conf| match serde_yaml::to_value(conf) {
        Ok(Yaml::Mapping(values)) => values,
        // ServerConf is a struct of plain values, which always serializes as a mapping.
        _ => Mapping::new(),
    };
    let (one, other) = (values(one), values(other));
    let differ =
        |(key, value): (&Yaml, &Yaml)| (other.get(key) != Some(value)).then(|| key.as_str().map(str::to_owned));
    one.iter().filter_map(differ).flatten().filter(|key| key != "version").collect()
}

/// Bounds of a number. Pingora has none for most of them, and panics at its start or its end on numbers beyond.
fn bounds(key: &str) -> Option<RangeInclusive<u64>> {
    Some(match key {
        "threads" | "listener_tasks_per_fd" => 1..=MAX_THREADS,
        "upstream_connect_offload_threadpools"
        | "upstream_connect_offload_thread_per_pool"
        | "downstream_tls_offload_threadpools"
        | "downstream_tls_offload_thread_per_pool" => 1..=MAX_THREADS,
        "max_blocking_threads" => 1..=MAX_BLOCKING_THREADS,
        "upstream_keepalive_pool_size" => 0..=MAX_IDLE_CONNECTIONS,
        "grace_period_seconds"
        | "graceful_shutdown_timeout_seconds"
        | "blocking_threads_ttl_seconds"
        | "fast_timeout_to_tokio_threshold_seconds" => 0..=MAX_SECONDS,
        "daemon_ready_timeout_seconds" | "daemon_notify_timeout_seconds" => 1..=MAX_SECONDS,
        _ => return None,
    })
}

/// Tells whether Pingora takes `~` for a key: those that may be left open have no value by default.
fn may_be_open(key: &str) -> bool {
    let optional = Mapping::from_iter([(Yaml::from(key), Yaml::Null)]);
    serde_yaml::from_value::<ServerConf>(Yaml::Mapping(optional)).is_ok()
}

fn read_key(key: &str, value: &Value<'_>, conf: &mut Mapping, report: &mut Report) -> Option<()> {
    if let Some(bounds) = bounds(key).filter(|_| !(value.is_null() && may_be_open(key))) {
        whole(value, bounds, report)?;
    }
    // Paths and names go to the system, where a NUL ends a text.
    if value.text().is_some_and(|text| text.contains('\0')) {
        return report.refuse(value.error(format!("{} has a NUL in it", shown(value))).expected("text without NUL"));
    }
    match key {
        "client_bind_to_ipv4" => addresses(value, "IPv4", |text| text.parse::<Ipv4Addr>().is_ok(), report)?,
        "client_bind_to_ipv6" => addresses(value, "IPv6", |text| text.parse::<Ipv6Addr>().is_ok(), report)?,
        _ => {}
    }
    let yaml = to_yaml(value.node());
    let alone = Mapping::from_iter([(Yaml::from(key), yaml.clone())]);
    let read: Result<ServerConf, _> = serde_yaml::from_value(Yaml::Mapping(alone));
    let read = read.map_err(|error| report.push(refused(key, value, &error.to_string()))).ok()?;
    if let Err(error) = read.validate() {
        let rule = error.context.as_ref().map_or_else(|| error.to_string(), |context| context.as_str().to_owned());
        let rule = rule.strip_prefix(key).unwrap_or(&rule).trim();
        report.push(value.error(format!("Pingora refuses {}: it {rule}", shown(value))));
        return None;
    }
    if key == "ca_file" && !value.is_null() {
        let problem = value.warning("has no effect: authorities of backends are named by upstream");
        report.push(problem.remedy("name it as `ca` under `tls` of the upstreams"));
    }
    conf.insert(key.into(), yaml);
    Some(())
}

/// Checks a list of addresses to connect from. Pingora does not check them, and panics on one that is wrong.
fn addresses(value: &Value<'_>, family: &str, fits: impl Fn(&str) -> bool, report: &mut Report) -> Option<()> {
    let expected = format!("a list of {family} addresses without ports");
    let mut all = Some(());
    for item in value.items(&expected, report)? {
        match item.text() {
            Some(text) if fits(text) => {}
            Some(text) if text.parse::<IpAddr>().is_ok() => {
                all = report
                    .refuse(item.error(format!("{} is not an {family} address", quoted(text))).expected(&expected));
            }
            _ => all = report.refuse(item.wrong(&expected)),
        }
    }
    all
}

/// Translates the message of the deserializer, which speaks of Rust types.
fn refused(key: &str, value: &Value<'_>, error: &str) -> Problem {
    let error = error.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(error);
    let expected = error.rsplit_once(", expected ").map(|(_, expected)| expected.trim_end());
    let problem = value.error(format!("{} does not fit here", shown(value)));
    match expected {
        Some("a boolean") => problem.expected("`true` or `false`"),
        Some("usize" | "u64") => problem.expected("a whole number, 0 or more"),
        Some("a nonzero u64") => problem.expected("a whole number, 1 or more"),
        Some("a string" | "path string") if value.plain_text().is_some() => {
            let text = value.plain_text().unwrap_or_default();
            problem.expected("text").remedy(format!("put it in quotes: `\"{}\"`", text.escape_debug()))
        }
        Some("a string" | "path string") => problem.expected("text"),
        Some(other) => problem.expected(other),
        None => value.error(printable(error)),
    }
}

fn shown(value: &Value<'_>) -> String {
    match value.text() {
        Some(text) => quoted(text),
        None if value.is_null() => "no value".to_owned(),
        None if value.is_sequence() => "a list".to_owned(),
        None => "a mapping".to_owned(),
    }
}

/// The same value for the deserializer; a plain scalar becomes the value that YAML's core schema reads it as.
fn to_yaml(node: &Node) -> Yaml {
    match &node.content {
        Content::Scalar { .. } if node.is_null() => Yaml::Null,
        Content::Scalar { text, plain: true } => plain_to_yaml(text),
        Content::Scalar { text, plain: false } => text.as_str().into(),
        Content::Sequence(items) => Yaml::Sequence(items.iter().map(|item| to_yaml(item)).collect()),
        Content::Mapping(entries) => {
            Yaml::Mapping(entries.iter().map(|(key, value)| (to_yaml(key), to_yaml(value))).collect())
        }
    }
}

fn plain_to_yaml(text: &str) -> Yaml {
    match text {
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    match text.parse::<f64>() {
        // `inf` and `nan` are text in YAML, where the numbers have a dot before them.
        Ok(number) if text.bytes().any(|byte| byte.is_ascii_digit()) => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde::Deserialize;
    use serde::de::value::Error;
    use serde::de::{Deserializer, Error as _, Visitor};
    use serde::forward_to_deserialize_any;

    use super::*;

    /// Records the names of a struct's fields and refuses to give values.
    struct FieldNames<'a>(&'a Cell<&'static [&'static str]>);

    impl<'de> Deserializer<'de> for FieldNames<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("only fields are asked for"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.0.set(fields);
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    /// A key that is skipped when its default is written would be refused as unknown.
    #[test]
    fn every_field_that_pingora_reads_is_a_known_key() {
        let fields = Cell::new([].as_slice());
        assert!(ServerConf::deserialize(FieldNames(&fields)).is_err());
        assert!(fields.get().contains(&"upgrade_sock"));
        assert_eq!(names(), fields.get());
    }
}
