//! The dashboard's page: embedded, the same for everybody, and without a secret. It asks the API by a token that a
//! person gives it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use super::Body;

/// A file of the page.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// The file at a path.
pub(super) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

impl Asset {
    /// The answer to a request for it.
    pub(super) fn answer(&self, method: &Method) -> Response<Body> {
        let (status, text) = match *method {
            Method::GET | Method::HEAD => (StatusCode::OK, self.text),
            _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
        };
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync());
        *response.status_mut() = status;
        for (name, value) in HEADERS.into_iter().chain([("content-type", self.content_type)]) {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 11] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    Asset { path: "/dashboard/page.css", content_type: "text/css; charset=utf-8", text: include_str!("page/page.css") },
    Asset { path: "/dashboard/page.js", content_type: SCRIPT, text: include_str!("page/page.js") },
    Asset { path: "/dashboard/feed.js", content_type: SCRIPT, text: include_str!("page/feed.js") },
    Asset { path: "/dashboard/words.js", content_type: SCRIPT, text: include_str!("page/words.js") },
    Asset { path: "/dashboard/rates.js", content_type: SCRIPT, text: include_str!("page/rates.js") },
    Asset { path: "/dashboard/charts.js", content_type: SCRIPT, text: include_str!("page/charts.js") },
    Asset { path: "/dashboard/verdict.js", content_type: SCRIPT, text: include_str!("page/verdict.js") },
    Asset { path: "/dashboard/backends.js", content_type: SCRIPT, text: include_str!("page/backends.js") },
    Asset { path: "/dashboard/widgets.js", content_type: SCRIPT, text: include_str!("page/widgets.js") },
    Asset { path: "/dashboard/actions.js", content_type: SCRIPT, text: include_str!("page/actions.js") },
];

/// Headers of every file. The page may load its own files and ask its own origin, and nothing else. Other origins may
/// not embed it.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
