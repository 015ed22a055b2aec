//! A page of a channel's past for a WebSocket client (`get_history`, R27).
//!
//! The cursor of all readers, and bounds of time around it. Times are the publishers' and need not rise with the
//! sequence, so every event is looked at; a request looks at so many pages and then says where to go on.

use pulsewire_bus::{Body, Publication, ReadLimit};
use pulsewire_hub::{HistoryPage, HistoryWish};
use pulsewire_protocol::{ChannelName, ErrorCode, Sequence};

use super::{Cursor, Filter, JSON, Start, open_log};
use crate::app::App;

/// Pages that one request looks at.
const PAGES_MAX: usize = 16;
/// Events of such a page.
const PAGE_EVENTS: usize = 1_000;

/// Reads what a client wishes.
///
/// # Errors
///
/// As [`open_log`], and `store_unavailable` or `overloaded` if it cannot be read now.
pub async fn read(app: &App, name: &ChannelName, wish: &HistoryWish) -> Result<HistoryPage, ErrorCode> {
    let start = wish.since.clone().map_or(Start::After(Sequence::ZERO), Start::At);
    let channel = open_log(app, name, start.sequence()).await?;
    let (mut cursor, reset) = Cursor::begin(channel.clone(), &start, Filter::default());
    let mut page = HistoryPage {
        channel,
        publications: Vec::new(),
        gap: None,
        reset: reset.then_some(cursor.after),
        next: None,
    };
    if reset {
        return Ok(page);
    }
    let mut bytes = 0;
    for _ in 0..PAGES_MAX {
        let before = cursor.after;
        let limit = ReadLimit {
            publications: if timed(wish) { PAGE_EVENTS } else { wish.limit },
            bytes: app.live.load().settings.reading.page_bytes_max,
        };
        let step = cursor.step(app, limit).await?;
        if step.gap.is_some() && (page.gap.is_some() || !page.publications.is_empty()) {
            // A page has one gap, before its events: this one is for the next.
            page.next = Some(before);
            break;
        }
        page.gap = page.gap.or(step.gap);
        for told in step.events {
            if !within(&told.publication, wish) {
                continue;
            }
            if page.publications.len() == wish.limit || bytes > wish.bytes_max {
                page.next = Some(Sequence(told.publication.sequence.0 - 1));
                return Ok(page);
            }
            bytes += told.publication.frame(JSON).payload().len();
            page.publications.push(told.publication);
        }
        page.next = (step.through < step.head).then_some(step.through);
        if page.next.is_none() || page.publications.len() == wish.limit {
            break;
        }
    }
    Ok(page)
}

fn timed(wish: &HistoryWish) -> bool {
    wish.start_ms.is_some() || wish.end_ms.is_some()
}

fn within(publication: &Publication, wish: &HistoryWish) -> bool {
    let Body::Event(accepted) = &publication.body else { return false };
    let at_ms = accepted.timestamp_ms;
    wish.start_ms.is_none_or(|start_ms| start_ms <= at_ms) && wish.end_ms.is_none_or(|end_ms| at_ms <= end_ms)
}
