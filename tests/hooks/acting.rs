//! A hook that does what the request tells it to, in `X-Act`.
//!
//! A line of `X-Act` reads `NAME PHASE VERB ARGUMENTS`: the hook of that name does VERB in that phase.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longhaul::hook::{
    Answer, Backend, Entry, Error, Hook, Next, Pick, Request, Response, Result, Setup, SetupError, Upgrade,
};
use longhaul::serde::Deserialize;

/// See the module.
pub(crate) struct Acting {
    settings: Settings,
    /// Requests seen by this hook and by its predecessors over reloads.
    seen: Arc<AtomicU64>,
    quiet: bool,
}

#[derive(Deserialize)]
#[serde(crate = "longhaul::serde", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Name that the hook's lines of `X-Act` begin with.
    #[serde(default = "a")]
    name: String,
    /// Text that the hook logs when it is dropped; tests tell generations apart by it.
    #[serde(default)]
    label: String,
}

fn a() -> String {
    "a".to_owned()
}

/// The lines of `X-Act` for one hook.
#[derive(Default)]
pub(crate) struct Script {
    lines: Vec<Line>,
    /// Backends that the hook was asked about so far.
    picked: Vec<String>,
}

#[derive(Clone)]
struct Line {
    phase: String,
    verb: String,
    arguments: Vec<String>,
}

impl Script {
    fn read(name: &str, request: &Request<'_>) -> Self {
        let lines = request.headers().get_all("x-act").iter().filter_map(|line| line.to_str().ok());
        let lines = lines.filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            (words.next()? == name).then_some(())?;
            Some(Line { phase: words.next()?, verb: words.next()?, arguments: words.collect() })
        });
        Self { lines: lines.collect(), picked: Vec::new() }
    }

    fn of<'s>(&'s self, phase: &'s str) -> impl Iterator<Item = &'s Line> {
        self.lines.iter().filter(move |line| line.phase == phase)
    }
}

impl Line {
    fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).map_or("", String::as_str)
    }

    /// Fails as the line says: by an error, a panic or silence. Every phase may.
    async fn fail(&self) -> Result<()> {
        match self.verb.as_str() {
            "error" => Err(Error::new("a secret that no client is to see")),
            "panic" => panic!("a secret that no client is to see"),
            "hang" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

impl Hook for Acting {
    type Settings = Settings;
    type Context = Script;

    fn new(settings: Settings, setup: &Setup<'_, Self>) -> Result<Self, SetupError> {
        if settings.name.contains(' ') {
            return Err(SetupError::at("name", "a name has no blanks"));
        }
        let seen = setup.previous().map(|previous| Arc::clone(&previous.seen)).unwrap_or_default();
        Ok(Self { settings, seen, quiet: setup.checking() })
    }

    async fn on_request(&self, request: &mut Request<'_>, script: &mut Script) -> Result<Next> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        *script = Script::read(&self.settings.name, request);
        request.append_header("x-seen-by", &self.settings.name)?;
        act(script, "request", request).await
    }

    async fn on_upgrade(&self, upgrade: &mut Upgrade<'_>, script: &mut Script) -> Result<Next> {
        for line in script.of("upgrade").filter(|line| line.verb == "limit") {
            upgrade.limits.max_message = Some(line.argument(0).parse()?);
        }
        upgrade.request.append_header("x-upgrade-seen-by", &self.settings.name)?;
        act(script, "upgrade", &mut upgrade.request).await
    }

    async fn on_pick(&self, backend: &Backend<'_>, script: &mut Script) -> Result<Pick> {
        script.picked.push(format!("{}/{}#{}", backend.upstream, backend.address, backend.tries));
        for line in script.of("pick") {
            line.fail().await?;
            let address = backend.address.to_string();
            if line.verb == "veto" && (line.argument(0) == "all" || line.arguments.contains(&address)) {
                return Ok(Pick::Veto);
            }
        }
        Ok(Pick::Accept)
    }

    async fn on_response(&self, response: &mut Response<'_>, script: &mut Script) -> Result<()> {
        for line in script.of("response") {
            line.fail().await?;
            match line.verb.as_str() {
                "set" => response.set_header(line.argument(0), line.argument(1))?,
                "remove" => response.remove_header(line.argument(0)),
                "status" => response.set_status(line.argument(0).parse()?)?,
                _ => {}
            }
        }
        response.append_header("x-answer-seen-by", &self.settings.name)?;
        response.set_header("x-label", &self.settings.label)?;
        response.set_header("x-count", self.seen.load(Ordering::Relaxed).to_string())
    }

    /// Packs nothing: an open tunnel needs no line of `X-Act`.
    fn pack(&self, _: &Script) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    fn on_log(&self, entry: &mut Entry<'_>, script: &mut Script) {
        for line in script.of("log") {
            match line.verb.as_str() {
                "panic" => panic!("a secret that no client is to see"),
                "note" => entry.add("noted", line.argument(0)),
                _ => {}
            }
        }
        if !script.picked.is_empty() {
            entry.add("picks", script.picked.join(","));
        }
        if script.of("log").next().is_some() {
            entry.add("seen", format!("{} {} {}", entry.event, entry.route, entry.status));
        }
    }
}

async fn act(script: &Script, phase: &str, request: &mut Request<'_>) -> Result<Next> {
    for line in script.of(phase) {
        line.fail().await?;
        let (first, second) = (line.argument(0), line.argument(1));
        match line.verb.as_str() {
            "answer" => return Ok(Answer::new(first.parse()?, line.arguments[1..].join(" ")).into()),
            "page" => return Ok(page(second).into()),
            "redirect" => return Ok(Answer::redirect(first).into()),
            "set" => request.set_header(first, second)?,
            "add" => request.append_header(first, second)?,
            "remove" => request.remove_header(first),
            "target" => request.set_target(first)?,
            "key" => request.set_key(first),
            "upstream" => request.set_upstream(first),
            "tell" => return Ok(Answer::new(200, told(request)).into()),
            _ => {}
        }
    }
    Ok(Next::Continue)
}

/// An answer of the hook's with a wrong `Content-Length`, which the gateway has to correct.
fn page(body: &str) -> Answer {
    let answer = Answer::new(200, "").header("x-page", "yes").header("cache-control", "max-age=60");
    answer.header("Content-Length", "1").body("text/html", body.to_owned())
}

/// Everything that a hook can read of a request.
fn told(request: &Request<'_>) -> String {
    format!(
        "client={} host={} route={} upstream={} upgrade={} method={} path={} room={:?} cookie={:?} id={} secure={} \
         certificate={:?}",
        request.client(),
        request.host(),
        request.route(),
        request.upstream(),
        request.is_upgrade(),
        request.method(),
        request.path(),
        request.query_value("room"),
        request.cookie("c"),
        request.id(),
        request.is_secure(),
        request.client_certificate().map(|certificate| (&certificate.fingerprint, &certificate.names)),
    )
}

impl Drop for Acting {
    fn drop(&mut self) {
        if !self.quiet {
            crate::say(format!("the hook labelled {:?} is gone", self.settings.label));
        }
    }
}
