//! The last survey and the last page of each form.

use std::sync::Arc;

use bytes::Bytes;
use pulsewire_edge::clock;
use pulsewire_telemetry::{Current, Format, render, render_protobuf};

use super::figures;
use super::flight::Flight;
use crate::app::App;

/// A page is rendered again when it is so old.
const PAGE_AGE_MAX_MS: u64 = 1_000;
/// The shards are asked again when their last answer is so old: health must be fresher than pages, and
/// whoever may ask without a token must not be able to keep the shards busy.
const SURVEY_AGE_MAX_MS: u64 = 100;

/// What a scrape shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's protobuf messages.
    Protobuf,
    /// Document 002's JSON.
    Json,
}

/// What there is, as far as the shards say.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// The last answer of all shards; the default if they never gave one.
    pub current: Arc<Current>,
    /// Whether a shard did not answer this time.
    pub stalled: bool,
}

/// The last survey and the last rendered pages.
#[derive(Debug)]
pub struct Scrapes {
    survey: Flight<Surveyed>,
    pages: [Flight<Bytes>; 4],
}

impl Default for Scrapes {
    fn default() -> Self {
        let pages = [(); 4].map(|()| Flight::new(PAGE_AGE_MAX_MS));
        Self { survey: Flight::new(SURVEY_AGE_MAX_MS), pages }
    }
}

impl Scrapes {
    /// What there is, at most a tenth of a second old; if a shard does not answer, what there last was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the asking to the next who asks.
    pub async fn survey(&self, app: &App) -> Surveyed {
        let ask = |last: Option<Surveyed>| async {
            if let Ok(current) = app.survey().await {
                return Surveyed { current: Arc::new(current), stalled: false };
            }
            let known = last.map_or_else(Arc::default, |last| last.current);
            let mut current = Current::clone(&known);
            current.draining |= app.is_draining();
            Surveyed { current: Arc::new(current), stalled: true }
        };
        self.survey.get(now_ns, ask).await
    }

    /// The page of a form, at most a second old.
    ///
    /// # Cancel safety
    ///
    /// As [`Scrapes::survey`].
    pub(super) async fn page(&self, app: &App, form: Form) -> Bytes {
        let make = |_| async {
            let surveyed = self.survey(app).await;
            match form {
                Form::Text => render(&app.telemetry, &surveyed.current, Format::Text004).into(),
                Form::OpenMetrics => render(&app.telemetry, &surveyed.current, Format::OpenMetrics).into(),
                Form::Protobuf => render_protobuf(&app.telemetry, &surveyed.current).into(),
                Form::Json => figures::page(app, &surveyed).to_string().into(),
            }
        };
        self.pages[form as usize].get(now_ns, make).await
    }
}

fn now_ns() -> u64 {
    clock::now().mono_ns
}
