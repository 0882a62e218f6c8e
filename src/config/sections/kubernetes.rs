//! `discover.kubernetes`: the service whose endpoints are members.

use std::path::{Path, PathBuf};

use super::keys;
use crate::config::model::KubernetesService;
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::text;
use crate::config::yaml::value::Value;

const SERVICE: &str = "the name of a service, such as `prod/chat` or `chat`";
const PORT: &str = "the name of a port of the service, such as `ws`, or its number";
const KUBECONFIG: &str = "an absolute path, such as `/etc/longhaul/kubeconfig`";

/// Reads `kubernetes`.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<KubernetesService> {
    let mut fields = keys::KUBERNETES.fields(value, report)?;
    let service = fields.required("service", SERVICE, report).and_then(|v| service(&v, report));
    let port = fields.take_or("port", None, |v| port(v, report).map(Some));
    let kubeconfig = fields.take_or("kubeconfig", None, |v| kubeconfig(v, report).map(Some));
    let context = fields.take("context");
    let name = match &context {
        Some(v) if matches!(kubeconfig, Some(None)) => {
            let problem = v.error("a context of which file?").expected("`kubeconfig` beside it");
            return report.refuse(problem.remedy("name the file, or remove `context`: a pod has one account only"));
        }
        Some(v) => text(v, "the name of a context", report).map(|name| Some(name.into())),
        None => Some(None),
    };
    let (namespace, service) = service?;
    Some(KubernetesService { namespace, name: service, port: port?, kubeconfig: kubeconfig?, context: name? })
}

fn service(value: &Value<'_>, report: &mut Report) -> Option<(Option<Box<str>>, Box<str>)> {
    let named = text(value, SERVICE, report)?;
    let (namespace, name) = match named.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, named),
    };
    if is_label(name) && namespace.is_none_or(is_label) {
        return Some((namespace.map(Into::into), name.into()));
    }
    let problem = value.error(format!("{} is no service", quoted(named))).expected(SERVICE);
    report.refuse(problem.remedy("names are made of a-z, 0-9 and `-`; `chat.prod.svc` is written `prod/chat`"))
}

fn port(value: &Value<'_>, report: &mut Report) -> Option<Box<str>> {
    let port = text(value, PORT, report)?;
    let is_number = || port.parse::<u16>().is_ok_and(|number| number > 0);
    if is_label(port) && (port.bytes().any(|byte| byte.is_ascii_lowercase()) || is_number()) {
        return Some(port.into());
    }
    report.refuse(value.error(format!("{} is no port", quoted(port))).expected(PORT))
}

fn kubeconfig(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    let path = text(value, KUBECONFIG, report)?;
    if Path::new(path).is_absolute() {
        return Some(path.into());
    }
    report.refuse(value.error("the path is relative, and it is not said to what").expected(KUBECONFIG))
}

/// RFC 1123 §2.1, in small letters: what Kubernetes takes for the name of a namespace, a service or a port.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}
