//! Whether a client gets what it asks to listen to.

use std::sync::Arc;

use pulsewire_bus::{Channel, ChannelKind};
use pulsewire_protocol::{Attend, ChannelName, ErrorCode, Replay, Sequence, Shape};

use super::Shard;
use super::cursor::newest;
use super::feed::View;
use crate::command::{Wish, WishedChannel};
use crate::{Action, Net};
/// Why a wish cannot be granted, or not yet.
pub(super) enum Unready {
    /// It is refused.
    Refused(ErrorCode, String),
    /// These channels must be brought to hand first, some of which may be.
    NotAtHand(Vec<(ChannelName, Sequence)>),
}

/// A wish for one channel that has been checked.
pub(super) struct Checked {
    pub(super) channel: Arc<Channel>,
    pub(super) view: View,
    pub(super) replay: Replay,
    /// Whether it wants the keyed state.
    pub(super) state: bool,
    /// Whether a subscription that begins now is sent the keyed state without asking for it.
    pub(super) keyed: bool,
    pub(super) attend: Attend,
}

impl<N: Net> Shard<N> {
    pub(super) fn check_wish(
        &mut self,
        slot: u32,
        wish: &Wish,
        opened: &[Arc<Channel>],
    ) -> Result<Vec<Checked>, Unready> {
        self.check_names(slot, wish, opened).map_err(|unready| match unready {
            // Nothing is looked up for a wish that would be refused anyway.
            Unready::NotAtHand(mut names) => {
                names.sort_unstable();
                names.dedup();
                Unready::NotAtHand(names)
            }
            refused @ Unready::Refused(..) => refused,
        })
    }

    fn check_names(
        &mut self,
        slot: u32,
        wish: &Wish,
        opened: &[Arc<Channel>],
    ) -> Result<Vec<Checked>, Unready> {
        let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
        let limit = self.settings.limits.subscriptions_per_session;
        let refused = |code: ErrorCode, detail: String| Err(Unready::Refused(code, detail));
        let (mut names, mut missing) = (Vec::new(), false);
        let mut checked: Vec<Checked> = Vec::with_capacity(wish.channels.len());
        if session.subscriptions.len() + wish.channels.len() > limit.saturating_mul(2) {
            return refused(ErrorCode::LimitExceeded, format!("more than {limit} subscriptions"));
        }
        for WishedChannel { name, replay, state, attend } in &wish.channels {
            let name = match ChannelName::parse(name) {
                Ok(name) => name,
                Err(error) => return refused(ErrorCode::InvalidChannel, error.to_string()),
            };
            let Some(namespace) = self.bus.namespace(&name) else {
                return refused(ErrorCode::UnknownChannel, String::new());
            };
            let kind = namespace.kind;
            let open_to_all = namespace.anonymous && session.principal.is_anonymous();
            let may = |action| open_to_all || session.principal.may(action, &name);
            let reads = *state || !matches!(replay, Replay::Live);
            if !may(Action::Subscribe) || (reads && !may(Action::History)) {
                return refused(ErrorCode::Forbidden, format!("your token does not allow to read `{name}`"));
            }
            if *attend != Attend::No {
                if namespace.presence.is_none() {
                    return refused(ErrorCode::Unsupported, format!("`{name}` has no presence"));
                }
                if !session.principal.may(Action::Presence, &name) {
                    let detail = format!("your token does not allow to see who is in `{name}`");
                    return refused(ErrorCode::Forbidden, detail);
                }
                if *attend == Attend::Join && session.principal.is_anonymous() {
                    let detail = "only users are members; without a token `\"presence\":\"watch\"` may do";
                    return refused(ErrorCode::Forbidden, detail.to_owned());
                }
            }
            let keyed = namespace.keyed;
            let metrics = kind == ChannelKind::Metrics;
            if !metrics && wish.interval.is_some() {
                let detail = format!("`{name}` is not a metric channel: `aggregation_interval` is for those");
                return refused(ErrorCode::Unsupported, detail);
            }
            if *state && (kind != ChannelKind::Log || namespace.state_max == 0) {
                return refused(ErrorCode::Unsupported, format!("`{name}` keeps no state"));
            }
            let past = matches!(replay, Replay::Past(_));
            if past && !metrics {
                let detail = format!("`{name}` is not a metric channel: `history` is for those");
                return refused(ErrorCode::Unsupported, detail);
            }
            if reads && !past && kind != ChannelKind::Log {
                return refused(ErrorCode::Unsupported, format!("`{name}` keeps no events to replay"));
            }
            let seen = match replay {
                Replay::Since(position) => position.sequence,
                _ => Sequence::ZERO,
            };
            names.push((name.clone(), seen));
            let at_hand = match opened.iter().find(|channel| channel.name == name) {
                // It may have been replaced since it was brought to hand.
                Some(channel) => Ok(Some(newest(channel).unwrap_or_else(|| channel.clone()))),
                None => self.bus.at_hand(&name, seen),
            };
            let channel = match at_hand {
                Ok(Some(channel)) => channel,
                Ok(None) => {
                    missing = true;
                    continue;
                }
                Err(code) => return refused(code, format!("`{name}`")),
            };
            let replay = replay.clone();
            if checked.iter().any(|known| known.channel.id == channel.id) {
                continue;
            }
            let default = if wish.filter.is_empty() && wish.interval.is_none() {
                Shape::Grouped
            } else {
                Shape::Points
            };
            let shape = if metrics { wish.shape.unwrap_or(default) } else { Shape::Grouped };
            let view = View { shape, filter: wish.filter.clone(), interval: wish.interval };
            checked.push(Checked { channel, view, replay, state: *state, keyed, attend: *attend });
        }
        let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
        let known = |wish: &Checked| {
            session
                .subscriptions
                .iter()
                .any(|known| self.feeds[known.feed as usize].channel.id == wish.channel.id)
        };
        let fresh = checked.iter().filter(|wish| !known(wish)).count();
        if session.subscriptions.len() + fresh > limit {
            return refused(
                ErrorCode::LimitExceeded,
                format!("more than {limit} subscriptions in a session"),
            );
        }
        if missing {
            // All together: what is at hand now need not be any more when the others are.
            return Err(Unready::NotAtHand(names));
        }
        Ok(checked)
    }
}
