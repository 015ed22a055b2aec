//! What stands in front of every admin endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use pulsewire_hub::Principal;
use pulsewire_protocol::ErrorCode;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::audit::{self, Act, Outcome};
use crate::http::access::{self, Caller, Takes};
use crate::http::body::Whole;
use crate::http::problem::Problem;

/// Who looks on: in front of everything that only reads.
#[derive(Debug, Clone)]
pub struct Viewer(pub Arc<Principal>);

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = caller(parts, app).await?;
        access::viewer(app, &caller).await.map(Self)
    }
}

/// Who acts: in front of everything that changes something. Whoever may only look is refused, and that is written down.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who.
    pub who: Arc<Principal>,
    /// From which address.
    pub from: IpAddr,
}

impl FromRequestParts<Arc<App>> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = caller(parts, app).await?;
        let who = access::required(app, &caller, Takes::Tokens).await?;
        let actor = Self { who, from: caller.remote.ip() };
        if let Err(problem) = access::operates(app, &actor.who) {
            actor.write(app, "request", parts.uri.path(), Outcome::Refused, &problem.detail).await;
            return Err(problem);
        }
        // Last, so that whoever may not ask learns nothing from the order of refusals.
        check_form(&parts.method, &parts.headers)?;
        Ok(actor)
    }
}

impl Actor {
    /// Writes down what was done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the writing go on.
    pub async fn done(&self, app: &Arc<App>, action: &'static str, target: &str, detail: &str) {
        self.write(app, action, target, Outcome::Done, detail).await;
    }

    async fn write(
        &self,
        app: &Arc<App>,
        action: &'static str,
        target: &str,
        outcome: Outcome,
        detail: &str,
    ) {
        let act = Act { who: &self.who, from: self.from, action, target, outcome, detail };
        audit::write(app, act).await;
    }
}

async fn caller(parts: &mut Parts, app: &Arc<App>) -> Result<Caller, Problem> {
    let caller = Caller::from_request_parts(parts, app).await?;
    check_host(&parts.headers, &app.live.load().settings.server.allowed_hosts)?;
    Ok(caller)
}

/// A web page whose host name was made to point at this server is still not this server's page
/// (DNS rebinding). Addresses and `localhost` cannot be made to point elsewhere.
fn check_host(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = host_without_port(named);
    let own = host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || allowed.iter().any(|name| name.eq_ignore_ascii_case(host));
    if own {
        Ok(())
    } else {
        Err(Problem::new(ErrorCode::Forbidden, "the host name is not in server.allowed_hosts"))
    }
}

fn host_without_port(named: &str) -> &str {
    match named.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => named.split(':').next().unwrap_or_default(),
    }
}

/// A web page can send a form, or nothing, to another server without asking; JSON it cannot.
fn check_form(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method != Method::POST || is_json(headers) {
        return Ok(());
    }
    let has = |name| headers.contains_key(name);
    if has(header::CONTENT_TYPE) || has(header::ORIGIN) {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, "send Content-Type: application/json"));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// A JSON body, with `Content-Type: application/json`.
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, "send Content-Type: application/json"));
        }
        let Whole(body) = Whole::from_request(request, app).await?;
        let parsed = serde_json::from_slice(&body);
        parsed.map(Self).map_err(|error| Problem::new(ErrorCode::BadRequest, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_this_servers_names_are_served() {
        let allowed = ["ops.example".to_owned()];
        let check = |host, own| {
            assert_eq!(check_host(&headers(&[(header::HOST, host)]), &allowed).is_ok(), own, "{host}");
        };
        for host in
            ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "192.0.2.7", "Ops.Example:1"]
        {
            check(host, true);
        }
        for host in
            ["evil.example:8000", "ops.example.evil", "localhost.evil", "", ":80", "[::1", "1.2.3.4.evil"]
        {
            // A bracket that is never closed still names an address.
            check(host, host == "[::1");
        }
        assert!(check_host(&HeaderMap::new(), &allowed).is_err());
    }

    #[test]
    fn a_page_elsewhere_cannot_post() {
        let check = |pairs: &[_], passes| {
            assert_eq!(check_form(&Method::POST, &headers(pairs)).is_ok(), passes, "{pairs:?}");
        };
        check(&[], true);
        check(
            &[(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::ORIGIN, "http://a")],
            true,
        );
        check(&[(header::ORIGIN, "http://a")], false);
        check(&[(header::CONTENT_TYPE, "text/plain")], false);
        check(&[(header::CONTENT_TYPE, "application/x-www-form-urlencoded")], false);
        assert!(check_form(&Method::GET, &headers(&[(header::ORIGIN, "http://a")])).is_ok());
    }
}
