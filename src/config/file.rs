//! Reads a whole file: its text becomes a [`Config`], or the list of its problems.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;

use super::model::{AccessLog, Config, Drain, Engine, Forwarding, Limits, Listener, Tracing, Underscores, Upstream};
use super::named_files::NamedFiles;
use super::sections::access_log;
use super::sections::affinity::AffinityScope;
use super::sections::client_limits;
use super::sections::drain;
use super::sections::hooks::{KnownHooks, NamedHooks};
use super::sections::keys::{self, TOP};
use super::sections::listeners;
use super::sections::pingora_keys;
use super::sections::routes::{self, Parts};
use super::sections::tracing;
use super::sections::upstreams;
use super::sections::vain;
use super::source::ConfigFile;
use super::source::open_regular;
use super::yaml::node::{self, Mark};
use super::yaml::problem::{Problem, Problems, Report, Severity};
use super::yaml::scalar::{boolean, choice, size};
use super::yaml::value::{Mapping, Value};
use crate::tls::certificates::Lapsed;

/// The longest configuration file that is read: 16 MiB, some thirty times what 10,000 backends need.
pub const MAX_BYTES: usize = 16 << 20;

/// A configuration file without an error in it.
#[derive(Debug)]
pub struct Loaded {
    /// The values of the file.
    pub config: Config,
    /// Warnings, in the order of their positions.
    pub warnings: Vec<Problem>,
}

/// Failure of [`load`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Message of the operating system.
        reason: String,
    },
    /// The file has errors in it.
    #[error("{}", problems.in_file(&path.to_string_lossy()))]
    Refused {
        /// The file.
        path: PathBuf,
        /// All problems of the file.
        problems: Problems,
    },
}

/// Reads the configuration file at `path`. Its routes may name the hooks that `hooks` knows. The files that it names
/// for TLS are read and checked, too.
///
/// # Errors
/// [`LoadError::Unreadable`] when the file cannot be opened or read, [`LoadError::Refused`] with every problem in it.
pub fn load(path: &Path, hooks: &dyn KnownHooks) -> Result<Loaded, LoadError> {
    load_by(path, hooks, &Lapsed::Refused)
}

/// Does what [`load`] does, with a rule for certificates that have expired or are not valid yet.
///
/// # Errors
/// As of [`load`].
pub fn load_by(path: &Path, hooks: &dyn KnownHooks, lapsed: &Lapsed) -> Result<Loaded, LoadError> {
    let unreadable = |error: std::io::Error| LoadError::Unreadable { path: path.into(), reason: error.to_string() };
    let refused = |problems| LoadError::Refused { path: path.into(), problems };
    let mut bytes = Vec::new();
    let file = open_regular(path).map_err(unreadable)?;
    let source = ConfigFile {
        path: std::path::absolute(path).map_err(unreadable)?,
        stamp: file.metadata().map_err(unreadable)?.into(),
    };
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| refused(not_utf8(&error).into()))?;
    let check = |files: &NamedFiles, report: &mut Report| files.check(SystemTime::now(), lapsed, report);
    let mut loaded = read(&text, hooks, &check).map_err(refused)?;
    loaded.config.source = Some(source);
    Ok(loaded)
}

/// Finds `control_sock` in the text of a configuration file that may have problems: a key at the beginning of a line,
/// once, with an absolute path behind it. `None` where that leaves a doubt.
pub fn control_sock_of(text: &str) -> Option<PathBuf> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix("control_sock:"));
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.trim();
    let path = match value.chars().next()? {
        quote @ ('"' | '\'') => {
            let (path, rest) = value[1..].split_once(quote)?;
            let rest = rest.trim();
            (rest.is_empty() || rest.starts_with('#')).then_some(path)?
        }
        _ => value.split(" #").next()?.trim_end(),
    };
    (path.starts_with('/') && !path.contains('\\')).then(|| path.into())
}

/// Reads the text of a configuration file. Its routes may name the hooks that `hooks` knows.
///
/// Does no I/O (unless `hooks` does), so files that the text names are not looked at; never panics. Where `threads` is
/// left out it becomes the number of cores this process may use.
///
/// # Errors
/// `text` has errors: all its problems, in the order of their positions. Where `text` is not one YAML document, the
/// first problem alone.
pub fn parse(text: &str, hooks: &dyn KnownHooks) -> Result<Loaded, Problems> {
    read(text, hooks, &|_, _| ())
}

/// Reads the text of a configuration file, and has the files that it names checked by `check`.
fn read(text: &str, hooks: &dyn KnownHooks, check: &dyn Fn(&NamedFiles, &mut Report)) -> Result<Loaded, Problems> {
    if text.len() > MAX_BYTES {
        return Err(whole_file("the file is too long").expected(format!("at most {MAX_BYTES} bytes")).into());
    }
    let root = node::read(text)?.filter(|root| !root.is_null());
    let Some(root) = root else {
        let problem = whole_file("the file is empty").expected("at least `listeners`, `routes` and `upstreams`");
        return Err(problem.remedy("conf/minimal.yaml is a working example").into());
    };
    let mut report = Report::default();
    let mut files = NamedFiles::default();
    let config = config(&Value::root(&root), hooks, &mut files, &mut report);
    check(&files, &mut report);
    match config {
        Some(config) if !report.has_errors() => Ok(Loaded { config, warnings: report.close().into_list() }),
        _ => Err(report.close()),
    }
}

fn config(root: &Value<'_>, hooks: &dyn KnownHooks, files: &mut NamedFiles, report: &mut Report) -> Option<Config> {
    let pingoras = pingora_keys::names();
    let known: Vec<&str> = TOP.keys.iter().copied().chain(pingoras.iter().map(String::as_str)).collect();
    let mut fields = keys::top_level(root, &known, report)?;
    let (proxies, trusted_proxies) = read_proxies(&mut fields, report);
    let are_proxies_trusted = trusted_proxies.as_ref().is_none_or(|proxies| !proxies.is_empty());
    let (listeners, metrics, admin) = listeners::read(&mut fields, are_proxies_trusted, files, report);
    let underscores_in_headers =
        fields.take_or("underscores_in_headers", Underscores::Drop, |v| choice(v, &UNDERSCORES, report));
    let forwarding = fields.take_or("forwarding", Forwarding::default(), |v| listeners::forwarding(v, report));
    let (access_log, tracing) = read_records(&mut fields, report);
    let watch = fields.take_or("watch", false, |v| boolean(v, report));
    let (control_sock, state_folder) = listeners::paths(&mut fields, report);
    let (hook_memory, engine, limits) = read_tunnels(&mut fields, proxies.zip(trusted_proxies.as_deref()), report);
    let drain = fields.take_or("drain", Drain::default(), |v| drain::read(v, report));

    let routes = fields.required("routes", "a list such as `- upstream: NAME`", report);
    let upstreams = fields.required("upstreams", "a mapping of names to upstreams", report);
    let tls_possible = are_proxies_trusted || speak_tls(listeners.as_deref());
    let scope = AffinityScope { tls_possible, drops_underscores: underscores_in_headers == Some(Underscores::Drop) };
    let pingora = pingora_keys::read(fields.rest(), files, report);
    let named = upstreams.and_then(|v| upstreams::read(&v, scope, files, report));
    let parts = Parts { upstreams: named.as_ref(), scope, hooks: NamedHooks::from(hooks) };
    let routes = routes.and_then(|v| routes::read(&v, &parts, report));
    let upstreams = named?.noting_unkept(state_folder.as_ref(), files);
    if let Some(routes) = routes.as_ref().filter(|_| !report.has_errors()) {
        upstreams.warn(routes, listeners.as_deref().unwrap_or_default(), pingora.as_ref(), report);
    }
    Some(Config {
        source: None,
        pingora: pingora?,
        listeners: listeners?,
        trusted_proxies: trusted_proxies?,
        underscores_in_headers: underscores_in_headers?,
        forwarding: forwarding?,
        metrics: metrics?,
        admin: admin?,
        access_log: access_log?,
        tracing: tracing?,
        watch: watch?,
        control_sock: control_sock?,
        state_folder: state_folder?,
        engine: engine?,
        hook_memory: hook_memory?,
        limits: limits?,
        drain: drain?,
        upstreams: Upstream::with_nowhere(upstreams.all()?, routes.as_ref()?),
        routes: routes?,
    })
}

/// Reads `access_log` and `tracing`.
fn read_records(
    fields: &mut Mapping<'_, '_>,
    report: &mut Report,
) -> (Option<Option<AccessLog>>, Option<Option<Tracing>>) {
    let access_log = fields.take_or("access_log", Some(AccessLog::default()), |v| access_log::read(v, report));
    (access_log, fields.take_or("tracing", None, |v| tracing::read(v, report)))
}

/// Reads `trusted_proxies`; the value is there where it was written.
fn read_proxies<'v>(fields: &mut Mapping<'v, '_>, report: &mut Report) -> (Option<Value<'v>>, Option<Vec<IpNet>>) {
    let written = fields.take("trusted_proxies");
    (written, written.map_or(Some(Vec::new()), |v| listeners::trusted_proxies(&v, report)))
}

/// Reads `hook_memory`, `engine` and `limits`. `proxies` are the `trusted_proxies` that were written.
fn read_tunnels(
    fields: &mut Mapping<'_, '_>,
    proxies: Option<(Value<'_>, &[IpNet])>,
    report: &mut Report,
) -> (Option<u64>, Option<Engine>, Option<Limits>) {
    let hook_memory = fields.take_or("hook_memory", HOOK_MEMORY, |v| size(v, report));
    let engine = fields.take_or("engine", Engine::Auto, |v| choice(v, &ENGINES, report));
    let limits = fields.take_or("limits", Limits::default(), |v| client_limits::read(v, report));
    if let (Some((written, networks)), Some(limits)) = (proxies, &limits) {
        vain::of_trust(&written, networks, limits, report);
    }
    (hook_memory, engine, limits)
}

/// Tells if one of the listeners speaks TLS, as far as they could be read.
fn speak_tls(listeners: Option<&[Listener]>) -> bool {
    listeners.is_none_or(|all| all.iter().any(|listener| listener.tls.is_some()))
}

const ENGINES: [(&str, Engine); 3] = [("auto", Engine::Auto), ("epoll", Engine::Epoll), ("io_uring", Engine::IoUring)];
const UNDERSCORES: [(&str, Underscores); 2] = [("drop", Underscores::Drop), ("keep", Underscores::Keep)];
/// Sixty-four messages of a MiB, the longest that hooks are shown unless a limit is set.
const HOOK_MEMORY: u64 = 64 << 20;

fn whole_file(message: &str) -> Problem {
    Problem::new(Severity::Error, Mark::START, String::new(), message)
}

fn not_utf8(error: &std::string::FromUtf8Error) -> Problem {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line_start = valid.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + String::from_utf8_lossy(&valid[line_start..]).chars().count();
    let mark = Mark { line, column };
    Problem::new(Severity::Error, mark, String::new(), "not UTF-8").remedy("save the file as UTF-8")
}
