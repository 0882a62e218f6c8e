//! The hooks that a configuration may name.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Hook;
use super::chain::caught;
use super::erased::Erased;
use super::setup::{Setup, SetupError};
use crate::config::{KnownHooks, Problem, Settings};

/// The hooks that a configuration may name, by name.
#[derive(Clone, Default)]
pub struct HookRegistry {
    makers: BTreeMap<String, Arc<dyn Maker>>,
}

impl HookRegistry {
    /// A registry that knows no hooks.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a hook under a name, in place of one of the same name.
    pub fn add<H: Hook>(&mut self, name: impl Into<String>) {
        self.add_with(name, H::new);
    }

    /// As [`add`](Self::add), with a function in place of [`Hook::new`]: for state that hooks share with the program
    /// around the gateway.
    pub fn add_with<H: Hook>(
        &mut self,
        name: impl Into<String>,
        make: impl Fn(H::Settings, &Setup<'_, H>) -> Result<H, SetupError> + Send + Sync + 'static,
    ) {
        self.makers.insert(name.into(), Arc::new(MakeWith { make, hook: PhantomData }));
    }

    pub(super) fn make(
        &self,
        at: &HookInstance<'_>,
        settings: &Settings,
        previous: Option<Arc<dyn Erased>>,
    ) -> Result<Arc<dyn Erased>, Vec<Problem>> {
        match self.makers.get(at.name) {
            Some(maker) => maker.make(at, settings, previous.map(Erased::into_any)),
            None => Err(vec![settings.problem("", format!("there is no hook `{}`", at.name))]),
        }
    }
}

/// Name and route under which a hook is made.
pub(super) struct HookInstance<'p> {
    pub(super) name: &'p str,
    pub(super) route: &'p str,
    pub(super) checking: bool,
}

trait Maker: Send + Sync {
    fn make(
        &self,
        at: &HookInstance<'_>,
        settings: &Settings,
        previous: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Arc<dyn Erased>, Vec<Problem>>;
}

struct MakeWith<H, F> {
    make: F,
    hook: PhantomData<fn() -> H>,
}

impl<H, F> Maker for MakeWith<H, F>
where
    H: Hook,
    F: Fn(H::Settings, &Setup<'_, H>) -> Result<H, SetupError> + Send + Sync,
{
    fn make(
        &self,
        at: &HookInstance<'_>,
        settings: &Settings,
        previous: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Arc<dyn Erased>, Vec<Problem>> {
        let setup = Setup {
            name: at.name,
            route: at.route,
            checking: at.checking,
            // A hook of another type may have had the name before.
            previous: previous.and_then(|previous| previous.downcast::<H>().ok()),
        };
        // Reading runs code of the hook's: `Deserialize` of its settings.
        let made = caught(|| {
            let read = settings.read::<H::Settings>()?;
            (self.make)(read, &setup).map_err(|SetupError { field, message }| vec![settings.problem(&field, message)])
        });
        match made {
            Ok(made) => made.map(|hook| Arc::new(hook) as Arc<dyn Erased>),
            Err(said) => {
                Err(vec![settings.problem("", format!("the hook `{}` panicked when it was made: {said}", at.name))])
            }
        }
    }
}

impl KnownHooks for HookRegistry {
    fn names(&self) -> Vec<&str> {
        self.makers.keys().map(String::as_str).collect()
    }

    fn check(&self, name: &str, settings: &Settings) -> Result<(), Vec<Problem>> {
        let hook = self.make(&HookInstance { name, route: "", checking: true }, settings, None)?;
        let panicked =
            |said| vec![settings.problem("", format!("the hook `{name}` panicked when it was dropped: {said}"))];
        caught(|| drop(hook)).map_err(panicked)
    }
}

impl fmt::Debug for HookRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.makers.keys()).finish()
    }
}
