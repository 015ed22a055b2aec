//! What a client tells the server of itself (R52a).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::{Refusal, bad};
use crate::event::present;

/// How a client is, as it says. Every member may be absent: it did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientReport {
    /// Messages that wait in its queue now; at most [`Self::COUNT_MAX`].
    pub queued: Option<u32>,
    /// The slowest run of a handler since its last report, microseconds; at most ten minutes.
    pub handler_us: Option<u32>,
    /// Holes in channels that it has noticed and repaired since its last report; at most [`Self::COUNT_MAX`].
    pub gaps_healed: Option<u32>,
    /// Whether somebody can see the page.
    pub visible: Option<bool>,
}

impl ClientReport {
    /// The most of anything that can be counted.
    pub const COUNT_MAX: u32 = 1_000_000;
    /// The longest that a handler can have run, milliseconds.
    pub const HANDLER_MS_MAX: f64 = 600_000.0;

    /// Reads the value of `report`. Unknown members are ignored, as in messages.
    pub(super) fn read(raw: &RawValue) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow, default, deserialize_with = "present")]
            queued: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            handler_ms: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            gaps_healed: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            visible: Option<&'a RawValue>,
        }
        // serde would also read a struct from an array.
        if !raw.get().starts_with('{') {
            return Err(bad("`report` is not an object"));
        }
        let raw: Raw<'_> =
            serde_json::from_str(raw.get()).map_err(|error| bad(format!("`report`: {error}")))?;
        Ok(Self {
            queued: count(raw.queued, "queued")?,
            handler_us: raw.handler_ms.map(handler_us).transpose()?,
            gaps_healed: count(raw.gaps_healed, "gaps_healed")?,
            visible: match raw.visible.map(RawValue::get) {
                None => None,
                Some("true") => Some(true),
                Some("false") => Some(false),
                Some(_) => return Err(bad("`visible` of `report` is not true or false")),
            },
        })
    }
}

fn count(raw: Option<&RawValue>, name: &str) -> Result<Option<u32>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    let value = raw.get().parse().ok().filter(|value| *value <= ClientReport::COUNT_MAX);
    let wrong =
        || bad(format!("`{name}` of `report` is not a whole number from 0 to {}", ClientReport::COUNT_MAX));
    value.map(Some).ok_or_else(wrong)
}

fn handler_us(raw: &RawValue) -> Result<u32, Refusal> {
    let max = ClientReport::HANDLER_MS_MAX;
    let value = raw.get().parse().ok().filter(|ms: &f64| (0.0..=max).contains(ms));
    let wrong = || bad(format!("`handler_ms` of `report` is not a number from 0 to {max}"));
    value.map(|ms| (ms * 1_000.0).round() as u32).ok_or_else(wrong)
}
