//! What operators change: forgetting records, ending connections, taking tokens back.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use http::Uri;
use pulsewire_edge::clock;
use pulsewire_hub::Target;
use pulsewire_protocol::{CloseCode, ErrorCode, SessionId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::guard::{Actor, JsonBody};
use crate::app::App;
use crate::http::problem::Problem;
use crate::shut_out::{self, Fact, NoRoom};

/// Document 003's example.
const MAX_AGE_MS_DEFAULT: u64 = 3_600_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stale {
    max_age_ms: Option<u64>,
    node: Option<String>,
}

/// `POST /api/admin/websocket/cleanup-stale?maxAgeMs=`: forgets connections that closed longer ago.
pub async fn cleanup_stale(
    State(app): State<Arc<App>>,
    actor: Actor,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let wrong = |_| Problem::new(ErrorCode::BadRequest, "`maxAgeMs` is a number of milliseconds");
    let Query(Stale { max_age_ms, node }) = Query::<Stale>::try_from_uri(&uri).map_err(wrong)?;
    let max_age_ms = max_age_ms.unwrap_or(MAX_AGE_MS_DEFAULT);
    let which = app.which_nodes(node.as_deref())?;
    let here = if which.includes_own() { forget(&app, max_age_ms) } else { 0 };
    let others = app.ask_nodes::<usize>(&which, "cleanup_stale", &max_age_ms).await;
    let removed = here + others.answers.iter().map(|(_, removed)| removed).sum::<usize>();
    let detail = format!("{removed} closed connections forgotten");
    actor.done(&app, "cleanup_stale", &format!("older than {max_age_ms} ms"), &detail).await;
    Ok(Json(with_missing(json!({ "removed": removed }), others.missing)))
}

fn forget(app: &App, max_age_ms: u64) -> usize {
    app.hub.ledger.forget_before(clock::now().wall_ms.saturating_sub_unsigned(max_age_ms))
}

/// Does what another node asks.
pub(crate) fn forget_stale(app: &App, body: &RawValue) -> Option<Box<RawValue>> {
    to_raw_value(&forget(app, serde_json::from_str(body.get()).ok()?)).ok()
}

/// The body of `disconnect`: one of `session`, `user` and `address`, and the close code.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    session: Option<String>,
    user: Option<String>,
    address: Option<String>,
    code: Option<u16>,
}

/// `POST /api/admin/websocket/disconnect`: closes the connections of a session, a user or an address.
///
/// The close code is 1013 (come back later) unless `code` names another of our own, 4000 to 4999.
pub async fn disconnect(
    State(app): State<Arc<App>>,
    actor: Actor,
    JsonBody(asked): JsonBody<Disconnect>,
) -> Result<Json<Value>, Problem> {
    let (target, code) = (asked.target()?, asked.close_code()?);
    let (closed, missing) = shut_out::close(&app, &target, code).await?;
    actor.done(&app, "disconnect", &named(&target), &format!("{closed} closed with {code}")).await;
    Ok(Json(with_missing(json!({ "closed": closed }), missing)))
}

impl Disconnect {
    fn target(&self) -> Result<Target, Problem> {
        let wrong = |detail: &str| Problem::new(ErrorCode::BadRequest, detail);
        match (&self.session, &self.user, &self.address) {
            (Some(session), None, None) => {
                SessionId::parse(session).map(Target::Session).map_err(|error| wrong(&error.to_string()))
            }
            (None, Some(user), None) if !user.is_empty() => Ok(Target::User(user.as_str().into())),
            (None, None, Some(address)) => {
                let address = address.parse::<IpAddr>();
                address.map(Target::Address).map_err(|_| wrong("`address` is an IP address"))
            }
            _ => Err(wrong("name one of `session`, `user` and `address`")),
        }
    }

    fn close_code(&self) -> Result<CloseCode, Problem> {
        let Some(asked) = self.code else { return Ok(CloseCode::TryAgainLater) };
        CloseCode::from_u16(asked).filter(|_| (4_000..5_000).contains(&asked)).ok_or_else(|| {
            let known = CloseCode::ALL.iter().map(|code| code.code()).filter(|code| *code >= 4_000);
            let known: Vec<String> = known.map(|code| code.to_string()).collect();
            Problem::new(ErrorCode::BadRequest, format!("`code` is one of {}", known.join(", ")))
        })
    }
}

/// Whom an action is about, in words.
fn named(target: &Target) -> String {
    match target {
        Target::Session(session) => format!("session {session}"),
        Target::User(user) => format!("user {user}"),
        Target::Address(address) => format!("address {address}"),
        Target::Token(token) => format!("token {token}"),
    }
}

/// The body of `revoke`: whose tokens, or which token, and when the last of them will have ended.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    user: Option<String>,
    token_id: Option<String>,
    until: Option<jiff::Timestamp>,
}

/// `POST /api/admin/revocations`: takes tokens back.
///
/// With `user`, every token of the user that was issued before now is refused from now on, and the
/// user's connections are closed with 4506. With `token_id`, the token with this `jti` is refused;
/// connections that were made with it go on unless `user` is given too, which closes the user's
/// connections and leaves the user's other tokens valid. `until` (RFC 3339) lets the entry go when
/// the last such token has ended; without it the entry stays. All nodes do so, now and after every start.
pub async fn revoke(
    State(app): State<Arc<App>>,
    actor: Actor,
    JsonBody(asked): JsonBody<Revoke>,
) -> Result<Json<Value>, Problem> {
    let now_ms = clock::now().wall_ms;
    let until_ms = asked.until_ms(now_ms)?;
    let given = |text: &Option<String>| text.as_ref().filter(|text| !text.is_empty()).cloned();
    let fact = match (given(&asked.token_id), given(&asked.user)) {
        (Some(token_id), _) => Fact::Token { name: token_id.into(), until_ms },
        (None, Some(user)) => Fact::User { name: user.into(), before_ms: now_ms, until_ms },
        (None, None) => return Err(Problem::new(ErrorCode::BadRequest, "name a `user` or a `token_id`")),
    };
    app.shut_out_sets().learn(&fact, now_ms).map_err(no_room)?;
    // Written down before connections are closed: the token is revoked, whatever the shards answer.
    actor.done(&app, "revoke", &named(&fact.target()), "").await;
    let done = shut_out::shut_out(&app, fact).await?;
    let answer = json!({ "revoked": true, "closed": done.count });
    Ok(Json(with_missing(with_kept(answer, done.kept), done.missing)))
}

fn no_room(error: NoRoom) -> Problem {
    Problem::new(ErrorCode::LimitExceeded, error.to_string())
}

/// An answer that says so if the store has not taken yet what was decided.
fn with_kept(mut answer: Value, kept: bool) -> Value {
    if !kept {
        answer["kept"] = false.into();
    }
    answer
}

/// An answer of all nodes that names those who have not answered; without a cluster, as it is.
pub(super) fn with_missing(mut answer: Value, missing: Option<Vec<Box<str>>>) -> Value {
    if let Some(missing) = missing {
        answer["missing_nodes"] = json!(missing);
    }
    answer
}

impl Revoke {
    fn until_ms(&self, now_ms: i64) -> Result<i64, Problem> {
        match self.until.map(jiff::Timestamp::as_millisecond) {
            None => Ok(i64::MAX),
            Some(until_ms) if until_ms > now_ms => Ok(until_ms),
            Some(_) => Err(Problem::new(ErrorCode::BadRequest, "`until` has passed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disconnect(body: &str) -> Result<(Target, CloseCode), ErrorCode> {
        let asked: Disconnect = serde_json::from_str(body).map_err(|_| ErrorCode::BadRequest)?;
        asked.target().and_then(|target| Ok((target, asked.close_code()?))).map_err(|problem| problem.code)
    }

    #[test]
    fn a_disconnect_names_one_target_and_a_code_of_ours() {
        let ann = Target::User("ann".into());
        assert_eq!(disconnect(r#"{"user":"ann"}"#), Ok((ann.clone(), CloseCode::TryAgainLater)));
        assert_eq!(disconnect(r#"{"user":"ann","code":4506}"#), Ok((ann, CloseCode::Revoked)));
        let address = Target::Address("::1".parse().unwrap());
        assert_eq!(disconnect(r#"{"address":"::1"}"#), Ok((address, CloseCode::TryAgainLater)));
        let session = SessionId::new(1, 2, 3, 4);
        let body = format!(r#"{{"session":"{session}"}}"#);
        assert_eq!(disconnect(&body), Ok((Target::Session(session), CloseCode::TryAgainLater)));
    }

    #[test]
    fn a_disconnect_of_everybody_or_with_a_foreign_code_is_refused() {
        for body in [
            "{}",
            r#"{"user":""}"#,
            r#"{"user":"ann","address":"::1"}"#,
            r#"{"session":"x"}"#,
            r#"{"address":"localhost"}"#,
            r#"{"user":"ann","code":1000}"#,
            r#"{"user":"ann","code":4999}"#,
            r#"{"user":"ann","why":"x"}"#,
        ] {
            assert_eq!(disconnect(body), Err(ErrorCode::BadRequest), "{body}");
        }
    }

    #[test]
    fn a_revocation_ends_in_the_future_or_never() {
        let until = |body: &str| {
            let asked: Revoke = serde_json::from_str(body).unwrap();
            asked.until_ms(1_705_314_600_000).map_err(|problem| problem.code)
        };
        assert_eq!(until(r#"{"user":"ann"}"#), Ok(i64::MAX));
        let later = r#"{"user":"ann","until":"2024-01-15T10:30:01Z"}"#;
        assert_eq!(until(later), Ok(1_705_314_601_000));
        let now = r#"{"user":"ann","until":"2024-01-15T10:30:00Z"}"#;
        assert_eq!(until(now), Err(ErrorCode::BadRequest));
    }
}

/// How long an address is shut out when nothing is said.
const BLOCK_MS_DEFAULT: i64 = 3_600_000;

/// The body of `blocks`: an address, and for how long; 0 lets it in again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    address: IpAddr,
    for_ms: Option<u32>,
}

/// `POST /api/admin/blocks`: shuts an address out for `for_ms` (default one hour) and closes what it has open.
pub async fn block(
    State(app): State<Arc<App>>,
    actor: Actor,
    JsonBody(Block { address, for_ms }): JsonBody<Block>,
) -> Result<Json<Value>, Problem> {
    let now_ms = clock::now().wall_ms;
    if for_ms == Some(0) {
        actor.done(&app, "unblock", &format!("address {address}"), "").await;
        let done = shut_out::let_in(&app, address).await;
        let answer = json!({ "blocked": false, "unblocked": done.count > 0 });
        return Ok(Json(with_missing(with_kept(answer, done.kept), done.missing)));
    }
    let until_ms = now_ms + for_ms.map_or(BLOCK_MS_DEFAULT, i64::from);
    let fact = Fact::Address { address, until_ms };
    app.shut_out_sets().learn(&fact, now_ms).map_err(no_room)?;
    let until = crate::http::health::iso(until_ms);
    actor.done(&app, "block", &format!("address {address}"), &format!("until {until}")).await;
    let done = shut_out::shut_out(&app, fact).await?;
    let answer = json!({ "blocked": true, "until": until, "closed": done.count });
    Ok(Json(with_missing(with_kept(answer, done.kept), done.missing)))
}
