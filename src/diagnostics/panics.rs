//! Panic messages as lines of diagnostics: the standard library would write them to standard error itself, and wait for
//! its reader.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use log::error;

/// Reports panics of this process from now on as lines of diagnostics.
pub(super) fn report() {
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        // Taken where `RUST_BACKTRACE` asks for it.
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        error!("panic at {place} in thread {name}: {}{backtrace}", message(info));
    }));
}

fn message<'p>(info: &'p PanicHookInfo<'_>) -> &'p str {
    let payload: &dyn Any = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}
