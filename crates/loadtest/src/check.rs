//! The history checker: was everything that was acknowledged delivered once, in order, to those who may have it, or
//! said to be missing?
//!
//! It reads what publishers sent and were answered, and what readers were told ([`record`]), and names every anomaly
//! ([`finding::Kind`]). It decides from the records alone: no socket, no clock, no file; [`files`] is the thin reader on
//! top. The rules are those of `docs/guarantees.md`; the format is in `docs/operate/check-history.md`.
//!
//! What is sent is read before what is told, so each delivery is judged at once. Kept for the whole run is one entry for
//! each message that was sent and one for each place in a channel that somebody was told of: together less than 400 bytes
//! an event, whatever its payload. A delivery in order keeps nothing; one that skips events by a filter keeps 16 bytes,
//! and each anomaly as much. Ids and contents are compared by 64-bit hashes.

pub mod files;
pub mod finding;
mod names;
mod places;
mod ranges;
mod reader;
pub mod record;
mod sent;
mod subscription;

use finding::{Findings, Report};
use names::Names;
use places::Places;
use reader::Readers;
use record::{Record, Stamped};
use sent::Sent;

/// What is not the same for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// An event that arrives more than this many milliseconds after its acknowledgement, or after its reader
    /// subscribed if that was later, is stale. Default 10,000. Needs `at_ms` on both.
    pub stale_ms: i64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { stale_ms: 10_000 }
    }
}

/// Everything the parts of the checker share.
#[derive(Debug)]
pub(crate) struct World {
    bounds: Bounds,
    names: Names,
    sent: Sent,
    places: Places,
    findings: Findings,
}

/// Judges one history. Records of publishers come first ([`Checker::sent`]), then those of readers
/// ([`Checker::told`]); those of one publisher or reader in the order in which they were written.
#[derive(Debug)]
pub struct Checker {
    world: World,
    readers: Readers,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new(bounds: Bounds) -> Checker {
        let world = World {
            bounds,
            names: Names::default(),
            sent: Sent::default(),
            places: Places::default(),
            findings: Findings::default(),
        };
        Checker { world, readers: Readers::default() }
    }

    /// Takes a record of a publisher; others are left for [`Checker::told`].
    pub fn sent(&mut self, stamped: &Stamped) {
        if let Record::Sent { publisher, sent } = &stamped.record {
            sent::take(&mut self.world, stamped, publisher, sent);
        }
    }

    /// Takes a record of a reader; others were for [`Checker::sent`].
    pub fn told(&mut self, stamped: &Stamped) {
        if let Record::Told { reader, told } = &stamped.record {
            self.readers.take(&mut self.world, stamped, reader, told);
        }
    }

    /// Judges what only the end can tell, such as what never came.
    pub fn finish(mut self) -> Report {
        self.readers.finish(&mut self.world);
        self.world.findings.finish()
    }
}

/// Judges a whole history, its records in any order between publishers and readers.
pub fn check(records: &[Stamped], bounds: Bounds) -> Report {
    let mut checker = Checker::new(bounds);
    records.iter().for_each(|record| checker.sent(record));
    records.iter().for_each(|record| checker.told(record));
    checker.finish()
}

/// Judges a history given as lines of JSON; the file of each line is 0.
///
/// # Errors
///
/// The first line that is none.
pub fn check_lines<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    bounds: Bounds,
) -> Result<Report, record::NotARecord> {
    let mut records = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        let place = record::Line { file: 0, line: index as u64 + 1 };
        record::parse(line.as_bytes(), place, &mut records)?;
    }
    Ok(check(&records, bounds))
}
