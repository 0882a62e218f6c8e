//! Keys that a process reads at its start only: a running process cannot apply a change of them.

use super::model::{Config, Listener, Tracing};
use super::sections::pingora_keys;

impl Clone for Config {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            pingora: pingora_keys::copy(&self.pingora),
            listeners: self.listeners.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            underscores_in_headers: self.underscores_in_headers,
            forwarding: self.forwarding,
            metrics: self.metrics.clone(),
            admin: self.admin.clone(),
            access_log: self.access_log.clone(),
            tracing: self.tracing.clone(),
            watch: self.watch,
            engine: self.engine,
            hook_memory: self.hook_memory,
            control_sock: self.control_sock.clone(),
            state_folder: self.state_folder.clone(),
            limits: self.limits,
            drain: self.drain,
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
        }
    }
}

impl Config {
    /// The keys that a process reads at its start only and whose values differ in `other`.
    ///
    /// The order of listeners has no meaning.
    pub fn fixed_keys_that_differ(&self, other: &Self) -> Vec<String> {
        let addresses = |config: &Self| {
            let mut addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address).collect();
            addresses.sort_unstable();
            addresses
        };
        // Where the other one traces nothing, there is nothing to export.
        let export = |config: &Self| config.tracing.as_ref().map(|tracing| tracing.export.clone());
        let export_differs = other.tracing.is_some() && export(self).flatten() != export(other).flatten();
        let ours = [
            ("listeners", addresses(self) != addresses(other)),
            ("metrics", self.metrics != other.metrics),
            ("admin", self.admin != other.admin),
            ("access_log", self.access_log != other.access_log),
            ("tracing.export", export_differs),
            ("control_sock", self.control_sock != other.control_sock),
            ("state_folder", self.state_folder != other.state_folder),
            ("engine", self.engine != other.engine),
        ];
        let ours = ours.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
        ours.chain(pingora_keys::differing(&self.pingora, &other.pingora)).collect()
    }

    /// This configuration, with the values that a process reads at its start only taken from `running`. The addresses
    /// of listeners are among these values; the other keys of a listener that keeps its address are not.
    #[must_use]
    pub fn with_fixed_keys_of(self, running: &Self) -> Self {
        let Self { pingora, mut listeners, metrics, admin, access_log, control_sock, state_folder, engine, .. } =
            running.clone();
        let export = running.tracing.as_ref().and_then(|tracing| tracing.export.clone());
        let tracing = self.tracing.map(|tracing| Tracing { export, ..tracing });
        for (index, kept) in listeners.iter_mut().enumerate() {
            // Several may have port 0; of these each is found by its place among them.
            let same = |listener: &&Listener| listener.address == kept.address;
            let nth = running.listeners[..index].iter().filter(same).count();
            if let Some(new) = self.listeners.iter().filter(same).nth(nth) {
                *kept = new.clone();
            }
        }
        Self { pingora, listeners, metrics, admin, access_log, tracing, control_sock, state_folder, engine, ..self }
    }
}
