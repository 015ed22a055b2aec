//! Who did what: every action of an operator, and every one that was refused to somebody who may only look.
//!
//! The last thousand entries are in memory; all are appended to `audit.jsonl` in the data folder, a line of JSON
//! each, before the action is answered. If the file cannot be written the action is done all the same, and an error
//! in the log and an event say so: an operator who disconnects an attacker must not depend on a full disk.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_edge::clock;
use pulsewire_hub::Principal;
use pulsewire_telemetry::Severity;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth::words::word_of_role;
use crate::events::{self, Kind};
use crate::http::health::iso;

/// Entries in memory; the oldest makes room.
pub const ENTRIES_MAX: usize = 1_000;
/// The size at which the file is renamed, in bytes.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// The file.
const FILE: &str = "audit.jsonl";
/// What it is renamed to; the one before is replaced.
const OLD_FILE: &str = "audit.1.jsonl";
/// The longest target or detail, in characters; the rest is cut.
const TEXT_MAX: usize = 200;

/// Something that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 1 since the start.
    pub id: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The user.
    pub who: String,
    /// The user's role.
    pub role: &'static str,
    /// From which address.
    pub from: IpAddr,
    /// What.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// `done`, `failed` or `refused`.
    pub outcome: Outcome,
    /// More about it.
    pub detail: String,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was tried.
    Failed,
    /// Whoever asked may not.
    Refused,
}

impl Outcome {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

impl Entry {
    /// The entry as the API and the file show it.
    #[must_use]
    pub fn shown(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "at": iso(self.at_ms),
            "who": self.who,
            "role": self.role,
            "from": self.from.to_string(),
            "action": self.action,
            "target": self.target,
            "outcome": self.outcome.as_str(),
            "detail": self.detail,
        })
    }
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    ring: Mutex<Ring>,
    file: Mutex<LogFile>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    written: u64,
}

/// The file; opened for the first entry.
#[derive(Debug)]
struct LogFile {
    folder: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
}

impl Audit {
    /// A log whose file is in this folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self::bounded(folder, FILE_BYTES_MAX)
    }

    fn bounded(folder: &Path, bytes_max: u64) -> Self {
        let file = LogFile { folder: folder.to_owned(), bytes_max, open: None };
        Self { ring: Mutex::default(), file: Mutex::new(file) }
    }

    /// A page, newest first, and how many are in memory.
    #[must_use]
    pub fn page(&self, offset: usize, limit: usize) -> (Vec<Arc<Entry>>, usize) {
        let ring = self.ring.lock();
        (ring.entries.iter().rev().skip(offset).take(limit).cloned().collect(), ring.entries.len())
    }

    fn keep(&self, mut entry: Entry) -> Arc<Entry> {
        let mut ring = self.ring.lock();
        ring.written += 1;
        entry.id = ring.written;
        let entry = Arc::new(entry);
        if ring.entries.len() == ENTRIES_MAX {
            ring.entries.pop_front();
        }
        ring.entries.push_back(entry.clone());
        entry
    }

    /// Appends the entry to the file. Waits for the disk.
    fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut line = entry.shown().to_string();
        line.push('\n');
        self.file.lock().append(line.as_bytes())
    }
}

impl LogFile {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let (mut file, mut bytes) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if bytes > 0 && bytes + line.len() as u64 > self.bytes_max {
            fs::rename(self.folder.join(FILE), self.folder.join(OLD_FILE))?;
            (file, bytes) = self.open()?;
        }
        // One write, so that a reader never sees half of a line that is not the last.
        file.write_all(line)?;
        self.open = Some((file, bytes + line.len() as u64));
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        fs::create_dir_all(&self.folder)?;
        let file = OpenOptions::new().create(true).append(true).open(self.folder.join(FILE))?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    }
}

/// What is to be written of an action.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// Who.
    pub who: &'a Principal,
    /// From which address.
    pub from: IpAddr,
    /// What.
    pub action: &'static str,
    /// To what.
    pub target: &'a str,
    /// What became of it.
    pub outcome: Outcome,
    /// More about it.
    pub detail: &'a str,
}

/// Writes an action down; what was done is an event, too. Returns when it is in the file.
///
/// # Cancel safety
///
/// Dropping the future lets the writing go on.
pub async fn write(app: &Arc<App>, act: Act<'_>) {
    let cut = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
    let entry = app.audit.keep(Entry {
        id: 0,
        at_ms: clock::now().wall_ms,
        who: act.who.sub.to_string(),
        role: word_of_role(act.who.role),
        from: act.from,
        action: act.action,
        target: cut(act.target),
        outcome: act.outcome,
        detail: cut(act.detail),
    });
    let outcome = entry.outcome.as_str();
    tracing::info!(
        operator = entry.who,
        from = %entry.from,
        action = entry.action,
        target = entry.target,
        outcome,
        detail = entry.detail,
        "an operator's action"
    );
    if entry.outcome == Outcome::Done {
        let text = format!("{} {}: {} {}", entry.who, entry.action, entry.target, entry.detail);
        events::note(app, Kind::Action, None, text.trim_end(), None);
    }
    let writer = app.clone();
    let written = tokio::task::spawn_blocking(move || writer.audit.append(&entry)).await;
    if let Ok(Err(error)) = written {
        tracing::error!(%error, "the audit log cannot be written");
        let text = format!("the audit log cannot be written: {error}");
        events::note(app, Kind::AuditFailed, Some(Severity::Critical), text, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(detail: &str) -> Entry {
        Entry {
            id: 0,
            at_ms: 5,
            who: "ann".to_owned(),
            role: "operator",
            from: IpAddr::from([127, 0, 0, 1]),
            action: "disconnect",
            target: "user bob\nx".to_owned(),
            outcome: Outcome::Done,
            detail: detail.to_owned(),
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pulsewire-audit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn entries_are_lines_and_the_full_file_makes_room() {
        let folder = folder("rotation");
        let line = entry("0").shown().to_string().len() as u64 + 1;
        let audit = Audit::bounded(&folder, 3 * line);
        let write = |audit: &Audit, detail: &str| {
            let kept = audit.keep(entry(detail));
            audit.append(&kept).unwrap();
        };
        ["1", "2", "3", "4"].iter().for_each(|detail| write(&audit, detail));
        let lines = |file: &str| -> Vec<Value> {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let details = |file: &str| -> Vec<String> {
            lines(file).iter().map(|line| line["detail"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (details(OLD_FILE), details(FILE)),
            (vec!["1".into(), "2".into(), "3".into()], vec!["4".into()])
        );
        // A server that is started again goes on behind what is there.
        let again = Audit::bounded(&folder, 3 * line);
        write(&again, "5");
        assert_eq!(details(FILE), ["4", "5"]);
        let (page, total) = audit.page(1, 2);
        assert_eq!((page[0].detail.as_str(), page[1].detail.as_str(), total), ("3", "2", 4));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let file = folder("not-a-folder");
        fs::write(&file, "").unwrap();
        let audit = Audit::new(&file);
        let kept = audit.keep(entry("1"));
        assert!(audit.append(&kept).is_err());
        assert_eq!(audit.page(0, 9).1, 1, "it is in memory all the same");
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn the_oldest_entry_makes_room() {
        let audit = Audit::new(Path::new("unused"));
        (0..ENTRIES_MAX + 3).for_each(|_| drop(audit.keep(entry(""))));
        let (page, total) = audit.page(ENTRIES_MAX - 1, 10);
        assert_eq!((total, page.len(), page[0].id), (ENTRIES_MAX, 1, 4));
    }
}
