//! Directives that stand for nothing in a Longhaul file, and the words about each.

use super::header;
use super::lex::Directive;
use crate::convert::place::Note;

/// Directives whose effect Longhaul has by itself, or that tune what it does not do.
const NEEDS_NOTHING: &[&str] = &[
    "accept_mutex",
    "aio",
    "auth_basic_user_file",
    "auth_request_set",
    "charset",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_body_in_file_only",
    "client_body_temp_path",
    "client_header_buffer_size",
    "default_type",
    "directio",
    "etag",
    "fastcgi_temp_path",
    "ignore_invalid_headers",
    "keepalive",
    "keepalive_time",
    "log_format",
    "log_not_found",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "merge_slashes",
    "msie_padding",
    "multi_accept",
    "open_file_cache",
    "output_buffers",
    "pcre_jit",
    "postpone_output",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_cache_bypass",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_next_upstream",
    "proxy_no_cache",
    "proxy_pass_header",
    "proxy_request_buffering",
    "proxy_socket_keepalive",
    "proxy_ssl_session_reuse",
    "proxy_temp_path",
    "random_index",
    "real_ip_recursive",
    "recursive_error_pages",
    "reset_timedout_connection",
    "scgi_temp_path",
    "send_lowat",
    "sendfile",
    "sendfile_max_chunk",
    "server_name_in_redirect",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_tokens",
    "ssl_buffer_size",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "uwsgi_temp_path",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
    "zone",
    "worker_connections",
    "use",
    "worker_rlimit_nofile",
    "worker_cpu_affinity",
    "worker_priority",
    "daemon",
    "master_process",
    "timer_resolution",
    "absolute_redirect",
    "port_in_redirect",
];

/// Directives that are read where they take effect, which is where notes about them are made.
const READ_ELSEWHERE: &[&str] = &[
    "access_log",
    "add_header",
    "allow",
    "client_body_timeout",
    "client_header_timeout",
    "client_max_body_size",
    "deny",
    "events",
    "http",
    "if",
    "include",
    "keepalive_requests",
    "keepalive_timeout",
    "limit_conn",
    "limit_conn_zone",
    "limit_req",
    "limit_req_zone",
    "listen",
    "location",
    "map",
    "proxy_connect_timeout",
    "proxy_hide_header",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_set_header",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
    "proxy_ssl_name",
    "proxy_ssl_server_name",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_verify",
    "real_ip_header",
    "return",
    "send_timeout",
    "server",
    "server_name",
    "set",
    "set_real_ip_from",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_protocols",
    "ssl_verify_client",
    "underscores_in_headers",
    "upstream",
    "worker_processes",
    "worker_shutdown_timeout",
    "proxy_next_upstream_tries",
    "least_conn",
    "ssl",
];

/// Beginnings of names, and the words about directives that have them.
const FAMILIES: &[(&str, &str)] = &[
    ("gzip", "answers go on as backends compress them"),
    ("brotli", "answers go on as backends compress them"),
    ("gunzip", "answers go on as backends compress them"),
    ("proxy_cache", "there is no cache"),
    ("fastcgi_", "backends are spoken to by HTTP alone"),
    ("uwsgi_", "backends are spoken to by HTTP alone"),
    ("scgi_", "backends are spoken to by HTTP alone"),
    ("grpc_", "backends are spoken to by HTTP/1.1 alone"),
    ("memcached_", "backends are spoken to by HTTP alone"),
    ("sub_filter", "answers are not rewritten"),
    ("proxy_cookie_", "cookies of backends are not rewritten"),
    ("js_", "write a hook in Rust instead (docs/hooks.md)"),
    ("lua_", "write a hook in Rust instead (docs/hooks.md)"),
    ("perl", "write a hook in Rust instead (docs/hooks.md)"),
    ("ssl_stapling", "OCSP responses are not stapled"),
    ("resolver", "names are asked of the system's DNS servers; see `resolve` in docs/configuration.md"),
    ("limit_rate", "answers are not slowed down; what clients send through tunnels can be (`tunnel.bytes`)"),
    ("mirror", "requests go to one backend"),
    ("dav_", "files are not served"),
];

/// Single names, and the words about them.
const SINGLE: &[(&str, &str)] = &[
    ("root", "files are not served: leave them to a web server behind a route of their own"),
    ("alias", "files are not served: leave them to a web server behind a route of their own"),
    ("index", "files are not served"),
    ("autoindex", "files are not served"),
    ("expires", "answers keep the headers that backends give them"),
    ("try_files", "files are not served"),
    ("error_page", "answers of backends and of Longhaul go on as they are"),
    ("proxy_intercept_errors", "answers of backends go on as they are"),
    ("rewrite", "backends get the path that the client asked for"),
    ("stub_status", "see `metrics` and `admin` in docs/configuration.md"),
    ("error_log", "diagnostics go to standard error; RUST_LOG has their level"),
    ("user", "systemd or `user` with `daemon` sets it (docs/operating.md)"),
    ("group", "systemd or `group` with `daemon` sets it (docs/operating.md)"),
    ("pid", "see `pid_file` in docs/configuration.md"),
    ("load_module", "no modules are loaded; see docs/hooks.md"),
    ("env", "the environment is the process's own"),
    ("stream", "TCP and UDP are not proxied, only HTTP and WebSockets"),
    ("mail", "mail is not proxied"),
    ("large_client_header_buffers", "see `limits.head` in docs/configuration.md: 32 KiB, a target of 8 KiB"),
    ("ssl_session_ticket_key", "the form of the file is another one: see `ticket_keys` in docs/configuration.md"),
    ("ssl_reject_handshake", "a client that asks for no known name gets the first certificate"),
    ("proxy_redirect", "`Location` and `Refresh` go on as backends write them"),
    ("proxy_bind", "see `client_bind_to_ipv4` in docs/configuration.md"),
    ("proxy_method", "methods are not changed"),
    ("proxy_set_body", "bodies are not changed"),
    ("http3", "HTTP/3 is not spoken"),
    ("quic_retry", "HTTP/3 is not spoken"),
    ("queue", "see `admission` in docs/limits.md"),
    ("geo", "variables are not known; the hook `ip_filter` filters networks"),
    ("split_clients", "no split by shares; see `weight`"),
    ("fastopen", "not set"),
    ("lingering_close", "not set"),
    ("lingering_time", "not set"),
    ("lingering_timeout", "not set"),
    ("resolver_timeout", "lookups run beside requests"),
    ("open_log_file_cache", "not needed"),
];

/// Directives that refuse clients, and that no hook can replace.
const PROTECTIONS: &[(&str, &str)] = &[
    ("auth_basic", "passwords are not asked for"),
    ("auth_request", "no other service is asked; the hooks `jwt` and `webhook` may do it (docs/hooks.md)"),
    ("auth_jwt", "write the hook `jwt` by hand (docs/hooks/jwt.md)"),
    ("satisfy", "every rule has to be kept"),
    ("secure_link", "links are not verified"),
    ("valid_referers", "`Referer` is not looked at; the hook `origin` looks at `Origin`"),
    ("limit_except", "methods are not told apart"),
    ("internal", "the location is for nginx's own requests"),
];

/// The note about a directive that has no reader; `None` where there is nothing to say.
pub(super) fn of(directive: &Directive) -> Option<Note> {
    let name = directive.name.as_str();
    let line = || directive.line();
    if NEEDS_NOTHING.contains(&name) || is_off(directive) {
        return None;
    }
    match name {
        "http2" => return Some(line().changed("the only protocol is HTTP/1.1, and with it every WebSocket")),
        "ssl_ciphers" | "ssl_conf_command" | "ssl_dhparam" => {
            return Some(line().changed("suites are not chosen: those of TLS 1.3, and the AEAD suites of 1.2"));
        }
        "proxy_set_header" => return header::note_of_request(directive),
        "add_header" | "proxy_hide_header" => return header::note_of_answer(directive),
        _ if READ_ELSEWHERE.contains(&name) => return None,
        _ => {}
    }
    if is_protection(directive) {
        let words = PROTECTIONS.iter().find(|(known, _)| name.starts_with(known)).map_or("", |(_, words)| words);
        return Some(line().unprotected(format!("{words}; the routes it holds for are closed (403)")));
    }
    let single = SINGLE.iter().find(|(known, _)| *known == name);
    let words = single.or_else(|| FAMILIES.iter().find(|(begin, _)| name.starts_with(begin)));
    Some(line().left_out(words.map_or("no equivalent", |(_, words)| words)))
}

/// Tells whether a directive refuses clients in a way that no hook can.
pub(super) fn is_protection(directive: &Directive) -> bool {
    let name = directive.name.as_str();
    let is_user_file = matches!(name, "auth_basic_user_file" | "auth_request_set");
    let all_of_them = name == "satisfy" && directive.argument(0) == "all";
    let known = PROTECTIONS.iter().any(|(known, _)| name.starts_with(known));
    known && !is_off(directive) && !is_user_file && !all_of_them
}

/// Tells whether a directive keeps some clients out of its block.
pub(super) fn refuses(directive: &Directive) -> bool {
    let is_answer = directive.name == "return" && matches!(directive.argument(0), "401" | "403" | "444");
    is_answer || directive.name == "deny" || is_protection(directive)
}

/// Tells whether a directive turns off something that Longhaul does not do.
fn is_off(directive: &Directive) -> bool {
    const SWITCHES: [&str; 12] = [
        "gzip",
        "proxy_redirect",
        "auth_basic",
        "auth_request",
        "error_log",
        "autoindex",
        "expires",
        "proxy_cache",
        "ssl_stapling",
        "proxy_intercept_errors",
        "ssl_reject_handshake",
        "http2",
    ];
    let word = directive.argument(0);
    (word == "off" || directive.name == "proxy_redirect" && word == "default")
        && (SWITCHES.contains(&directive.name.as_str()) || directive.name.starts_with("gzip"))
}
