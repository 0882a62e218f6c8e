//! Metrics of one's own, on the same page as the gateway's.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example metrics -- -c examples/metrics.yaml &
//!     cargo run --example ws -- ws://127.0.0.1:8080/           # in another terminal: a line, then Control-D
//!     curl -s http://127.0.0.1:9100/metrics | grep '^app_'
//!
//! Whatever is registered with the default registry of the crate `prometheus` appears on the page.

use std::process::ExitCode;
use std::sync::LazyLock;

use longhaul::Gateway;
use longhaul::hook::{
    Closed, Direction, Hook, Message, Messages, NoSettings, Result, Setup, SetupError, Tunnel, Verdict,
};
use longhaul::prometheus::{HistogramVec, IntCounterVec, register_histogram_vec, register_int_counter_vec};

// A process has one page of metrics; a hook is made anew at every reload, and `check` makes one too.
static MESSAGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("app_messages_total", "Messages, by their kind.", &["kind"])
        .expect("the name is registered once")
});
static SESSIONS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = vec![1.0, 60.0, 3600.0, 86_400.0];
    register_histogram_vec!("app_session_seconds", "How long clients stay, by how they leave.", &["how"], buckets)
        .expect("the name is registered once")
});

struct Counting;

impl Hook for Counting {
    type Settings = NoSettings;
    type Context = ();

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }

    fn messages(&self) -> Messages {
        Messages::TO_BACKEND
    }

    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, _: &mut ()) -> Result<Verdict> {
        // Labels come from a fixed list: a client must not be able to make up new ones.
        let kind = match message.as_text() {
            Some(text) if text.starts_with('/') => "command",
            Some(_) => "text",
            None => "binary",
        };
        MESSAGES.with_label_values(&[kind]).inc();
        Ok(Verdict::Pass)
    }

    async fn on_close(&self, _: &Tunnel, closed: &Closed, _: &mut ()) {
        let how = if closed.code == 1000 { "goodbye" } else { "other" };
        SESSIONS.with_label_values(&[how]).observe(closed.lasted.as_secs_f64());
    }
}

fn main() -> ExitCode {
    Gateway::builder().hook::<Counting>("counting").run()
}
