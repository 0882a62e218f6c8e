//! The plan: the effects that a reload would have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::impact::{Impact, ImpactCause, on_ring};
use super::{Changes, ReloadError, note_former_policies};
use crate::config::{Config, OnChange, Upstream};
use crate::snapshot::{Running, Snapshot};
use crate::tunnel::{Record, Seen, Standing};
use crate::upstream::{Member, MemberLists, Ring};

/// Effects of a reload that has not happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Differences.
    #[serde(flatten)]
    pub changes: Changes,
    /// For each upstream whose backends or weights differ, how many of all possible keys would move to another backend.
    pub keys: Vec<KeysMoved>,
    /// Effects on open tunnels; `None` where two files are compared.
    pub tunnels: Option<TunnelsPlanned>,
}

/// Number of keys of an upstream that belong to another backend after a change, were all backends up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeysMoved {
    /// The upstream.
    pub upstream: String,
    /// Number of keys looked at: places spread evenly over the ring, or open tunnels that have a key.
    pub of: usize,
    /// Number of them that move.
    pub moved: usize,
}

/// Effects of a reload on open tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TunnelsPlanned {
    /// Number of open tunnels.
    pub open: usize,
    /// Number of them that would be closed.
    pub closed: usize,
    /// Tunnels that are touched, by upstream and cause.
    pub touched: Vec<Fate>,
    /// For each upstream whose backends or weights differ, how many open tunnels have a key that would move. They are
    /// closed only with `rehome`.
    pub keys: Vec<KeysMoved>,
}

/// Tunnels that a reload would touch for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// Their upstream.
    pub upstream: String,
    /// Reason for which they are touched.
    pub cause: ImpactCause,
    /// True when they would be closed; else they are left, by `on_change: keep`.
    pub closed: bool,
    /// Milliseconds over which their ends are spread.
    pub over_ms: u64,
    /// Number of such tunnels.
    pub tunnels: usize,
}

/// Plans the step from one configuration to another.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let before = |after: &Upstream| old.upstreams.iter().find(|before| before.name == after.name).map(Member::of);
    let pairs = new.upstreams.iter().filter_map(|after| Some((&*after.name, before(after)?, Member::of(after))));
    let keys = pairs.filter_map(|(name, before, after)| keys_moved(name, &before, &after)).collect();
    Plan { changes: Changes::between(old, new), keys, tunnels: None }
}

/// Plans a reload of the running gateway with `new` and the members known of its sources, open tunnels included.
/// Nothing is touched.
///
/// # Errors
/// [`ReloadError::Panicked`] alone.
pub async fn plan_running(running: &Arc<Running>, new: Config, members: MemberLists) -> Result<Plan, ReloadError> {
    let before = running.snapshot();
    let mut former = running.turn().await.former_policies.clone();
    let compiler = Arc::clone(running);
    let planned = tokio::task::spawn_blocking(move || {
        let (before, after) = (compiler.snapshot(), compiler.rehearse(&new, members));
        let pairs = after.destinations().iter().filter_map(|to| {
            let name = &*to.upstream.config().name;
            keys_moved(name, before.destination(name)?.upstream.members(), to.upstream.members())
        });
        let plan = Plan { changes: Changes::between(&before.config, &new), keys: pairs.collect(), tunnels: None };
        (plan, after)
    });
    let (mut plan, after) = planned.await.map_err(|_| ReloadError::Panicked)?;
    note_former_policies(&before, &after, &mut former);
    let after = Arc::new(after);
    let impact = Impact::new(&before, Arc::clone(&after), former, SystemTime::now());
    let changed: Vec<_> = plan.keys.iter().map(|moved| moved.upstream.clone()).collect();

    let tally = Arc::new(Mutex::new(Tally::of(&changed)));
    let told = Arc::clone(&tally);
    let look = move |seen: &Seen<'_>| {
        let record = seen.record();
        let fate = impact.fate(&Standing { record, announced: None, opening: false });
        let moved = moves(&before, &after, record);
        told.lock().unwrap_or_else(PoisonError::into_inner).count(record, fate, moved);
    };
    running.tunnels.visit(Arc::new(look)).await;
    plan.tunnels = Some(std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner)).into());
    Ok(plan)
}

/// Number of places on the ring that are looked at, evenly spaced. The share of keys that they give is off by less than
/// one in a thousand.
const PLACES: u32 = 10_000;

/// The keys of an upstream that move; `None` where its ring stays as it is.
fn keys_moved(upstream: &str, before: &[Member], after: &[Member]) -> Option<KeysMoved> {
    if on_ring(before) == on_ring(after) {
        return None;
    }
    let rings = [before, after].map(|members| (members, Ring::new(members)));
    let places = (0..PLACES).map(|place| place * (u32::MAX / PLACES));
    let moved = places.filter(|&hash| {
        let [before, after] = rings.each_ref().map(|(members, ring)| {
            let first = ring.walk_from(hash).next();
            first.map(|index| &*members[index].name)
        });
        before != after
    });
    Some(KeysMoved { upstream: upstream.to_owned(), of: PLACES as usize, moved: moved.count() })
}

/// True when the key of an open tunnel belongs to another backend after a change; `None` for a tunnel without a key.
fn moves(before: &Snapshot, after: &Snapshot, record: &Record) -> Option<bool> {
    let key_hash = record.key.hash()?;
    let first = |snapshot: &Snapshot| {
        let upstream = &snapshot.destination(record.backend().upstream())?.upstream;
        Some(Arc::clone(&upstream.states()[upstream.first(key_hash)?]))
    };
    let (before, after) = (first(before)?, first(after)?);
    Some(!before.is_same(&after))
}

/// Counts of open tunnels.
#[derive(Default)]
struct Tally {
    open: usize,
    touched: BTreeMap<(String, ImpactCause, bool, Duration), usize>,
    /// For each upstream whose ring changes: the number of tunnels with a key, and how many of them move.
    keys: BTreeMap<String, (usize, usize)>,
}

impl Tally {
    fn of(changed: &[String]) -> Self {
        Self { keys: changed.iter().map(|upstream| (upstream.clone(), (0, 0))).collect(), ..Self::default() }
    }

    fn count(&mut self, record: &Record, fate: Option<(ImpactCause, OnChange, Duration)>, moved: Option<bool>) {
        self.open += 1;
        let upstream = record.backend().upstream();
        if let Some((cause, on_change, over)) = fate {
            let closed = on_change == OnChange::Close;
            *self.touched.entry((upstream.to_owned(), cause, closed, over)).or_default() += 1;
        }
        if let (Some(moved), Some((of, moving))) = (moved, self.keys.get_mut(upstream)) {
            *of += 1;
            *moving += usize::from(moved);
        }
    }
}

impl From<Tally> for TunnelsPlanned {
    fn from(tally: Tally) -> Self {
        let touched = tally.touched.into_iter().map(|((upstream, cause, closed, over), tunnels)| {
            let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
            Fate { upstream, cause, closed, over_ms, tunnels }
        });
        let touched: Vec<_> = touched.collect();
        let closed = touched.iter().filter(|fate| fate.closed).map(|fate| fate.tunnels).sum();
        let keys = tally.keys.into_iter().map(|(upstream, (of, moved))| KeysMoved { upstream, of, moved });
        Self { open: tally.open, closed, touched, keys: keys.collect() }
    }
}

impl fmt::Display for Plan {
    /// One or more lines, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.changes)?;
        for KeysMoved { upstream, of, moved } in &self.keys {
            write!(f, "\nkeys of {upstream} that move to another backend: {}", share(*moved, *of))?;
        }
        let Some(tunnels) = &self.tunnels else { return Ok(()) };
        write!(f, "\nopen tunnels that would be closed: {} of {}", tunnels.closed, tunnels.open)?;
        for Fate { upstream, cause, closed, over_ms, tunnels } in &tunnels.touched {
            let over = humantime::format_duration(Duration::from_millis(*over_ms));
            let fate = if *closed { format!("closed over {over}") } else { "left (on_change: keep)".to_owned() };
            write!(f, "\n    {tunnels} of {upstream}: {cause}; {fate}")?;
        }
        for KeysMoved { upstream, of, moved } in &tunnels.keys {
            write!(f, "\nopen tunnels of {upstream} whose key moves: {moved} of {of} that have one")?;
        }
        Ok(())
    }
}

fn share(part: usize, of: usize) -> String {
    format!("{:.1} %", if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 })
}
