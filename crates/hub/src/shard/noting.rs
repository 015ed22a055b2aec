//! Writing down what happens to sessions.

use pulsewire_bus::{ChannelId, Now};
use pulsewire_protocol::{ErrorCode, SessionId};

use super::Shard;
use crate::Net;
use crate::watch::timeline::{Entry, Happening, Note, Whose};

/// Channels of one message that are written down; of more only how many.
const CHANNELS_NOTED_MAX: usize = 8;

impl<N: Net> Shard<N> {
    /// Something happened to the session of a slot, if it has one.
    pub(super) fn note(&mut self, index: u32, note: Note, now: Now) {
        if let Some(session) = self.slots.get(index as usize).and_then(|slot| slot.session.as_ref()) {
            self.timeline.write(Whose::session(session.id), note, now.wall_ms);
        }
    }

    /// Something happened to a user's session that was seen elsewhere.
    pub(super) fn noted(&mut self, user: &str, id: SessionId, note: Note, now: Now) {
        let slot = self.slots.get(id.slot() as usize);
        let own = |session: &super::slot::Session| {
            session.id == id && !user.is_empty() && *session.principal.sub == *user
        };
        if slot.and_then(|slot| slot.session.as_deref()).is_some_and(own) {
            self.note(id.slot(), note, now);
        }
    }

    /// The same happened with each of these channels.
    pub(super) fn note_channels(&mut self, index: u32, what: Happening, channels: &[ChannelId], now: Now) {
        for channel in channels.iter().take(CHANNELS_NOTED_MAX) {
            self.note(index, Note::of(what).channel(*channel), now);
        }
        let more = channels.len().saturating_sub(CHANNELS_NOTED_MAX) as u64;
        if more > 0 {
            self.note(index, Note::of(Happening::AndMore).value(more), now);
        }
    }

    pub(super) fn note_error(&mut self, index: u32, code: ErrorCode, now: Now) {
        self.note(index, Note::of(Happening::Error).code(code as u16), now);
    }

    /// Something happened to a session's subscription.
    pub(super) fn note_feed(&mut self, index: u32, what: Happening, feed: u32, value: u64, now: Now) {
        let channel = self.feeds[feed as usize].channel.id;
        self.note(index, Note::of(what).channel(channel).value(value), now);
    }

    /// What happened to a session, oldest first, as far as it is remembered.
    pub(super) fn timeline_of(&self, session: SessionId) -> Vec<Entry> {
        self.timeline.of(Whose::session(session)).collect()
    }
}
