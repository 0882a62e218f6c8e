//! Authentication by token: who has none gets 401, and backends are told who it is.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example auth_token -- -c examples/auth_token.yaml &
//!     curl -i http://127.0.0.1:8080/                                          # 401
//!     curl -H 'Authorization: Bearer open-sesame' http://127.0.0.1:8080/      # x-user: ada
//!     cargo run --example ws -- 'ws://127.0.0.1:8080/?token=open-sesame'      # browsers cannot set headers
//!
//! For signed tokens with a time of expiry use the hook `jwt`, which ships.

use std::collections::HashMap;
use std::process::ExitCode;

use longhaul::Gateway;
use longhaul::hook::{Answer, Hook, Next, Request, Result, Setup, SetupError};
use serde::Deserialize;

struct AuthToken {
    users: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Settings {
    /// A file with a token and the name of its user on each line. Secrets are not written into the configuration.
    tokens_file: String,
}

impl Hook for AuthToken {
    type Settings = Settings;
    type Context = ();

    /// Called at the start and at every reload: `longhaul reload` reads the tokens anew. A wrong file is reported with
    /// the line of the configuration that names it.
    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let wrong = |why: String| SetupError::at("tokens_file", why);
        let text = std::fs::read_to_string(&settings.tokens_file)
            .map_err(|error| wrong(format!("{} cannot be read: {error}", settings.tokens_file)))?;
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (token, user) =
                line.split_once(' ').ok_or_else(|| wrong(format!("line {} is not a token and a name", number + 1)))?;
            users.insert(token.to_owned(), user.trim().to_owned());
        }
        Ok(Self { users })
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut ()) -> Result<Next> {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let token = bearer.map(str::to_owned).or_else(|| request.query_value("token"));
        let Some(user) = token.and_then(|token| self.users.get(&token)) else {
            return Ok(Answer::new(401, "a token is needed").header("www-authenticate", "Bearer").into());
        };
        // Whatever the client says of itself under this name is replaced.
        request.set_header("x-user", user)?;
        request.set_key(user.as_str());
        // Backends, and their logs, have no use for the token.
        request.remove_header("authorization");
        request.set_target(&without_token(request.uri())).map(|()| Next::Continue)
    }
}

/// The path and query without the argument `token`.
fn without_token(uri: &longhaul::http::Uri) -> String {
    let arguments = uri.query().unwrap_or_default().split('&');
    let kept: Vec<_> = arguments.filter(|pair| !pair.is_empty() && !pair.starts_with("token=")).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", uri.path(), kept.join("&"))
}

fn main() -> ExitCode {
    Gateway::builder().hook::<AuthToken>("auth_token").run()
}
