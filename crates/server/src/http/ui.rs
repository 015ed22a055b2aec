//! The dashboard: its files, and the page itself for every address inside it.
//!
//! There is nothing secret in the files; what the page shows it asks for with the token of whoever looks. The page may
//! load nothing from elsewhere, run nothing that stands in it, and be shown in nobody's frame. Addresses are listed one
//! by one, so the dashboard never takes what belongs to the API or to a program that embeds the server.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pulsewire_protocol::ErrorCode;
use sha2::{Digest as _, Sha256};

use super::problem::Problem;
use crate::app::App;

/// The first parts of the addresses inside the dashboard, beside `/`: those of `dashboard/src/pages.ts`.
pub const PAGES: [&str; 11] = [
    "connections",
    "channels",
    "runs",
    "series",
    "upstreams",
    "alerts",
    "errors",
    "cluster",
    "events",
    "audit",
    "try",
];

/// The page itself.
const INDEX: &str = "index.html";
/// What the page loads, and its content type.
const FILES: [(&str, &str); 4] = [
    (INDEX, "text/html; charset=utf-8"),
    ("app.js", "text/javascript; charset=utf-8"),
    ("app.css", "text/css; charset=utf-8"),
    ("icon.svg", "image/svg+xml"),
];

/// Nothing from elsewhere, nothing inline, in nobody's frame. `'self'` includes the WebSocket of the same host.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// The dashboard's addresses.
pub(super) fn router() -> Router<Arc<App>> {
    let page = || {
        get(
            |State(app): State<Arc<App>>, headers: HeaderMap| async move { serve(&app, INDEX, &headers).await },
        )
    };
    let mut router = Router::new().route("/", page());
    for name in PAGES {
        router = router.route(&format!("/{name}"), page()).route(&format!("/{name}/{{*rest}}"), page());
    }
    for (name, _) in FILES.into_iter().filter(|(name, _)| *name != INDEX) {
        let file = move |State(app): State<Arc<App>>, headers: HeaderMap| async move {
            serve(&app, name, &headers).await
        };
        router = router.route(&format!("/{name}"), get(file));
    }
    router
}

async fn serve(app: &App, name: &'static str, headers: &HeaderMap) -> Result<Response, Problem> {
    let settings = app.live.load().settings.dashboard.clone();
    if !settings.enabled {
        return Err(Problem::new(ErrorCode::NotFound, "the dashboard is off (dashboard.enabled)"));
    }
    let file = match settings.folder {
        None => EMBEDDED.get(name).map(Cow::Borrowed),
        Some(folder) => from_folder(folder, name).await.map_err(|error| {
            Problem::new(ErrorCode::NotFound, format!("{name} in dashboard.folder: {error}"))
        })?,
    };
    let file = file.ok_or_else(|| {
        Problem::new(
            ErrorCode::NotFound,
            "this build has no dashboard (it was made without the feature `ui`)",
        )
    })?;
    Ok(respond(&file, name, headers))
}

/// A file as it is served.
#[derive(Debug, Clone)]
struct Served {
    plain: Bytes,
    zipped: Bytes,
    /// What the content is called, without quotes.
    tag: String,
}

/// The files of the binary; compressed when the first of them is asked for.
static EMBEDDED: LazyLock<HashMap<&'static str, Served>> = LazyLock::new(|| {
    embedded().into_iter().map(|(name, bytes)| (name, Served::new(Bytes::from_static(bytes)))).collect()
});

#[cfg(feature = "ui")]
fn embedded() -> Vec<(&'static str, &'static [u8])> {
    pulsewire_ui::FILES.iter().map(|file| (file.name, file.bytes)).collect()
}

#[cfg(not(feature = "ui"))]
fn embedded() -> Vec<(&'static str, &'static [u8])> {
    Vec::new()
}

impl Served {
    fn new(plain: Bytes) -> Self {
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&plain)[..12]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zipped = encoder.write_all(&plain).and_then(|()| encoder.finish());
        Self { zipped: zipped.map_or_else(|_| Bytes::new(), Bytes::from), plain, tag }
    }
}

/// Reads a file for whoever works on the dashboard.
async fn from_folder(
    folder: std::path::PathBuf,
    name: &'static str,
) -> io::Result<Option<Cow<'static, Served>>> {
    let read = tokio::task::spawn_blocking(move || std::fs::read(Path::new(&folder).join(name)));
    let bytes = read.await.map_err(io::Error::other)??;
    Ok(Some(Cow::Owned(Served::new(bytes.into()))))
}

fn respond(file: &Served, name: &str, headers: &HeaderMap) -> Response {
    let zips = !file.zipped.is_empty() && takes_gzip(headers);
    let tag = format!("\"{}{}\"", file.tag, if zips { "-gzip" } else { "" });
    let body = match (has(headers, &tag), zips) {
        (true, _) => None,
        (false, true) => Some(file.zipped.clone()),
        (false, false) => Some(file.plain.clone()),
    };
    let mut response = match body {
        None => StatusCode::NOT_MODIFIED.into_response(),
        Some(body) => Body::from(body).into_response(),
    };
    let content_type =
        FILES.iter().find(|(known, _)| *known == name).map_or("", |(_, content_type)| content_type);
    let sent = response.headers_mut();
    let mut put = |name, value| sent.insert(name, HeaderValue::from_static(value));
    put(header::CONTENT_TYPE, content_type);
    // It may be kept, and is asked about each time: after an update nobody sees the old page.
    put(header::CACHE_CONTROL, "no-cache");
    put(header::VARY, "accept-encoding");
    put(header::CONTENT_SECURITY_POLICY, POLICY);
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::REFERRER_POLICY, "no-referrer");
    if zips {
        put(header::CONTENT_ENCODING, "gzip");
    }
    sent.insert(header::ETAG, HeaderValue::try_from(tag).expect("base64url and quotes"));
    response
}

/// Whether the client takes gzip (RFC 9110 §12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight == 0.0))
        });
        named && !refused
    })
}

/// Whether the client has the content already (RFC 9110 §13.1.2: compared weakly).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (value, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&headers(header::ACCEPT_ENCODING, value)), takes, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_somebody_has_is_not_sent_again() {
        for (value, knows) in
            [("\"a\"", true), ("\"b\", W/\"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(has(&headers(header::IF_NONE_MATCH, value), "\"a\""), knows, "{value}");
        }
    }

    #[cfg(feature = "ui")]
    #[test]
    fn every_file_of_the_dashboard_has_an_address_and_a_type() {
        let embedded: Vec<&str> = pulsewire_ui::FILES.iter().map(|file| file.name).collect();
        assert_eq!(FILES.map(|(name, _)| name).to_vec(), embedded);
    }
}
