//! `longhaul tunnels` and `longhaul close`: open tunnels, listed, watched and closed.

use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::control::{AwaitedReply, Instance};
use crate::control::ControlRequest;
use crate::counted::counted;
use crate::hook::HookRegistry;
use crate::status::{CloseAsked, ListingCounts, Rates, Sort, TunnelFilter, TunnelStatus, TunnelsAsked};

/// Tunnels that are meant: those that fit every option given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tunnels")]
struct Filter {
    /// Ids, as the list and the access log have them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Of an upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// To a backend, by its name or its address
    #[arg(long, value_name = "[UPSTREAM/]BACKEND")]
    backend: Option<String>,
    /// By a route, as `host path`
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Of a client, or of the clients of a network
    #[arg(long, value_name = "ADDRESS|CIDR")]
    client: Option<String>,
    /// With an affinity key
    #[arg(long, value_name = "VALUE")]
    key: Option<String>,
    /// Open for at least so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older: Option<Duration>,
    /// Without a byte for at least so long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle: Option<Duration>,
    /// With a hook
    #[arg(long, value_name = "NAME")]
    hook: Option<String>,
}

/// Arguments of `longhaul tunnels`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// In this order, the greatest first
    #[arg(long, value_name = "BY")]
    sort: Option<By>,
    /// No more than so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Look twice, so far apart, and reckon rates from that; 1s if no time is given
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "1s",
          value_parser = humantime::parse_duration)]
    rate: Option<Duration>,
    /// Again and again, until interrupted, as `top` does
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    instance: Instance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Age,
    Idle,
    Rate,
    Bytes,
    Messages,
}

/// Arguments of `longhaul close`.
#[derive(Debug, Args)]
pub(super) struct Close {
    #[command(flatten)]
    filter: Filter,
    /// Every tunnel
    #[arg(long)]
    all: bool,
    /// The status code of the Close frames; 1012 (service restart) if left out
    #[arg(long)]
    code: Option<u16>,
    /// The reason text of the Close frames
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Spread evenly over a time; at once if left out
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    over: Option<Duration>,
    /// Close nothing, and say how many tunnels it would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    instance: Instance,
}

pub(super) fn list(list: &List, hooks: &HookRegistry) -> ExitCode {
    let mut asked = TunnelsAsked {
        filter: list.filter.to_filter(),
        sort: list.sort.map(By::to_sort),
        limit: list.limit,
        rate_ms: list.rate.map(millis),
    };
    if !list.watch {
        return list.instance.ask(&ControlRequest::Tunnels(asked), hooks);
    }
    let on_screen = std::io::stdout().is_terminal() && !list.instance.wants_json();
    asked.sort.get_or_insert(Sort::Rate);
    asked.limit.get_or_insert(WATCHED);
    // The time between two looks is also that between two pictures: a gateway is asked once a second at the most.
    asked.rate_ms = Some(asked.rate_ms.map_or(BETWEEN_PICTURES, |rate| rate.max(BETWEEN_PICTURES)));
    loop {
        // From the upper left corner on, over what is there.
        let cleared = if on_screen { super::output::say("\x1b[H\x1b[2J") } else { Ok(()) };
        let looked = cleared.and_then(|()| {
            list.instance.answer(&ControlRequest::Tunnels(asked.clone()), AwaitedReply::ForTheEnd, hooks)
        });
        let code = match looked {
            Ok(code) => code,
            Err(unsaid) => return unsaid.ends_with(ExitCode::SUCCESS),
        };
        // Nothing open, or nothing that fits, may change; a wrong filter, or a gateway that is gone, does not.
        let is_wrong = code == super::output::WRONG.into();
        if is_wrong || (code != ExitCode::SUCCESS && !list.instance.answers(hooks)) {
            return code;
        }
    }
}

pub(super) fn close(close: &Close, hooks: &HookRegistry) -> ExitCode {
    let asked = CloseAsked {
        filter: close.filter.to_filter(),
        all: close.all,
        code: close.code,
        reason: close.reason.clone(),
        over_ms: close.over.map(millis),
        dry_run: close.dry_run,
    };
    close.instance.ask(&ControlRequest::Close(asked), hooks)
}

/// Names of the columns.
pub(super) const HEAD: &str = "\
ID                     AGE     IDLE  CLIENT           BACKEND                       KEY                     \
FROM CLIENT       FROM BACKEND      RATE       TLS  GEN  ROUTE, HOOKS\n";

/// A tunnel as a line for people.
pub(super) fn line(tunnel: &TunnelStatus) -> String {
    let TunnelStatus { id, age_ms, idle_ms, client, upstream, .. } = tunnel;
    let backend = tunnel.backend_name.clone().unwrap_or_else(|| tunnel.backend.to_string());
    let (age, idle, client) = (short(*age_ms), short(*idle_ms), client.to_string());
    let backend = format!("{upstream}/{backend}");
    let key = match &tunnel.key {
        Some(key) => format!("{}:{key}", tunnel.key_source),
        None => "-".to_owned(),
    };
    let from_client = counts(tunnel.bytes_from_client, tunnel.messages_from_client);
    let from_backend = counts(tunnel.bytes_from_backend, tunnel.messages_from_backend);
    let rate = tunnel.rates.map_or_else(|| "-".to_owned(), rate);
    let tls = match (tunnel.tls.client, tunnel.tls.backend) {
        (false, false) => "-",
        (true, false) => "c",
        (false, true) => "b",
        (true, true) => "c+b",
    };
    let generation = tunnel.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
    let mut line = format!(
        "{id:<16} {age:>9} {idle:>8}  {client:<15}  {backend:<28}  {key:<22}  {from_client:<16}  {from_backend:<16}  \
         {rate:<9}  {tls:<3}  {generation:<3}  {}",
        tunnel.route
    );
    if !tunnel.hooks.is_empty() {
        write!(line, ", {}", tunnel.hooks.join(" ")).expect("writing into a String cannot fail");
    }
    if tunnel.held {
        line.push_str(" (held, without a backend)");
    }
    if let Some(ends) = &tunnel.ends {
        write!(line, " (ends in {}: {})", short(ends.in_ms), ends.reason).expect("writing into a String cannot fail");
    }
    line + "\n"
}

/// The end of a list.
pub(super) fn summary(ListingCounts { open, matched, shown, note }: &ListingCounts) -> String {
    if let Some(note) = note {
        return note.clone();
    }
    match (open, matched, shown) {
        (0, 0, _) => "no tunnel is open".to_owned(),
        (_, 0, _) => format!("no tunnel matches, of {}", counted(*open, "open one")),
        _ if shown < matched => format!("{shown} of {matched} tunnels that match, of {open} open ones"),
        _ => format!("{matched} of {}", counted(*open, "open tunnel")),
    }
}

impl Filter {
    fn to_filter(&self) -> TunnelFilter {
        TunnelFilter {
            ids: self.ids.clone(),
            upstream: self.upstream.clone(),
            backend: self.backend.clone(),
            route: self.route.clone(),
            client: self.client.clone(),
            key: self.key.clone(),
            older_ms: self.older.map(millis),
            idle_ms: self.idle.map(millis),
            hook: self.hook.clone(),
        }
    }
}

impl By {
    fn to_sort(self) -> Sort {
        match self {
            Self::Age => Sort::Age,
            Self::Idle => Sort::Idle,
            Self::Rate => Sort::Rate,
            Self::Bytes => Sort::Bytes,
            Self::Messages => Sort::Messages,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time in its two greatest units.
fn short(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn counts(bytes: u64, messages: u64) -> String {
    format!("{} {messages}msg", size(bytes))
}

fn rate(Rates { from_client, from_backend }: Rates) -> String {
    format!("{}/s", size(from_client.saturating_add(from_backend)))
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec_short().to_string()
}

/// Tunnels that are watched: about a screen.
const WATCHED: usize = 40;
/// Milliseconds.
const BETWEEN_PICTURES: u64 = 1_000;
