//! What a connection is owed by the clock: answers, round trips, another token.

use std::time::Duration;

use pulsewire_protocol::client as defaults;

use super::{Session, unix_ms};
use crate::machine::{Input, ms};
use crate::state::TokenReason;
use crate::token::TokenError;

impl Session {
    /// When something is next due without anything happening.
    pub(super) fn due(&self) -> Option<Duration> {
        let answer = self.ping.as_ref().map(|(_, sent)| *sent + self.options.timeouts.probe);
        let outbox = self.outbox.due(self.now());
        let of_a_connection = [self.ping_at, self.renew_at, answer].into_iter().flatten();
        let of_a_connection = of_a_connection.filter(|_| self.is_open());
        [self.machine.deadline(), outbox, self.closing].into_iter().flatten().chain(of_a_connection).min()
    }

    /// What is due by now is done, besides what the machine waits for.
    pub(super) async fn pass_time(&mut self) {
        let now = self.now();
        let (settled, suspicious) = self.outbox.expire(now);
        self.settle(settled);
        if !self.is_open() {
            return;
        }
        let late = self.ping.as_ref().is_some_and(|(_, sent)| *sent + self.options.timeouts.probe <= now);
        if late {
            self.ping = None;
        }
        if late || suspicious {
            self.step(Input::Suspect, None).await;
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = Some(now + ms(defaults::RTT_INTERVAL_MS));
            self.measure(now);
        }
        if self.renew_at.is_some_and(|at| at <= now) {
            self.renew();
        }
    }

    /// Asks for another token while the one in use still holds.
    pub(super) fn renew(&mut self) {
        self.renew_at = None;
        if !self.tokens.are_renewable() || self.io.renewing.is_some() {
            return;
        }
        let asking = self.tokens.ask(TokenReason::Expiring);
        let within = self.options.timeouts.token;
        self.io.renewing = Some(Box::pin(async move {
            let late = |_| Err(TokenError::Failed("the callback took too long".to_owned()));
            tokio::time::timeout(within, asking).await.unwrap_or_else(late)
        }));
    }

    /// The token runs out then, in milliseconds since 1970: another is asked for after 75 to 85 % of what remains, so
    /// that clients which came together do not ask together.
    pub(super) fn runs_out(&mut self, expires_at: Option<i64>) {
        let remaining =
            expires_at.and_then(|at| u64::try_from(at).ok()).map(|at| at.saturating_sub(unix_ms()));
        let Some(remaining) = remaining.filter(|_| self.tokens.are_renewable()) else { return };
        let part = 0.75 + self.random.unit() / 10.0;
        self.renew_at = Some(self.now() + ms(remaining).mul_f64(part));
    }
}
