//! What a `tail` is told, written down for `pulsewire check-history`.
//!
//! Each line is the server's message with the reader's name and the time beside it; the format is in
//! `docs/operate/check-history.md`.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pulsewire_client::{Delivery, State};
use serde_json::{Value, json};

/// A log of one reader.
pub(super) struct History {
    file: BufWriter<File>,
    reader: String,
    tags: Value,
    /// It has been subscribed before: what it subscribes again goes on where it was.
    begun: bool,
}

impl History {
    /// Begins a log; the reader is named like the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn create(path: &Path, tags: &[(String, String)]) -> io::Result<History> {
        let reader = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let tags = tags.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let file = BufWriter::new(File::create(path)?);
        Ok(History { file, reader, tags: Value::Object(tags), begun: false })
    }

    /// Writes down what was told, if it is about events.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn told(&mut self, delivery: &Delivery) -> io::Result<()> {
        let Some(mut record) = self.record(delivery) else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        record["reader"] = self.reader.clone().into();
        record["at_ms"] = u64::try_from(now).unwrap_or(0).into();
        writeln!(self.file, "{record}")?;
        self.file.flush()
    }

    fn record(&mut self, delivery: &Delivery) -> Option<Value> {
        Some(match delivery {
            Delivery::Event(event) => serde_json::from_str(&event.frame).ok()?,
            Delivery::Subscribed { channel, position } => {
                let mut record = json!({"type": "subscribed", "channel": channel, "tags": self.tags});
                if let Some(position) = position {
                    record["epoch"] = position.epoch.to_string().into();
                    record["sequence"] = position.sequence.0.into();
                }
                record["resumed"] = self.begun.into();
                record
            }
            Delivery::Gap { channel, from, to, reason } => {
                json!({"type": "gap", "channel": channel, "from": from.0, "to": to.0, "reason": reason})
            }
            Delivery::Reset { channel, position } => {
                let (epoch, sequence) = (position.epoch.to_string(), position.sequence.0);
                json!({"type": "reset", "channel": channel, "epoch": epoch, "sequence": sequence})
            }
            Delivery::Dropped { channel, count } => {
                json!({"type": "dropped", "channel": channel, "count": count})
            }
            Delivery::State { from: State::Live, .. } => {
                self.begun = true;
                json!({"type": "disconnected"})
            }
            _ => return None,
        })
    }
}
