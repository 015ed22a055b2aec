//! Asking the admin API, and saying what is missing when it refuses.

use pulsewire_client::Http;
use serde_json::Value;

use super::connection::{Connection, problem, report_request};
use super::{Exit, Terminal};

/// One server's admin API over one kept connection.
pub(super) struct Admin {
    http: Http,
}

/// What a request is for, and so which role it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Look,
    Act,
}

impl Need {
    fn help(self) -> &'static str {
        match self {
            Need::Look => {
                "it takes a token with the role viewer, operator or admin: `pulsewire token create --sub NAME --role \
                 viewer`"
            }
            Need::Act => {
                "it takes a token with the role operator or admin: `pulsewire token create --sub NAME --role operator`"
            }
        }
    }
}

impl Admin {
    pub(super) fn new(connection: &Connection) -> Admin {
        let Connection { endpoint, trust, token } = connection.clone();
        Admin { http: Http::new(endpoint, trust, Some(token)) }
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// The exit code, after the reason and the next step have been written.
    pub(super) async fn get(&mut self, path: &str, terminal: &mut Terminal<'_>) -> Result<Value, Exit> {
        self.ask("GET", path, b"", Need::Look, terminal).await
    }

    /// Does something.
    ///
    /// # Errors
    ///
    /// As [`Admin::get`].
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: &Value,
        terminal: &mut Terminal<'_>,
    ) -> Result<Value, Exit> {
        self.ask("POST", path, body.to_string().as_bytes(), Need::Act, terminal).await
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        need: Need,
        terminal: &mut Terminal<'_>,
    ) -> Result<Value, Exit> {
        let answer = self.http.request(method, path, body).await;
        let answer = answer.map_err(|error| report_request(&error, terminal))?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200..=299 => serde_json::from_str(&text).map_err(|error| {
                terminal.say(format_args!("error: {path} is not what this version reads: {error}"));
                Exit::Failed
            }),
            status @ (401 | 403) => {
                terminal.say(format_args!("error: {}; {}", problem(status, &text), need.help()));
                Err(Exit::Unauthorised)
            }
            status => {
                // A page that is not there says nothing of what was looked for.
                let detail =
                    serde_json::from_str::<Value>(&text).is_ok_and(|problem| problem["detail"].is_string());
                let next = if status == 404 && !detail {
                    "; is there such a one, and is the server as new as this program?"
                } else {
                    ""
                };
                terminal.say(format_args!("error: {}{next}", problem(status, &text)));
                Err(Exit::Failed)
            }
        }
    }
}

/// A path with its query; parameters without a value are left out.
pub(super) fn target(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let query: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_deref()?, '%'))))
        .collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// Every byte that may mean something else in its place as two hexadecimal digits: after `%` in a URL, after `~` in the
/// name of a `$sys` channel.
pub(super) fn escaped(text: &str, sign: char) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("{sign}{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_was_asked_and_nothing_else() {
        let filter = Some("queue>64k user:ann*".to_owned());
        assert_eq!(
            target("/api/admin/connections", &[("tab", None), ("filter", filter)]),
            "/api/admin/connections?filter=queue%3E64k%20user:ann%2A"
        );
        assert_eq!(target("/api/admin/alerts", &[("limit", None)]), "/api/admin/alerts");
        assert_eq!(escaped("rtt>200", '~'), "rtt~3E200");
    }
}
