//! Events as lines for people.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pulsewire_client::Event;

use crate::cli::screen::printable;

/// The layout of the lines. Columns grow with what they hold and never shrink, so they rarely jump.
#[derive(Debug)]
pub(super) struct Lines {
    with_channel: bool,
    channel_width: usize,
    type_width: usize,
    user_width: usize,
    zone: TimeZone,
}

impl Lines {
    pub(super) fn new(with_channel: bool) -> Lines {
        Lines { with_channel, channel_width: 7, type_width: 6, user_width: 4, zone: TimeZone::system() }
    }

    pub(super) fn header(&mut self) -> String {
        self.line("TIME", "SEQ", "CHANNEL", "TYPE", "USER", "DATA", "")
    }

    pub(super) fn event(&mut self, event: &Event, latency: Option<Duration>) -> String {
        let remark = match latency {
            _ if event.replayed => "replayed".to_owned(),
            Some(latency) => format!("{} ms", latency.as_millis()),
            None => String::new(),
        };
        self.remarked(event, &remark)
    }

    /// The newest event of a key, sent to whoever begins.
    pub(super) fn value(&mut self, event: &Event) -> String {
        self.remarked(event, "value")
    }

    fn remarked(&mut self, event: &Event, remark: &str) -> String {
        let time = event.timestamp_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let sequence = event.sequence.map(|sequence| sequence.to_string()).unwrap_or_default();
        let kind = if event.critical { format!("{} !", event.event_type) } else { event.event_type.clone() };
        let key = event.key.as_ref().map(|key| format!("key {}", printable(key)));
        let remark: Vec<&str> = key.iter().map(String::as_str).chain(Some(remark)).collect();
        let user = event.user.as_deref().unwrap_or_default();
        let time = self.clock(time.unwrap_or_else(Timestamp::now));
        self.line(
            &time,
            &sequence,
            &event.channel,
            &kind,
            user,
            event.data.get(),
            remark.join("  ").trim_start(),
        )
    }

    /// A frame that is no publication.
    pub(super) fn message(&mut self, kind: &str, channel: Option<&str>, text: &str) -> String {
        self.line(&self.clock(Timestamp::now()), "", channel.unwrap_or_default(), kind, "", text, "")
    }

    /// Somebody who came or went.
    pub(super) fn member(&mut self, what: &str, channel: &str, user: &str) -> String {
        self.line(&self.clock(Timestamp::now()), "", channel, what, user, "", "")
    }

    fn clock(&self, time: Timestamp) -> String {
        Zoned::new(time, self.zone.clone()).strftime("%H:%M:%S%.3f").to_string()
    }

    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    fn line(
        &mut self,
        time: &str,
        sequence: &str,
        channel: &str,
        kind: &str,
        user: &str,
        data: &str,
        remark: &str,
    ) -> String {
        let [channel, kind, user, data] = [channel, kind, user, data].map(printable);
        self.type_width = self.type_width.max(kind.chars().count()).min(24);
        self.user_width = self.user_width.max(user.chars().count()).min(24);
        self.channel_width = self.channel_width.max(channel.chars().count()).min(32);
        let (type_width, user_width, channel_width) = (self.type_width, self.user_width, self.channel_width);
        let channel = if self.with_channel { format!("{channel:channel_width$}  ") } else { String::new() };
        let line = format!(
            "{time:12}  {sequence:>5}  {channel}{kind:type_width$}  {user:user_width$}  {data:36}  {remark}"
        );
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use pulsewire_client::Sequence;
    use serde_json::value::RawValue;

    use super::*;

    fn event() -> Event {
        Event {
            channel: "run:42".to_owned(),
            event_type: "GRAFT".to_owned(),
            data: RawValue::from_string(r#"{"node":"a7"}"#.to_owned()).unwrap(),
            sequence: Some(Sequence(41)),
            timestamp_ms: Some(1_699_459_267_113),
            id: None,
            user: Some("user_123".to_owned()),
            key: None,
            tags: Default::default(),
            critical: true,
            replayed: true,
            frame: String::new(),
        }
    }

    fn lines(with_channel: bool) -> Lines {
        Lines { zone: TimeZone::UTC, ..Lines::new(with_channel) }
    }

    #[test]
    fn a_line_shows_time_place_type_user_data_and_age() {
        let mut lines = lines(false);
        assert_eq!(
            lines.event(&event(), None),
            r#"16:01:07.113     41  GRAFT !  user_123  {"node":"a7"}                         replayed"#
        );
        let live = Event { replayed: false, ..event() };
        assert!(lines.event(&live, Some(Duration::from_millis(4))).ends_with("  4 ms"));
        assert!(lines.header().starts_with("TIME            SEQ  TYPE     USER      DATA"));
    }

    #[test]
    fn a_value_is_shown_with_its_key() {
        let value = Event { key: Some("t1".to_owned()), replayed: false, critical: false, ..event() };
        let line = lines(false).value(&value);
        assert!(line.ends_with(r#"{"node":"a7"}                         key t1  value"#), "{line}");
        let live = lines(false).event(&value, Some(Duration::from_millis(4)));
        assert!(live.ends_with("  key t1  4 ms"), "{live}");
    }

    #[test]
    fn who_comes_and_goes_has_a_line() {
        let line = lines(true).member("joined", "run:42", "ada");
        assert!(line.ends_with("run:42   joined  ada"), "{line}");
    }

    #[test]
    fn several_channels_are_told_apart() {
        assert!(lines(true).event(&event(), None).contains("  run:42   GRAFT !"));
    }

    #[test]
    fn a_payload_cannot_move_the_cursor() {
        let line = lines(false).message("x\u{1b}[2J", None, "a\u{7}b");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
