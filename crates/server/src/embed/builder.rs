//! How a server in another program is told what it needs.

use std::io;
use std::path::{Path, PathBuf};

use axum::Router;

use super::{Handle, Server};
use crate::serve;
use crate::settings::{Flags, Problem, Settings, Sources};

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings have mistakes: all of them, each with what to do.
    #[error("the settings have mistakes: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<Problem>),
    /// An address, a key, a file or the system could not be used.
    #[error("the server could not be started")]
    Start(#[source] anyhow::Error),
}

/// Makes a program's routes when there is a handle.
type Routes = Box<dyn FnOnce(&Handle) -> Router + Send>;

/// Settings of a server to be, and what it serves beside its own.
///
/// Nothing is read that was not named: neither `pulsewire.toml` nor the environment. What is set here wins
/// over the environment, and that over the file. Every key is in `docs/settings.md`.
#[derive(Default)]
#[must_use = "nothing happens until it is started"]
pub struct ServerBuilder {
    flags: Flags,
    environment: bool,
    routes: Option<Routes>,
}

impl ServerBuilder {
    /// Sets one key, such as `("heartbeat.interval", "15s")`; the last value of a key wins. What is wrong with
    /// it is told by [`ServerBuilder::start`], together with everything else.
    pub fn setting(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.flags.set.push(format!("{key}={value}"));
        self
    }

    /// The address to listen on, such as `0.0.0.0:8000`. Default `127.0.0.1:8000`; port 0 lets the system choose.
    pub fn listen(mut self, address: &str) -> Self {
        self.flags.listen = Some(address.to_owned());
        self
    }

    /// The key that signs users' tokens (`auth.secret`): at least 32 bytes. The program that makes the tokens needs
    /// the same, or asks [`Handle::token`].
    pub fn jwt_secret(self, secret: &str) -> Self {
        self.setting("auth.secret", secret)
    }

    /// The one algorithm of tokens (`auth.algorithm`). Default HS256.
    pub fn jwt_algorithm(self, algorithm: &str) -> Self {
        self.setting("auth.algorithm", algorithm)
    }

    /// Reads this settings file, too; it must exist.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.flags.config = Some(path.into());
        self
    }

    /// Reads the process's environment, too: `PULSEWIRE_*` and the documents' variables, such as `WS_PORT` and
    /// `JWT_SECRET_KEY`.
    pub fn environment(mut self) -> Self {
        self.environment = true;
        self
    }

    /// The program's own routes, at the same address. They are made when the server is, with its handle. What
    /// Pulsewire has no route for goes to them, their fallback and with it the answer to unknown paths included;
    /// Pulsewire's own paths (`/ws`, `/metrics`, `/livez`, `/api/…` as in the documentation) come first.
    ///
    /// Handlers find their caller's address by `ConnectInfo<SocketAddr>`, also behind `server.trusted_proxies`. The
    /// server's limits of heads, of connections and of patience are theirs, too; that of bodies is axum's own.
    pub fn routes(mut self, routes: impl FnOnce(&Handle) -> Router + Send + 'static) -> Self {
        self.routes = Some(Box::new(routes));
        self
    }

    /// Starts the server, in the tokio runtime that this is called in, which needs its I/O and its timers.
    ///
    /// # Errors
    ///
    /// If the settings have mistakes, an address cannot be bound, a thread cannot be started, or a key or the
    /// store cannot be used. Nothing runs then.
    pub async fn start(self) -> Result<Server, StartError> {
        let settings =
            Settings::load(&sources(self.flags, self.environment)).map_err(StartError::Settings)?;
        for notice in settings.notices() {
            tracing::warn!("{notice}");
        }
        let running = serve::start_with(settings, self.routes).await.map_err(StartError::Start)?;
        Ok(Server { running })
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Among the values may be a secret.
        f.debug_struct("ServerBuilder").field("listen", &self.flags.listen).finish_non_exhaustive()
    }
}

fn sources(flags: Flags, environment: bool) -> Sources {
    let named = flags.config.clone();
    let mut sources = Sources::without_own_key(flags);
    if !environment {
        sources.environment.clear();
    }
    sources.read = Box::new(move |path: &Path| {
        let unasked = named.is_none() && path == Path::new(crate::settings::sources::DEFAULT_FILE);
        if unasked { Err(io::ErrorKind::NotFound.into()) } else { std::fs::read_to_string(path) }
    });
    sources
}
