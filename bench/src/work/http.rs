//! Plain HTTP over kept connections, by wrk.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Amount, Figures, cost_each, cost_of};
use crate::peer::{Site, find};
use crate::session;
use crate::stop::Stop;

/// Connections of wrk.
const CONNECTIONS: usize = 64;

pub(super) fn measure(site: &Site, amount: &Amount, stop: &Stop) -> Result<Figures> {
    wrk(site, Duration::from_secs(1), stop)?;
    let seconds = amount.load.as_secs_f64().ceil().max(1.0);
    let (said, cost) = cost_of(site, stop, || wrk(site, Duration::from_secs_f64(seconds), stop))?;
    let [cpu, voluntary, involuntary] = cost_each(cost, said.requests);
    Ok(vec![
        ("http.cpu", cpu),
        ("http.voluntary", voluntary),
        ("http.involuntary", involuntary),
        ("http.rate", said.rate),
        ("http.p50", said.p50),
        ("http.p99", said.p99),
        ("errors", said.errors),
    ])
}

/// Figures that wrk prints.
#[derive(Debug, PartialEq)]
struct Said {
    requests: f64,
    /// Requests a second.
    rate: f64,
    /// Latency in µs.
    p50: f64,
    p99: f64,
    /// Connections that failed and answers that were no success.
    errors: f64,
}

/// Runs wrk on one thread; it takes whole seconds only.
fn wrk(site: &Site, duration: Duration, stop: &Stop) -> Result<Said> {
    let program = find("wrk").context("wrk is not installed (bench/install.sh)")?;
    let target = format!("http://{}/", site.targets.addresses[0]);
    let mut child = session::command(&program, Signal::KILL)?
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", duration.as_secs()), "--latency", &target])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("wrk does not start")?;
    let deadline = Instant::now() + duration + Duration::from_secs(10);
    // Its output fits into the pipe, so it ends without being read.
    let ended = stop.wait_until(deadline - Instant::now(), || Ok(child.try_wait()?.is_some()));
    if !matches!(ended, Ok(true)) {
        let _ = child.kill();
        let _ = child.wait();
        ended?;
        bail!("wrk does not end");
    }
    let mut text = String::new();
    child.stdout.take().context("its output is piped")?.read_to_string(&mut text)?;
    parse(&text).with_context(|| format!("wrk said: {text}"))
}

fn parse(text: &str) -> Option<Said> {
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let sockets: f64 = after("Socket errors:")
        .map_or(0.0, |counts| counts.split([' ', ',']).filter_map(|word| word.parse::<f64>().ok()).sum());
    let refused: f64 = after("Non-2xx or 3xx responses:").and_then(|count| count.parse().ok()).unwrap_or(0.0);
    Some(Said {
        requests,
        rate: after("Requests/sec:")?.parse().ok()?,
        p50: micros(after("50%")?)?,
        p99: micros(after("99%")?)?,
        errors: sockets + refused,
    })
}

/// `812.00us`, `1.20ms` or `2.00s`, in µs.
fn micros(text: &str) -> Option<f64> {
    [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .iter()
        .find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_wrk_is_understood() {
        let text = concat!(
            "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n",
            "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n",
            "    Latency     1.37ms    2.88ms  60.47ms   95.98%\n    Req/Sec    67.25k     4.12k   71.50k    70.00%\n",
            "  Latency Distribution\n     50%    0.87ms\n     75%    1.20ms\n     90%    1.98ms\n     99%  912.00us\n",
            "  66938 requests in 1.00s, 13.85MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n",
            "  Non-2xx or 3xx responses: 4\nRequests/sec:  66912.11\nTransfer/sec:     13.85MB\n",
        );
        let wanted = Said { requests: 66938.0, rate: 66912.11, p50: 870.0, p99: 912.0, errors: 7.0 };
        assert_eq!(parse(text), Some(wanted));
    }

    #[test]
    fn anything_else_is_not() {
        assert_eq!(parse("unable to connect to 127.0.0.1:1 Connection refused\n"), None);
    }
}
