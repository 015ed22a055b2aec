//! What a `tail` is told, written down for `pulsewire check-history`.
//!
//! Each line is the server's message with the reader's name and the time beside it; the format is in
//! `docs/operate/check-history.md`.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pulsewire_client::{Delivery, State};
use serde_json::{Value, json};

/// A log of one reader.
pub(super) struct Record<W> {
    file: W,
    reader: String,
    tags: Value,
    /// It has been subscribed before: what it subscribes again goes on where it was.
    begun: bool,
}

impl Record<BufWriter<File>> {
    /// Begins a log; the reader is named like the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn create(path: &Path, tags: &[(String, String)]) -> io::Result<Self> {
        let reader = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let tags = tags.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let file = BufWriter::new(File::create(path)?);
        Ok(Record { file, reader, tags: Value::Object(tags), begun: false })
    }
}

impl<W: io::Write> Record<W> {
    /// Writes down what was told, if it is about events.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn told(&mut self, delivery: &Delivery) -> io::Result<()> {
        let Some(record) = self.record(delivery) else { return Ok(()) };
        self.write(record)?;
        // A tail is only told values where they stand for all changes up to then (R36b); the client keeps the `pos`.
        if let Delivery::Values { channel, sequence: Some(sequence), more: false, .. } = delivery {
            self.write(json!({"type": "pos", "channel": channel, "sequence": sequence.0}))?;
        }
        Ok(())
    }

    fn write(&mut self, mut record: Value) -> io::Result<()> {
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
            Delivery::Values { channel, more, .. } => {
                json!({"type": "state", "channel": channel, "more": more})
            }
            Delivery::Dropped { channel, count } => {
                json!({"type": "dropped", "channel": channel, "count": count})
            }
            // A connection that is probed is there still.
            Delivery::State { from: State::Live | State::Probing, to, .. }
                if !matches!(to, State::Live | State::Probing) =>
            {
                self.begun = true;
                json!({"type": "disconnected"})
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use pulsewire_client::{Reason, Sequence};

    use super::*;

    #[test]
    fn a_connection_is_gone_when_it_ends_and_not_when_it_is_probed() {
        let mut history =
            Record { file: Vec::new(), reader: "ada".to_owned(), tags: json!({}), begun: false };
        let states = [State::Live, State::Probing, State::Live, State::Probing, State::Waiting];
        for pair in states.windows(2) {
            let reason = (pair[1] == State::Waiting).then_some(Reason::Silent);
            history.told(&Delivery::State { from: pair[0], to: pair[1], reason, retry_in: None }).unwrap();
        }
        let text = String::from_utf8(history.file).unwrap();
        assert_eq!(text.matches("disconnected").count(), 1, "{text}");
    }

    #[test]
    fn the_last_part_of_the_values_stands_for_all_changes_before() {
        let mut history =
            Record { file: Vec::new(), reader: "ada".to_owned(), tags: json!({}), begun: false };
        for more in [true, false] {
            let part = Delivery::Values {
                channel: "value:1".to_owned(),
                sequence: Some(Sequence(7)),
                values: Vec::new(),
                more,
                text: String::new(),
            };
            history.told(&part).unwrap();
        }
        let text = String::from_utf8(history.file).unwrap();
        let line = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&record["reader"], &record["channel"]), (&json!("ada"), &json!("value:1")));
            format!("{} {} {}", record["type"].as_str().unwrap(), record["more"], record["sequence"])
        };
        let told: Vec<String> = text.lines().map(line).collect();
        assert_eq!(told, ["state true null", "state false null", "pos null 7"]);
    }
}
