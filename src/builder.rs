//! A gateway of one's own: the stock command line, reload and upgrade, with hooks of the program's.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli;
use crate::hook::{Hook, Injector, Registry, Setup, SetupError};
use crate::server::OnStart;
use crate::stock;

/// A gateway, as a program embeds it.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// A gateway with the hooks that ship, to which a program adds its own.
    ///
    /// ```no_run
    /// # use longhaul::hook::{Hook, NoSettings, Setup, SetupError};
    /// # struct MyHook;
    /// # impl Hook for MyHook {
    /// #     type Settings = NoSettings;
    /// #     type Context = ();
    /// #     fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> { Ok(Self) }
    /// # }
    /// fn main() -> std::process::ExitCode {
    ///     longhaul::Gateway::builder().hook::<MyHook>("my_hook").run()
    /// }
    /// ```
    pub fn builder() -> Builder {
        Builder { hooks: stock::registry(), on_start: None }
    }
}

/// What a gateway is built of.
#[must_use = "nothing runs until `run` is called"]
pub struct Builder {
    hooks: Registry,
    on_start: Option<OnStart>,
}

impl Builder {
    /// Adds a hook under the name that `hooks` of the configuration calls it by, in place of one of the same name, a
    /// stock one too.
    pub fn hook<H: Hook>(mut self, name: &str) -> Self {
        self.hooks.add::<H>(name);
        self
    }

    /// As [`hook`](Self::hook), with a function in place of [`Hook::new`]: for state that the hook shares with the
    /// program.
    pub fn hook_with<H: Hook>(
        mut self,
        name: &str,
        make: impl Fn(H::Settings, &Setup<'_, H>) -> Result<H, SetupError> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.add_with(name, make);
        self
    }

    /// Has `on_start` called once the listeners are open, on the Tokio runtime of the gateway: what is spawned there
    /// lives as long as the process.
    ///
    /// Threads and runtimes that a program starts before [`run`](Self::run) do not survive `--daemon`.
    pub fn on_start(mut self, on_start: impl FnOnce(Injector) + Send + Sync + 'static) -> Self {
        self.on_start = Some(Box::new(on_start));
        self
    }

    /// Runs the command that the process was called with: the whole command line of the stock binary.
    pub fn run(self) -> ExitCode {
        self.run_from(std::env::args_os())
    }

    /// As [`run`](Self::run), with these arguments, of which the first is the program's name.
    pub fn run_from(self, arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
        cli::run(arguments, self.hooks, self.on_start)
    }
}
