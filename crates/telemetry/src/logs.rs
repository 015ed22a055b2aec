//! Log lines: where they go, what may be in them, and how many there may be.
//!
//! What a peer sends can end up in a log line, so three things hold: a line is one line (control
//! characters are escaped, whatever wrote them), a line has a maximum length, and secrets in URLs
//! are shown as `***`. Payloads are never logged; that is up to the callers, who have no helper for it.

mod gate;
mod redact;
mod writer;

use tracing_subscriber::EnvFilter;

pub use gate::Gate;
pub use redact::{Clean, Redacted};
pub use writer::{LINE_BYTES_MAX, LineWriter};

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line for each event.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level or filter cannot be read.
    #[error("log level {level:?} is not a level or filter")]
    BadLevel {
        /// What was given.
        level: String,
        /// Why it is not one.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging is set up already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sends log lines to standard error.
///
/// `level` is the least level shown (`error`, `warn`, `info`, `debug`, `trace`, `off`), or a filter
/// such as `info,pulsewire_hub=debug`.
///
/// # Errors
///
/// The level cannot be read, or logging is set up already.
pub fn init(format: LogFormat, level: &str) -> Result<Handle, LogError> {
    let filter = parse(level)?;
    // Colours are escape sequences, and those are what the writer is there to remove.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let writer = move || LineWriter::new(std::io::stderr(), format);
    match format {
        LogFormat::Text => {
            let builder = builder.with_writer(writer).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|_| LogError::AlreadySet)?;
            Ok(Handle(Box::new(move |filter| handle.reload(filter).is_ok())))
        }
        LogFormat::Json => {
            let builder = builder.json().with_writer(writer).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|_| LogError::AlreadySet)?;
            Ok(Handle(Box::new(move |filter| handle.reload(filter).is_ok())))
        }
    }
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|source| LogError::BadLevel { level: level.into(), source })
}

/// Changes what is logged while the process runs.
pub struct Handle(Box<dyn Fn(EnvFilter) -> bool + Send + Sync>);

impl Handle {
    /// Shows this level, or what passes this filter, from now on. Says whether that was possible.
    ///
    /// # Errors
    ///
    /// The level cannot be read; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<bool, LogError> {
        Ok((self.0)(parse(level)?))
    }
}
