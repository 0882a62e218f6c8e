//! `transport_socket` of both sides.

use super::tree::At;
use crate::convert::fits;
use crate::convert::model::{Listener, Tls, UpstreamTls};
use crate::convert::place::Note;

/// Adds the TLS of a filter chain to its listener.
pub(super) fn downstream(chain: &At<'_>, listener: &mut Listener) {
    let Some(socket) = chain.get("transport_socket") else { return };
    let Some(context) = socket.typed("DownstreamTlsContext") else {
        listener.notes.push(socket.line().left_out("the only transport is TLS"));
        return;
    };
    let tls = listener.tls.get_or_insert_with(Tls::default);
    if let Some(common) = context.get("common_tls_context") {
        for certificate in common.items("tls_certificates") {
            match pair(&certificate) {
                Some(pair) if !tls.certificates.contains(&pair) => tls.certificates.push(pair),
                Some(_) => {}
                None => listener.notes.push(certificate.line().left_out("a certificate and its key are files")),
            }
        }
        if let Some(sds) = common.get("tls_certificate_sds_secret_configs") {
            listener.notes.push(sds.line().left_out("name the files: renewed ones are taken up"));
        }
        let params = common.get("tls_params");
        tls.only_1_3 |= params.is_some_and(|params| params.word("tls_minimum_protocol_version") == "TLSv1_3");
        if let Some(suites) = params.and_then(|params| params.get("cipher_suites")) {
            listener
                .notes
                .push(suites.line().changed("suites are not chosen: those of TLS 1.3, and the AEAD suites of 1.2"));
        }
        let protocols = common.items("alpn_protocols");
        if let Some(protocol) = protocols.iter().find(|protocol| protocol.text() == "h2") {
            listener.notes.push(protocol.line().changed("the only protocol is HTTP/1.1, and with it every WebSocket"));
        }
        let ca = common.way(&["validation_context", "trusted_ca", "filename"]);
        match ca {
            Some(ca) => tls.client_auth = Some((ca.text().to_owned(), context.is_true("require_client_certificate"))),
            None if context.is_true("require_client_certificate") => {
                listener
                    .notes
                    .push(context.line().unprotected("no `trusted_ca` in a file: certificates are not asked for"));
            }
            None => {}
        }
    }
}

fn pair(certificate: &At<'_>) -> Option<(String, String)> {
    let file = |key: &str| {
        let file = certificate.get(key)?.word("filename");
        (!file.is_empty()).then(|| file.to_owned())
    };
    Some((file("certificate_chain")?, file("private_key")?))
}

/// TLS, and the version of PROXY headers, of a cluster's socket.
pub(super) fn upstream(cluster: &At<'_>, notes: &mut Vec<Note>) -> (Option<UpstreamTls>, Option<&'static str>) {
    let Some(socket) = cluster.get("transport_socket") else { return (None, None) };
    if let Some(config) = socket.typed("ProxyProtocolUpstreamTransport") {
        let version = config.way(&["config", "version"]).map_or("", |value| value.text());
        let inner = config.get("transport_socket").and_then(|inner| inner.typed("UpstreamTlsContext"));
        let version = if version == "V2" { "v2" } else { "v1" };
        return (inner.map(|context| context_of(&context, notes)), Some(version));
    }
    match socket.typed("UpstreamTlsContext") {
        Some(context) => (Some(context_of(&context, notes)), None),
        None if socket.type_name() == "RawBuffer" => (None, None),
        None => {
            notes.push(socket.line().left_out("the only transports are TLS and the PROXY protocol"));
            (None, None)
        }
    }
}

fn context_of(context: &At<'_>, notes: &mut Vec<Note>) -> UpstreamTls {
    let common = context.get("common_tls_context");
    let ca = common.and_then(|common| common.way(&["validation_context", "trusted_ca", "filename"]));
    let server_name = fits::host_name(context.word("sni"));
    if ca.is_none() {
        let words =
            "Envoy verifies nothing without a `trusted_ca`, and neither does this: remove `verify: false` once it may";
        notes.push(context.line().changed(words));
    }
    let certificate = common.and_then(|common| pair(common.items("tls_certificates").first()?));
    UpstreamTls { server_name, ca: ca.map(|ca| ca.text().to_owned()), certificate, unverified: ca.is_none() }
}
