//! A gateway with hooks of a program's own, and the command line, reload and upgrade of the stock binary.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli;
use crate::hook::{Hook, HookRegistry, Injector, Setup, SetupError};
use crate::server::OnStart;
use crate::stock;

/// The gateway that a program embeds.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Starts a gateway with the hooks that ship, to which a program adds its own.
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

/// The hooks and callbacks of a gateway under construction.
#[must_use = "nothing runs until `run` is called"]
pub struct Builder {
    hooks: HookRegistry,
    on_start: Option<OnStart>,
}

impl Builder {
    /// Adds a hook under the name that the configuration's `hooks` uses. It replaces a hook of the same name, a stock
    /// one included.
    pub fn hook<H: Hook>(mut self, name: &str) -> Self {
        self.hooks.add::<H>(name);
        self
    }

    /// Does as [`hook`](Self::hook), with a function in place of [`Hook::new`]: for state that the hook shares with the
    /// program.
    pub fn hook_with<H: Hook>(
        mut self,
        name: &str,
        make: impl Fn(H::Settings, &Setup<'_, H>) -> Result<H, SetupError> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.add_with(name, make);
        self
    }

    /// Registers `on_start`, which is called once the listeners are open, on the gateway's Tokio runtime. Tasks spawned
    /// there live as long as the process.
    ///
    /// Threads and runtimes that a program starts before [`run`](Self::run) do not survive `--daemon`.
    pub fn on_start(mut self, on_start: impl FnOnce(Injector) + Send + Sync + 'static) -> Self {
        self.on_start = Some(Box::new(on_start));
        self
    }

    /// Runs the command of the process's arguments, with the whole command line of the stock binary.
    pub fn run(self) -> ExitCode {
        self.run_from(std::env::args_os())
    }

    /// Does as [`run`](Self::run) with these arguments, the first of which is the program's name.
    pub fn run_from(self, arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
        cli::run(arguments, self.hooks, self.on_start)
    }
}
