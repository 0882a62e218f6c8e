//! The values of `discover`, and members as files list them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::backend::Backend;
use super::listener::PemPair;

/// `discover`: what knows the members of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Discover {
    /// The source.
    pub from: DiscoverFrom,
    /// `settle`: changes are gathered for so long, default 1 s.
    pub settle: Duration,
    /// `keep_empty`: an answer without members takes nobody away for so long, default 5 min.
    pub keep_empty: Duration,
    /// `wait`: the start, and a reload that begins with the source, waits so long for its first answer, default 5 s.
    pub wait: Duration,
}

/// Source of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiscoverFrom {
    /// `file`: a file that is watched.
    File(PathBuf),
    /// `push`: commands on the control socket.
    Push,
    /// `dns`: the addresses of a name, each a member.
    Dns(DnsName),
    /// `srv`: the targets of a name's SRV records, each a member.
    Srv(DnsService),
    /// `etcd`: the keys under a prefix, each a member.
    Etcd(Etcd),
    /// `kubernetes`: the endpoints of a service, each a member.
    Kubernetes(KubernetesService),
    /// `backends` with host names among them, which are resolved.
    Backends(ListedNames),
}

/// `dns`: a name whose addresses are members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsName {
    /// `name`
    pub name: String,
    /// `port` of every member.
    pub port: u16,
    /// The servers that are asked, and for what.
    pub lookup: Lookup,
}

/// `srv`: a name whose SRV records name the members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsService {
    /// `name`, such as `_ws._tcp.chat.internal`.
    pub name: String,
    /// The servers that are asked, and for what.
    pub lookup: Lookup,
}

/// `etcd`: a prefix whose keys are members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Etcd {
    /// `endpoints`: URLs of the servers, which are tried in turn; at least one.
    pub endpoints: Vec<Box<str>>,
    /// `prefix`: begin of the keys, with `/` at its end.
    pub prefix: Box<str>,
    /// `ca`: authorities of the servers' certificates; those of the system where left out.
    pub ca: Option<PathBuf>,
    /// `certificate` and `key` by which the gateway shows who it is.
    pub certificate: Option<PemPair>,
    /// `user`; none where etcd asks for none.
    pub user: Option<EtcdUser>,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdUser {
    /// `user`
    pub name: Box<str>,
    /// `password` or `password_file`
    pub password: Password,
}

/// A password, or the file that has it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Password {
    /// `password`
    Given(Box<str>),
    /// `password_file`: its first line, read each time that it is needed.
    File(PathBuf),
}

impl fmt::Debug for Password {
    /// A password is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// `kubernetes`: a service whose endpoints are members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KubernetesService {
    /// Namespace of the service; that of the credentials where left out.
    pub namespace: Option<Box<str>>,
    /// Name of the service.
    pub name: Box<str>,
    /// `port`: its name or number; may be left out where the service has one.
    pub port: Option<Box<str>>,
    /// `kubeconfig`: the file with address and credentials of the API server; those of the pod that the gateway runs in
    /// where left out.
    pub kubeconfig: Option<PathBuf>,
    /// `context` of that file; its current one where left out.
    pub context: Option<Box<str>>,
}

/// Entries of `backends`, some of them by host names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListedNames {
    /// The entries with addresses.
    pub backends: Vec<Backend>,
    /// The entries with host names.
    pub hosts: Vec<Host>,
    /// The servers that are asked, and for what.
    pub lookup: Lookup,
}

/// An entry of `backends` with a host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Text that stands on the ring: the entry's name, else host and port as written.
    pub text: Box<str>,
    /// The host name.
    pub host: Box<str>,
    /// Port of each of its addresses.
    pub port: u16,
    /// Weight of the name, whatever number of addresses it has.
    pub weight: u16,
}

/// Servers that are asked, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// `servers`: those of the system where empty.
    pub servers: Vec<SocketAddr>,
    /// `ipv6`: default `fallback`.
    pub ipv6: Ipv6,
}

/// Use of a name's IPv6 addresses (AAAA records).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ipv6 {
    /// `fallback`: where the name has no IPv4 address.
    #[default]
    Fallback,
    /// `off`: not asked for.
    Off,
    /// `only`: IPv4 addresses are not asked for.
    Only,
    /// `both`: each address of both families is a member.
    Both,
}

impl DiscoverFrom {
    /// The servers that are asked, and for what, where names are resolved.
    pub fn lookup(&self) -> Option<&Lookup> {
        match self {
            Self::File(_) | Self::Push | Self::Etcd(_) | Self::Kubernetes(_) => None,
            Self::Dns(name) => Some(&name.lookup),
            Self::Srv(name) => Some(&name.lookup),
            Self::Backends(names) => Some(&names.lookup),
        }
    }
}

impl Discover {
    /// A source with the defaults of the other keys.
    pub fn of(from: DiscoverFrom) -> Self {
        let [settle, keep_empty, wait] = [1, 300, 5].map(Duration::from_secs);
        Self { from, settle, keep_empty, wait }
    }
}

/// A member as a file lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMember {
    /// Its name, address and weight.
    pub backend: Backend,
    /// `leaving`: it gets nothing new, and its tunnels are closed.
    pub leaving: bool,
}
