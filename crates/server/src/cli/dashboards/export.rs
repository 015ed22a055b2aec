//! Reading the dashboards of a Grafana by its HTTP API.
//!
//! Everything is bounded: so many dashboards, so many bytes of an answer, so long for each. What was written before a
//! failure stays; every file is whole.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Certificate, Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::connection::block_on;
use crate::cli::{Exit, Terminal, keep};
use crate::outbound;

/// The most dashboards that are read; a Grafana with more is read a tag at a time.
const DASHBOARDS_MAX: usize = 5_000;
/// Rows of a page of the search: the most that Grafana gives at once.
const PAGE_ROWS: usize = 1_000;
/// The largest answer: many times the largest dashboard that Grafana can still draw.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The arguments of `dashboards export`.
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// Where Grafana is: its address, with the path it is below if there is one.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// A file with the token of a service account that has the role Viewer; without it nobody in particular asks.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Trust the certificates in this PEM file, and no others, to vouch for it.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Only dashboards with this tag, such as pulsewire.
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// The folder to write to; it is made if it is missing. A file is called after its dashboard's uid.
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
}

/// A row of Grafana's search.
#[derive(Debug, Deserialize)]
struct Found {
    uid: String,
    title: String,
}

/// A dashboard and what Grafana says about it, as far as it is used.
#[derive(Debug, Deserialize)]
struct Told {
    dashboard: Value,
}

/// Writes the dashboards of a Grafana to files.
///
/// # Errors
///
/// The exit code, after the reason has been written: [`Exit::Usage`] for an address, token or certificate file that cannot
/// be used, [`Exit::Unreachable`] when nobody answers, [`Exit::Unauthorised`] when Grafana refuses, else
/// [`Exit::Failed`].
pub fn export(arguments: &Export, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let grafana = Grafana::new(arguments).map_err(|problem| {
        terminal.say(format_args!("error: {problem}"));
        Exit::Usage
    })?;
    block_on(terminal, async |terminal| {
        let found = grafana.search(arguments.tag.as_deref()).await.map_err(|error| error.say(terminal))?;
        for row in &found {
            let told = grafana.dashboard(row).await.map_err(|error| error.say(terminal))?;
            let path = arguments.out.join(format!("{}.json", row.uid));
            keep(&path, &format!("{told:#}\n"), terminal)?;
            terminal.data(format_args!("{}\t{}", path.display(), row.title));
        }
        terminal.say(format_args!("{} dashboards written to {}", found.len(), arguments.out.display()));
        Ok(Exit::Ok)
    })?
}

struct Grafana {
    client: Client,
    base: Url,
    token: Option<String>,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("Grafana does not answer: {0}; is --url right, and does it run?")]
    Unreachable(String),
    #[error(
        "Grafana refuses ({0}); make a service account with the role Viewer, and give its token with --token-file"
    )]
    Refused(StatusCode),
    #[error("{path} answers {status}; is --url the address of a Grafana, with its path?")]
    Status { path: String, status: StatusCode },
    #[error("{path}: {source}")]
    Body { path: String, source: outbound::BodyError },
    #[error("{path} is not what Grafana answers: {source}")]
    Form { path: String, source: serde_json::Error },
    #[error("more than {DASHBOARDS_MAX} dashboards; choose some with --tag")]
    TooMany,
    #[error("a dashboard has the uid {0:?}, which cannot be the name of a file")]
    Name(String),
}

impl Problem {
    fn say(&self, terminal: &mut Terminal<'_>) -> Exit {
        terminal.say(format_args!("error: {self}"));
        match self {
            Problem::Unreachable(_) => Exit::Unreachable,
            Problem::Refused(_) => Exit::Unauthorised,
            _ => Exit::Failed,
        }
    }
}

impl Grafana {
    fn new(arguments: &Export) -> Result<Grafana, String> {
        let mut text = arguments.url.trim_end_matches('/').to_owned();
        text.push('/');
        let base = outbound::url(&text, true).map_err(|error| format!("--url: {error}"))?;
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
        };
        let token = arguments.token_file.as_ref().map(read).transpose()?.map(|text| text.trim().to_owned());
        if token
            .as_ref()
            .is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err("the token file does not hold one token".to_owned());
        }
        let mut client = outbound::client(&base, true, 1).timeout(PATIENCE);
        if let Some(file) = &arguments.ca_file {
            let certificates = Certificate::from_pem_bundle(read(file)?.as_bytes())
                .map_err(|error| format!("{} holds no certificates: {error}", file.display()))?;
            client = client.tls_certs_only(certificates);
        }
        let client = client.build().map_err(|error| format!("no client can be made: {error}"))?;
        Ok(Grafana { client, base, token })
    }

    /// Every dashboard that whoever asks may see.
    async fn search(&self, tag: Option<&str>) -> Result<Vec<Found>, Problem> {
        let mut found: Vec<Found> = Vec::new();
        for page in 1.. {
            let (limit, page) = (PAGE_ROWS.to_string(), page.to_string());
            let mut query = vec![("type", "dash-db"), ("limit", &limit), ("page", &page)];
            query.extend(tag.map(|tag| ("tag", tag)));
            let rows: Vec<Found> = self.get("api/search", &query).await?;
            let last = rows.len() < PAGE_ROWS;
            found.extend(rows);
            if found.len() > DASHBOARDS_MAX {
                return Err(Problem::TooMany);
            }
            if last {
                break;
            }
        }
        // What a server says is never a path without being looked at.
        match found.iter().find(|row| !is_uid(&row.uid)) {
            Some(row) => Err(Problem::Name(row.uid.clone())),
            None => Ok(found),
        }
    }

    /// A dashboard as it is imported: without the number that only this Grafana's database knows it by.
    async fn dashboard(&self, row: &Found) -> Result<Value, Problem> {
        let told: Told = self.get(&format!("api/dashboards/uid/{}", row.uid), &[]).await?;
        let mut dashboard = told.dashboard;
        if let Some(model) = dashboard.as_object_mut() {
            model.insert("id".to_owned(), Value::Null);
        }
        Ok(dashboard)
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Problem> {
        let mut url = self.base.join(path).expect("these paths are relative and plain");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let unreachable = |error: reqwest::Error| Problem::Unreachable(reason(&error.without_url()));
        let response = request.send().await.map_err(unreachable)?;
        let path = || path.to_owned();
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(Problem::Refused(status));
            }
            status => return Err(Problem::Status { path: path(), status }),
        }
        let body = outbound::body(response, ANSWER_BYTES_MAX).await;
        let body = body.map_err(|source| Problem::Body { path: path(), source })?;
        serde_json::from_slice(&body).map_err(|source| Problem::Form { path: path(), source })
    }
}

/// The last cause: the first only says that there is one.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Grafana's own rule for a uid.
fn is_uid(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= 40 && text.bytes().all(plain)
}
