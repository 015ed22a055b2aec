//! `pulsewire health`: one question and an exit code, for images without a shell or `curl`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use pulsewire_client::{Endpoint, Http, Trust};

use super::connection::{block_on, problem, report_request, trust};
use super::{Exit, SettingsArguments, Terminal, read};
use crate::settings::{Settings, Sources};

/// Ask whether a server answers: exit code 0 if it does, 1 if not.
///
/// Without --url it is the one that the same settings would start here, at its internal address if it has one.
#[derive(Debug, Args)]
pub struct Health {
    /// The server.
    #[arg(long, value_name = "URL", env = "PULSEWIRE_URL")]
    pub url: Option<String>,
    /// Trust the certificates in this PEM file, and no others.
    #[arg(long, value_name = "FILE", env = "PULSEWIRE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Also ask whether clients should be sent there, which they should not while it drains.
    #[arg(long)]
    pub ready: bool,
    /// Which settings name the address.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// Asks; what is wrong is said on standard error.
///
/// # Errors
///
/// [`Exit::Failed`], whatever is wrong: supervisors give other codes meanings of their own.
pub fn run(command: &Health, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let (endpoint, trust) = command.locate(terminal).map_err(|_| Exit::Failed)?;
    let path = if command.ready { "/readyz" } else { "/livez" };
    block_on(terminal, async |terminal| {
        let answer = Http::new(endpoint, trust, None).request("GET", path, b"").await.map_err(|error| {
            report_request(&error, terminal);
            Exit::Failed
        })?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status == 200 {
            terminal.data(text);
            return Ok(Exit::Ok);
        }
        terminal.say(format_args!("error: {path}: {}; {text}", problem(answer.status, "")));
        Err(Exit::Failed)
    })?
}

impl Health {
    fn locate(&self, terminal: &mut Terminal<'_>) -> Result<(Endpoint, Trust), Exit> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => {
                // Where it listens can be known without the keys of its tokens.
                own_url(&read(&Sources::without_own_key(self.settings.flags()), terminal)?)
            }
        };
        let endpoint = Endpoint::parse(&url).map_err(|error| {
            terminal.say(format_args!("error: {error}"));
            Exit::Usage
        })?;
        Ok((endpoint, trust(self.ca_file.as_deref())))
    }
}

/// Where a server with these settings answers on its own machine.
fn own_url(settings: &Settings) -> String {
    let server = &settings.server;
    // The internal address speaks no TLS, so no certificate has to name a loopback address.
    let (scheme, address) = match server.internal_listen {
        Some(internal) => ("http", internal),
        None if settings.tls.is_set() => ("https", server.listen),
        None => ("http", server.listen),
    };
    format!("{scheme}://{}", reachable(address))
}

/// An address that listens everywhere is reached at loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_asked_at_loopback() {
        let check = |listens: &str, asked: &str| {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        };
        check("0.0.0.0:8000", "127.0.0.1:8000");
        check("[::]:8000", "[::1]:8000");
        check("10.0.0.7:8000", "10.0.0.7:8000");
    }
}
