//! The smallest hook: a password for a route.
//!
//!     cargo run --example echo -- 9001 &
//!     cargo run --example password -- -c examples/password.yaml &
//!     curl -i http://127.0.0.1:8080/                            # 401
//!     curl -H 'X-Password: xyzzy' http://127.0.0.1:8080/

use longhaul::hook::{Answer, Hook, Next, Request, Result, Setup, SetupError};

#[derive(serde::Deserialize)]
struct Password {
    password: String,
}

impl Hook for Password {
    type Settings = Self; // what stands under `with:`
    type Context = (); // what is kept of each request and tunnel

    fn new(settings: Self, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(settings)
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut ()) -> Result<Next> {
        match request.header("x-password") {
            Some(given) if given == self.password => Ok(Next::Continue),
            _ => Ok(Answer::new(401, "a password is needed").into()),
        }
    }
}

fn main() -> std::process::ExitCode {
    longhaul::Gateway::builder().hook::<Password>("password").run()
}
