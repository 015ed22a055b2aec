//! Events published once more, and never twice.

use pulsewire_client::{Http, NewEvent};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::connection::{problem, report_request};
use super::super::{Exit, Terminal};
use super::Kept;

/// So many events are published at once …
const EVENTS_MAX: usize = 100;
/// … and about so many bytes, a part of what a request may hold by default.
const BYTES_MAX: usize = 256 * 1024;

/// What is to be published into a channel, and what was.
#[derive(Debug, Default)]
pub(super) struct Copies {
    into: String,
    waiting: Vec<NewEvent>,
    bytes: usize,
    /// Events the server had not had.
    pub(super) published: u64,
    /// Events it had.
    pub(super) duplicates: u64,
}

impl Copies {
    pub(super) fn new(into: Option<&str>) -> Copies {
        Copies { into: into.unwrap_or_default().to_owned(), ..Copies::default() }
    }

    /// Takes an event of a channel: its type, data, key, tags and whether it is critical stay.
    pub(super) fn push(&mut self, channel: &str, epoch: &str, kept: &Kept) {
        let event = NewEvent {
            channel: self.into.clone(),
            event_type: kept.kind.clone(),
            data: kept.data.clone(),
            id: Some(id(channel, epoch, kept.sequence)),
            key: kept.key.clone(),
            tags: kept.tags.clone(),
            critical: Some(kept.critical),
        };
        self.bytes += kept.data.get().len();
        self.waiting.push(event);
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= EVENTS_MAX || self.bytes >= BYTES_MAX
    }

    /// Publishes what waits.
    pub(super) async fn flush(&mut self, http: &mut Http, terminal: &mut Terminal<'_>) -> Result<(), Exit> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let body = serde_json::to_vec(&std::mem::take(&mut self.waiting)).unwrap_or_default();
        self.bytes = 0;
        let answer = http.request("POST", "/api/publish", &body).await;
        let answer = answer.map_err(|error| report_request(&error, terminal))?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200..=299 => self.count(&text, terminal),
            status => {
                terminal.say(format_args!("error: {}", problem(status, &text)));
                terminal.say("what was published stays; the same command goes on behind it");
                Err(if matches!(status, 401 | 403) { Exit::Unauthorised } else { Exit::Failed })
            }
        }
    }

    fn count(&mut self, text: &str, terminal: &mut Terminal<'_>) -> Result<(), Exit> {
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(results) = answer["results"].as_array() else {
            terminal.say(format_args!("error: the answer is not what this version reads: {text}"));
            return Err(Exit::Failed);
        };
        for result in results {
            if let Some(error) = result.get("error") {
                terminal.say(format_args!("error: {}", error["message"].as_str().unwrap_or("refused")));
                return Err(Exit::Failed);
            }
            if result["duplicate"] == true {
                self.duplicates += 1;
            } else {
                self.published += 1;
            }
        }
        Ok(())
    }
}

/// The id of a copy: the same whenever the same event is copied, and of no other event.
fn id(channel: &str, epoch: &str, sequence: u64) -> String {
    let hash = Sha256::digest(format!("{channel}\n{epoch}\n{sequence}"));
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("replay-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_has_the_same_id_and_another_has_another() {
        assert_eq!(id("run:1", "e7", 1), id("run:1", "e7", 1));
        assert!(id("run:1", "e7", 1).len() <= 64);
        let others =
            [id("run:1", "e7", 2), id("run:2", "e7", 1), id("run:1", "e8", 1), id("run:1", "e71", 1)];
        assert!(others.iter().all(|other| *other != id("run:1", "e7", 1)), "{others:?}");
    }

    #[test]
    fn a_copy_says_what_the_event_said() {
        let kept: Kept = serde_json::from_str(
            r#"{"sequence":3,"event":"GRAFT","data":{"a":1.0},"timestamp":1,"key":"k","tags":{"x":"y"},"critical":true,"user":"ada"}"#,
        )
        .unwrap();
        let mut copies = Copies::new(Some("run:2"));
        copies.push("run:1", "e7", &kept);
        let text = serde_json::to_string(&copies.waiting[0]).unwrap();
        let copy: Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({"channel": "run:2", "type": "GRAFT", "data": {"a": 1.0}, "key": "k", "tags": {"x": "y"},
            "critical": true, "id": id("run:1", "e7", 3)});
        assert_eq!(copy, expected);
        assert!(text.contains(r#""data":{"a":1.0}"#), "the data passes as it is: {text}");
    }
}
