//! Which server a client command talks to, and as whom.
//!
//! Flags win over `PULSEWIRE_URL` and `PULSEWIRE_TOKEN`; without either, the file that `pulsewire serve --dev` leaves in
//! its data folder names both, so the first `tail` needs no argument.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use pulsewire_client::{Endpoint, Reason, RequestError, Trust};
use serde::Deserialize;

use super::{Exit, Terminal};

/// Where a server started with `--dev` and default settings leaves its address and token.
const DEV_FILE: &str = "data/dev.json";
/// The address of a server with default settings.
const DEFAULT_URL: &str = "ws://127.0.0.1:8000";

/// The next step when a server cannot prove who it is.
const TLS_HELP: &str =
    "use the host name that its certificate names; --ca-file names the authority of one of your own";

/// The arguments of every command that talks to a server.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectionArguments {
    /// The server; without it the one started here with --dev, or ws://127.0.0.1:8000.
    #[arg(long, value_name = "URL", env = "PULSEWIRE_URL")]
    pub url: Option<String>,
    /// Trust the certificates in this PEM file, and no others, to vouch for a wss:// or https:// server; without it those
    /// this machine trusts.
    #[arg(long, value_name = "FILE", env = "PULSEWIRE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Bearer token or API key; without it the one `pulsewire serve --dev` left in ./data.
    #[arg(long, value_name = "TOKEN", env = "PULSEWIRE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// A server to talk to.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Who may vouch for it.
    pub trust: Trust,
    /// What to show it.
    pub token: String,
}

/// A server, and what there is to show it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Who may vouch for it.
    pub trust: Trust,
    /// What to show it, if there is something.
    pub token: Option<String>,
    /// Whether it is the one that was started in this folder with `--dev`.
    pub of_dev: bool,
}

#[derive(Deserialize)]
struct DevFile {
    url: String,
    token: String,
}

impl ConnectionArguments {
    /// Decides which server and token to use.
    ///
    /// # Errors
    ///
    /// The exit code, after the reason and the next step have been written.
    pub fn resolve(&self, terminal: &mut Terminal<'_>) -> Result<Connection, Exit> {
        self.resolve_with(Path::new(DEV_FILE), terminal)
    }

    fn resolve_with(&self, dev_file: &Path, terminal: &mut Terminal<'_>) -> Result<Connection, Exit> {
        let Server { endpoint, trust, token, .. } = self.locate_with(dev_file, terminal)?;
        let Some(token) = token else {
            terminal.say(format_args!(
                "error: no token for {endpoint}; pass --token or set PULSEWIRE_TOKEN (`pulsewire token create` makes \
                 one), or start `pulsewire serve --dev` in this folder"
            ));
            return Err(Exit::Unauthorised);
        };
        Ok(Connection { endpoint, trust, token })
    }

    /// Decides which server to look at, also when there is nothing to show it.
    ///
    /// # Errors
    ///
    /// The exit code, after the reason and the next step have been written.
    pub fn locate(&self, terminal: &mut Terminal<'_>) -> Result<Server, Exit> {
        self.locate_with(Path::new(DEV_FILE), terminal)
    }

    fn locate_with(&self, dev_file: &Path, terminal: &mut Terminal<'_>) -> Result<Server, Exit> {
        let dev: Option<DevFile> =
            fs::read(dev_file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let url = self.url.as_deref().or(dev.as_ref().map(|dev| dev.url.as_str())).unwrap_or(DEFAULT_URL);
        let endpoint = Endpoint::parse(url).map_err(|error| {
            terminal.say(format_args!("error: {error}"));
            Exit::Usage
        })?;
        // The development token is for the server that wrote it and for no other.
        let of_dev = dev.as_ref().filter(|dev| {
            Endpoint::parse(&dev.url).is_ok_and(|other| {
                other.authority() == endpoint.authority() && other.is_secure() == endpoint.is_secure()
            })
        });
        let token = self.token.clone().or_else(|| of_dev.map(|dev| dev.token.clone()));
        let of_dev = of_dev.is_some();
        Ok(Server { endpoint, trust: trust(self.ca_file.as_deref()), token, of_dev })
    }
}

/// Whom the flag says to trust.
pub fn trust(ca_file: Option<&Path>) -> Trust {
    ca_file.map_or(Trust::Platform, |file| Trust::File(file.to_owned()))
}

/// Writes why a connection failed, with the next step, and gives the exit code.
pub fn report(reason: &Reason, endpoint: &Endpoint, terminal: &mut Terminal<'_>) -> Exit {
    let (next, exit) = match reason {
        reason if reason.is_unauthorized() => {
            ("the token was refused; `pulsewire token verify` says why", Exit::Unauthorised)
        }
        Reason::Refused(404 | 405) => {
            ("the address answers, but not as a Pulsewire WebSocket; check the path of --url", Exit::Failed)
        }
        Reason::Tls(_) => (TLS_HELP, Exit::Failed),
        Reason::Unreachable(_) | Reason::Timeout | Reason::Refused(_) | Reason::Silent => {
            ("is the server running? `pulsewire serve --dev` starts one", Exit::Unreachable)
        }
        _ => ("docs/protocol.md lists the close codes", Exit::Failed),
    };
    terminal.say(format_args!("error: {endpoint}: {reason}; {next}"));
    exit
}

/// Writes why a request has no answer, with the next step, and gives the exit code.
pub fn report_request(error: &RequestError, terminal: &mut Terminal<'_>) -> Exit {
    if matches!(error, RequestError::Tls { .. }) {
        terminal.say(format_args!("error: {error}; {TLS_HELP}"));
        return Exit::Failed;
    }
    terminal.say(format_args!("error: {error}; is the server running? `pulsewire serve --dev` starts one"));
    Exit::Unreachable
}

/// The words of a problem document (RFC 9457), or of whatever else came.
pub(super) fn problem(status: u16, text: &str) -> String {
    let field = |problem: &serde_json::Value, name: &str| problem.get(name)?.as_str().map(str::to_owned);
    let words = serde_json::from_str::<serde_json::Value>(text).ok().map(|problem| {
        // The detail says what the title says, and more.
        let what = field(&problem, "detail").or_else(|| field(&problem, "title"));
        let parts: Vec<String> = [what, field(&problem, "help")].into_iter().flatten().collect();
        parts.join(". ")
    });
    match words.filter(|words| !words.is_empty()) {
        Some(words) => format!("{words} (HTTP {status})"),
        None => format!("the server answered HTTP {status}"),
    }
}

/// Runs a client command on a runtime of its own.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn block_on<T>(
    terminal: &mut Terminal<'_>,
    work: impl AsyncFnOnce(&mut Terminal<'_>) -> T,
) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => Ok(runtime.block_on(work(terminal))),
        Err(error) => {
            terminal.say(format_args!("error: the system gives no event loop: {error}"));
            Err(Exit::Failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: Option<&str>, token: Option<&str>, dev: Option<&str>) -> Result<(String, String), Exit> {
        let folder = std::env::temp_dir()
            .join(format!("pulsewire-connection-{}", pulsewire_client::Random::default().message_id(0)));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("dev.json");
        if let Some(dev) = dev {
            fs::write(&file, dev).unwrap();
        }
        let arguments = ConnectionArguments {
            url: url.map(str::to_owned),
            token: token.map(str::to_owned),
            ..ConnectionArguments::default()
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let found = arguments.resolve_with(&file, &mut Terminal::new(&mut out, &mut err));
        fs::remove_dir_all(&folder).unwrap();
        found.map(|found| (found.endpoint.to_string(), found.token))
    }

    #[test]
    fn a_problem_document_is_told_in_its_own_words() {
        let text = r#"{"title":"Forbidden","detail":"may not publish to b:x","status":403}"#;
        assert_eq!(problem(403, text), "may not publish to b:x (HTTP 403)");
        let helpful = r#"{"title":"Overloaded","help":"Try again later."}"#;
        assert_eq!(problem(503, helpful), "Overloaded. Try again later. (HTTP 503)");
        assert_eq!(problem(500, "oops"), "the server answered HTTP 500");
    }

    #[test]
    fn flags_win_and_the_development_token_goes_to_its_own_server_only() {
        let dev = Some(r#"{"url":"http://127.0.0.1:9000","token":"dev"}"#);
        let found = |url: &str, token: &str| Ok((url.to_owned(), token.to_owned()));
        assert_eq!(resolve(None, None, dev), found("ws://127.0.0.1:9000/ws", "dev"));
        assert_eq!(resolve(None, Some("t"), dev), found("ws://127.0.0.1:9000/ws", "t"));
        assert_eq!(resolve(Some("ws://127.0.0.1:9000"), None, dev), found("ws://127.0.0.1:9000/ws", "dev"));
        assert_eq!(resolve(Some("ws://other:1"), None, dev), Err(Exit::Unauthorised));
        assert_eq!(resolve(None, Some("t"), None), found("ws://127.0.0.1:8000/ws", "t"));
        assert_eq!(resolve(None, None, None), Err(Exit::Unauthorised));
        assert_eq!(resolve(None, None, Some("half a fi")), Err(Exit::Unauthorised));
        assert_eq!(resolve(Some("wss://x"), Some("t"), None), found("wss://x:443/ws", "t"));
        assert_eq!(resolve(Some("ftp://x"), Some("t"), None), Err(Exit::Usage));
    }
}
