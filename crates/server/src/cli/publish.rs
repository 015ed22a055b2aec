//! `pulsewire publish`: events from the command line.
//!
//! Over HTTP by default, because that is what applications do; `--ws` takes the socket and its acknowledgement. Answers
//! go to standard output as JSON lines, one for each event.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use clap::Args;
use pulsewire_client::{Client, Delivery, Http, NewEvent, Options, PublishError, Reason, State};
use serde_json::value::RawValue;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::connection::{Connection, ConnectionArguments, block_on, problem, report, report_request};
use super::{Exit, Terminal};

/// Publish one event, or many.
#[derive(Debug, Args)]
pub struct Publish {
    /// The channel, such as run:42.
    pub channel: String,
    /// The event's type, such as GRAFT.
    #[arg(value_name = "TYPE")]
    pub event_type: String,
    /// Its data as JSON; `-` publishes each JSON value of standard input.
    #[arg(default_value = "null")]
    pub data: String,
    /// Idempotency key: the same id is stored once.
    #[arg(long, conflicts_with = "count")]
    pub id: Option<String>,
    /// Replace the value of this key.
    #[arg(long)]
    pub key: Option<String>,
    /// A tag, such as region=eu; can be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// Keep it longer than others and replay it to late joiners.
    #[arg(long)]
    pub critical: bool,
    /// Publish it so many times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u64,
    /// At most so many events a second.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Publish over the WebSocket instead of HTTP.
    #[arg(long)]
    pub ws: bool,
    /// Where to.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Reads `KEY=VALUE`.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("expected a number of events a second, such as 10 or 0.5".to_owned()),
    }
}

/// Publishes.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Publish, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connection = command.connection.resolve(terminal)?;
    let mut payloads = payloads(&command.data, terminal)?;
    if command.data != "-" {
        payloads = (0..command.count).map(|_| payloads[0].clone()).collect();
    }
    let events: Vec<NewEvent> = payloads.into_iter().map(|data| command.event(data)).collect();
    block_on(terminal, async |terminal| {
        if command.ws {
            over_socket(command, connection, events, terminal).await
        } else {
            over_http(command, connection, events, terminal).await
        }
    })?
}

impl Publish {
    fn event(&self, data: Box<RawValue>) -> NewEvent {
        NewEvent {
            channel: self.channel.clone(),
            event_type: self.event_type.clone(),
            data,
            id: self.id.clone(),
            key: self.key.clone(),
            tags: self.tags.iter().cloned().collect::<BTreeMap<_, _>>(),
            critical: self.critical.then_some(true),
        }
    }

    fn pace(&self) -> Option<tokio::time::Interval> {
        let mut pace = interval(Duration::from_secs_f64(1.0 / self.rate?));
        // After a pause the rate is kept, not made up for.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(pace)
    }
}

/// The JSON values to publish.
fn payloads(data: &str, terminal: &mut Terminal<'_>) -> Result<Vec<Box<RawValue>>, Exit> {
    let mut input = String::new();
    let text = match data {
        "-" => {
            let read = std::io::stdin().read_to_string(&mut input);
            read.map_err(|error| {
                terminal.say(format_args!("error: standard input cannot be read: {error}"));
                Exit::Failed
            })?;
            input.as_str()
        }
        data => data,
    };
    let values: Result<Vec<Box<RawValue>>, _> =
        serde_json::Deserializer::from_str(text).into_iter().collect();
    let wrong = match values {
        Ok(values) if data == "-" || values.len() == 1 => return Ok(values),
        Ok(values) => format!("{} JSON values; pipe them and write `-` instead", values.len()),
        Err(error) => format!("{error}; a text needs quotes of its own: '\"hello\"'"),
    };
    terminal.say(format_args!("error: DATA is not one JSON value: {wrong}"));
    Err(Exit::Usage)
}

async fn over_http(
    command: &Publish,
    connection: Connection,
    events: Vec<NewEvent>,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let mut http = Http::new(connection.endpoint, connection.trust, Some(connection.token));
    let mut pace = command.pace();
    let mut tally = Tally::new(&events);
    for event in &events {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let body = serde_json::to_vec(event).unwrap_or_default();
        let answer = http.request("POST", "/api/publish", &body).await;
        let answer = answer.map_err(|error| report_request(&error, terminal))?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            200..=299 => tally.accepted(text.trim(), terminal),
            401 | 403 => {
                terminal.say(format_args!("error: {}", problem(answer.status, &text)));
                return Err(Exit::Unauthorised);
            }
            status => {
                terminal.say(format_args!("error: {}", problem(status, &text)));
                return Err(Exit::Failed);
            }
        }
    }
    tally.finish(terminal);
    Ok(Exit::Ok)
}

async fn over_socket(
    command: &Publish,
    connection: Connection,
    events: Vec<NewEvent>,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let mut options = Options::new(connection.endpoint.clone());
    options.trust = connection.trust.clone();
    options.token = connection.token.into();
    let (client, mut deliveries) = Client::start(options);
    let mut pace = command.pace();
    let mut tally = Tally::new(&events);
    for event in events {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let publishing = client.publish(event);
        tokio::pin!(publishing);
        let outcome = loop {
            tokio::select! {
                outcome = &mut publishing => break outcome,
                delivery = deliveries.next() => match delivery {
                    Some(Delivery::State { to: State::Waiting | State::Closed, reason, .. }) => {
                        let reason = reason.unwrap_or(Reason::Client);
                        return Err(report(&reason, &connection.endpoint, terminal));
                    }
                    Some(_) => {}
                    None => break Err(PublishError::Closed),
                },
            }
        };
        match outcome {
            Ok(ack) => tally.accepted(&serde_json::to_string(&ack).unwrap_or_default(), terminal),
            Err(error) => {
                terminal.say(format_args!("error: {error}"));
                let refused = matches!(&error, PublishError::Rejected(error) if matches!(error.code.as_str(), "forbidden" | "unauthorized" | "wrong_credential"));
                return Err(if refused { Exit::Unauthorised } else { Exit::Failed });
            }
        }
    }
    client.close().await;
    tally.finish(terminal);
    Ok(Exit::Ok)
}

/// What has been accepted so far.
struct Tally {
    many: bool,
    accepted: u64,
    begun: Instant,
}

impl Tally {
    fn new(events: &[NewEvent]) -> Tally {
        Tally { many: events.len() > 1, accepted: 0, begun: Instant::now() }
    }

    fn accepted(&mut self, answer: &str, terminal: &mut Terminal<'_>) {
        self.accepted += 1;
        terminal.data(answer);
    }

    fn finish(&self, terminal: &mut Terminal<'_>) {
        if self.many {
            let seconds = self.begun.elapsed().as_secs_f64();
            let rate = self.accepted as f64 / seconds.max(1e-9);
            terminal.say(format_args!("{} events in {seconds:.1} s, {rate:.0}/s", self.accepted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads_of(data: &str) -> Result<Vec<String>, (Exit, String)> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = payloads(data, &mut Terminal::new(&mut out, &mut err));
        match read {
            Ok(values) => Ok(values.iter().map(|value| value.get().to_owned()).collect()),
            Err(exit) => Err((exit, String::from_utf8(err).unwrap())),
        }
    }

    #[test]
    fn data_is_one_json_value_and_passes_untouched() {
        assert_eq!(payloads_of(r#" {"a": 1.0} "#).unwrap(), [r#"{"a": 1.0}"#]);
        assert_eq!(payloads_of("null").unwrap(), ["null"]);
    }

    #[test]
    fn what_is_no_json_is_refused_with_the_way_to_write_it() {
        let (exit, said) = payloads_of("hello").unwrap_err();
        assert_eq!(exit, Exit::Usage);
        assert!(said.contains(r#"'"hello"'"#), "{said}");
        assert!(payloads_of("1 2").unwrap_err().1.contains("2 JSON values"));
    }

    #[test]
    fn tags_and_rates_are_checked() {
        assert_eq!(tag("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(tag("a").is_err());
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(rate("0").is_err() && rate("inf").is_err() && rate("x").is_err());
    }
}
