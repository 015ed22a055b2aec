//! Log lines: set-up, redaction, rate limits.

use std::fmt;

use tracing_subscriber::EnvFilter;

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

/// Sends log lines of at least `level` (or what a filter such as `info,pulsewire_hub=debug` lets through) to standard error.
///
/// # Errors
///
/// The level cannot be read, or logging is set up already.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let filter =
        EnvFilter::try_new(level).map_err(|source| LogError::BadLevel { level: level.into(), source })?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr);
    let result = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    result.map_err(|_| LogError::AlreadySet)
}

/// A URL shown without its secrets.
pub struct Redacted<'a>(pub &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}
