//! `ip_filter`: who may come, by address.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::value::Error as Said;
use serde::de::{Deserialize, IntoDeserializer};

use crate::admission::{NetworkRule, Networks};
use crate::config::Cidr;
use crate::hook::{Answer, Hook, Next, Request, Result, Setup, SetupError};

/// Lets in, or keeps out, clients by lists of networks; the most specific network that an address is in decides. Who is
/// kept out is answered 403.
pub struct IpFilter {
    on: On,
    networks: Networks,
    otherwise: NetworkRule,
}

/// Settings under `with:`. docs/hooks/ip_filter.md is the reference.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Settings {
    /// Networks that may come.
    #[serde(default)]
    pub allow: Vec<Cidr>,
    /// A file with more of them, one on each line.
    pub allow_file: Option<PathBuf>,
    /// Networks that may not.
    #[serde(default)]
    pub deny: Vec<Cidr>,
    /// A file with more of them, one on each line.
    pub deny_file: Option<PathBuf>,
    /// Fate of addresses in no list: by default denied if there is `allow` or `allow_file`, else allowed.
    pub otherwise: Option<NetworkRule>,
    /// Address that counts: the client's or the peer's.
    #[serde(default)]
    pub on: On,
}

/// Address that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The client's, as far as `trusted_proxies` vouches for it.
    #[default]
    Client,
    /// That of the other end of the connection: the client, or the proxy before it.
    Peer,
}

impl Hook for IpFilter {
    type Settings = Settings;
    type Context = ();

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let Settings { allow, allow_file, deny, deny_file, otherwise, on } = settings;
        if allow.is_empty() && allow_file.is_none() && deny.is_empty() && deny_file.is_none() {
            return Err(SetupError::new("there is no list: give one of `allow`, `deny`, `allow_file` and `deny_file`"));
        }
        let by_default = if allow.is_empty() && allow_file.is_none() { NetworkRule::Allow } else { NetworkRule::Deny };
        let mut networks = Networks::default();
        for (index, Cidr(network)) in allow.iter().enumerate() {
            if deny.contains(&Cidr(*network)) {
                return Err(SetupError::at(format!("allow[{index}]"), format!("{network} is also denied")));
            }
            networks.add(*network, NetworkRule::Allow);
        }
        for Cidr(network) in deny {
            networks.add(network, NetworkRule::Deny);
        }
        // What is denied last wins where both files have the same network.
        for (field, file, rule) in
            [("allow_file", allow_file, NetworkRule::Allow), ("deny_file", deny_file, NetworkRule::Deny)]
        {
            let Some(file) = file else { continue };
            for Cidr(network) in read(&file).map_err(|why| SetupError::at(field, why))? {
                networks.add(network, rule);
            }
        }
        Ok(Self { on, networks, otherwise: otherwise.unwrap_or(by_default) })
    }

    async fn on_request(&self, request: &mut Request<'_>, (): &mut ()) -> Result<Next> {
        let address = match self.on {
            On::Client => request.client(),
            On::Peer => request.peer().ip(),
        };
        Ok(match self.networks.rule(address).unwrap_or(self.otherwise) {
            NetworkRule::Allow => Next::Continue,
            NetworkRule::Deny => Answer::new(403, "this address may not come here").into(),
        })
    }
}

/// The networks in a file, or what is wrong with it.
fn read(file: &Path) -> Result<Vec<Cidr>, String> {
    let text = fs::metadata(file).and_then(|found| match found.len() {
        0..=MAX_BYTES => fs::read_to_string(file),
        _ => Err(io::Error::other("it is larger than 64 MiB")),
    });
    let text = text.map_err(|why| format!("{} cannot be read: {why}", file.display()))?;
    let mut networks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(word) = line.split(['#', ';']).next().and_then(|line| line.split_whitespace().next()) else {
            continue;
        };
        let network: Result<Cidr, Said> = Cidr::deserialize(word.into_deserializer());
        networks.push(network.map_err(|why| {
            let why = why.to_string();
            format!("{}:{}: {}", file.display(), index + 1, why.lines().next().unwrap_or_default())
        })?);
    }
    Ok(networks)
}

/// Some four million networks: more is somebody else's file.
const MAX_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests;
