//! What this node knows of another: which of its rows it has heard of, and whether it is still there.

use std::collections::{BTreeMap, VecDeque};

use super::own::Key;
use super::words::Rows;

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was heard not long ago.
    There,
    /// It missed three digests: its rows stay, and are doubted.
    Suspect,
    /// It said goodbye: its rows end with their grace, and nothing it says counts any more.
    Left { at_ns: u64 },
    /// It was silent for too long: its rows go.
    Silent,
}

/// A question that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    number: u32,
    at_ns: u64,
    /// Whether the transfer of everything that answers it has begun.
    began: bool,
    /// Whether the last of its answers has come, so that it may be asked again.
    over: bool,
}

/// What becomes of rows that were heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// They say what comes next.
    Next,
    /// They are known, or something before them is missing.
    Nothing,
}

pub(super) struct Peer {
    /// Up to which version its rows are known.
    pub(super) have: u64,
    /// The newest version that it is known to have told.
    head: u64,
    /// Its rows here, each with the transfer in which it was last said.
    pub(super) rows: BTreeMap<Key, u32>,
    /// Counts transfers of everything.
    pub(super) transfer: u32,
    /// Whether one is going on.
    filling: bool,
    /// Whether everything has to be asked for, whatever is known.
    again: bool,
    /// When everything may be asked for again because counts differ.
    recount_ns: u64,
    asked: Option<Asked>,
    asks: u32,
    /// For how long it has said nothing.
    pub(super) quiet_ns: u64,
    pub(super) standing: Standing,
    /// Whether its rows are to be doubted or to be believed, and up to which this was done.
    pub(super) doubting: Option<(bool, Option<Key>)>,
    /// Up to which of its rows those were let go that the last transfer of everything did not say.
    pub(super) shedding: Option<Option<Key>>,
    /// When its rows end, once it has said goodbye.
    pub(super) ending: BTreeMap<u64, VecDeque<Key>>,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            have: 0,
            head: 0,
            rows: BTreeMap::new(),
            transfer: 0,
            filling: false,
            again: false,
            recount_ns: 0,
            asked: None,
            asks: 0,
            quiet_ns: 0,
            standing: Standing::There,
            doubting: None,
            shedding: None,
            ending: BTreeMap::new(),
        }
    }

    /// It said something. Returns whether anything it says counts.
    pub(super) fn spoke(&mut self) -> bool {
        self.quiet_ns = 0;
        match self.standing {
            Standing::There => {}
            Standing::Suspect | Standing::Silent => {
                self.standing = Standing::There;
                self.doubting = Some((false, None));
            }
            Standing::Left { .. } => return false,
        }
        true
    }

    /// Some time went by in which it said nothing.
    pub(super) fn silent(&mut self, for_ns: u64, suspect_ns: u64, silent_ns: u64) {
        self.quiet_ns = self.quiet_ns.saturating_add(for_ns);
        if self.standing == Standing::There && self.quiet_ns >= suspect_ns {
            self.standing = Standing::Suspect;
            self.doubting = Some((true, None));
        }
        if self.standing == Standing::Suspect && self.quiet_ns >= silent_ns {
            self.standing = Standing::Silent;
            self.doubting = None;
            // If it is heard again, everything has to be said again.
            (self.have, self.head, self.filling, self.again, self.asked) = (0, 0, false, true, None);
        }
    }

    /// It told where it stands.
    pub(super) fn digest(&mut self, version: u64, rows: Option<u64>, now_ns: u64, recount_after_ns: u64) {
        self.head = self.head.max(version);
        let differs = rows.is_some_and(|rows| rows != self.rows.len() as u64);
        if version == self.have && differs && self.is_whole() && now_ns >= self.recount_ns {
            self.recount_ns = now_ns.saturating_add(recount_after_ns);
            self.again = true;
        }
    }

    /// Whether neither a transfer of everything nor what follows from one is under way.
    fn is_whole(&self) -> bool {
        !self.filling && self.shedding.is_none()
    }

    /// What to make of rows; [`Peer::took`] follows if they are taken.
    pub(super) fn judge(&mut self, rows: &Rows) -> Heard {
        self.head = self.head.max(rows.head);
        let asked = self.asked.as_mut().filter(|asked| asked.number == rows.number);
        let mut begins = false;
        if let Some(asked) = asked {
            asked.over |= rows.last;
            begins = rows.all && !asked.began;
            asked.began |= rows.all;
        }
        if begins {
            self.transfer = self.transfer.wrapping_add(1);
            self.head = rows.head;
            (self.have, self.filling, self.again, self.shedding) = (0, true, false, None);
            return Heard::Next;
        }
        let follows = rows.from <= self.have && self.have < rows.to && !self.again;
        if follows { Heard::Next } else { Heard::Nothing }
    }

    /// Rows were taken. If a transfer of everything is complete by that, what was not said in it is not there any
    /// more.
    pub(super) fn took(&mut self, rows: &Rows) {
        self.have = rows.to;
        if self.filling && self.have >= rows.head {
            self.filling = false;
            self.shedding = Some(None);
        }
    }

    /// What to ask it for, if something is missing and it was not asked lately.
    pub(super) fn ask(&mut self, now_ns: u64, patience_ns: u64) -> Option<(u64, u32)> {
        let wants = self.again || self.filling || self.have < self.head;
        let waits = |asked: &Asked| !asked.over && now_ns < asked.at_ns.saturating_add(patience_ns);
        let patient = self.asked.as_ref().is_some_and(waits);
        if !wants || patient || self.standing != Standing::There {
            return None;
        }
        // 0 is nobody's number.
        self.asks = self.asks.checked_add(1).unwrap_or(1);
        self.asked = Some(Asked { number: self.asks, at_ns: now_ns, began: false, over: false });
        Some((if self.again { 0 } else { self.have }, self.asks))
    }

    /// The way to it was interrupted: nothing that was asked will be answered.
    pub(super) fn interrupted(&mut self) {
        self.asked = None;
    }
}
