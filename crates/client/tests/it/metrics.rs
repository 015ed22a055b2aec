//! Metric channels: what a subscription asks for, what is handed on, and the past.

use std::time::Duration;

use pulsewire_client::{
    Client, Content, Delivery, HistoryError, Interval, Options, Past, Question, Reading, Shape, Start, State,
};
use pulsewire_protocol::transcode::json_to_msgpack;
use serde_json::value::RawValue;

use crate::options;
use crate::server::{Peer, Server};

const CHANNEL: &str = "system.metrics";

fn metric_options(server: &Server, start: Start) -> Options {
    let mut options = options(server);
    options.channels = vec![(CHANNEL.to_owned(), start)];
    options
}

async fn greet(server: &Server) -> Peer {
    let mut peer = server.accept().await;
    peer.hello = peer.read_text().await;
    peer.text(r#"{"type":"connected","id":"1","session":"S1"}"#).await;
    peer.text(r#"{"type":"subscribed","channels":["system.metrics"]}"#).await;
    peer
}

fn point(at: &str, value: f64) -> String {
    format!(
        r#"{{"channel":"system.metrics","name":"cpu.percent","type":"gauge","value":{value:?},"timestamp":"2025-11-08T12:00:{at}Z","tags":{{"host":"a"}}}}"#
    )
}

fn page(more: &str) -> String {
    format!(
        r#"{{"type":"history","channel":"system.metrics","resolution":"5s","start_time":"2025-11-08T12:00:00Z","end_time":"2025-11-08T12:00:10Z","events":[{}],{more}}}"#,
        point("05", 1.5)
    )
}

/// What a metric channel's deliveries say, in short words, until so many came.
async fn told(deliveries: &mut pulsewire_client::Deliveries, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < count {
        match deliveries.next().await.expect("the client ended early") {
            Delivery::Metric { metric, text } => {
                let shape =
                    if matches!(metric.content, Content::Point { .. }) { "point" } else { "document" };
                let numbers: Vec<String> = metric
                    .readings()
                    .map(|(name, reading)| match reading {
                        Reading::Value(value) => format!("{name}={}", value.as_f64()),
                        Reading::Figures(figures) => format!("{name}~{}", figures.avg()),
                    })
                    .collect();
                assert!(text.starts_with(r#"{"channel":"system.metrics""#), "{text}");
                words.push(format!("{shape} {}", numbers.join(" ")));
            }
            Delivery::Past(page) => {
                words.push(format!("past {} {}", page.metrics.len(), page.next_ms.is_some()));
            }
            Delivery::Stale { since_ms, .. } => words.push(format!("stale {since_ms}")),
            Delivery::Dropped { count, .. } => words.push(format!("dropped {count}")),
            Delivery::State { to: State::Waiting, .. } => words.push("lost".to_owned()),
            _ => {}
        }
    }
    words
}

#[tokio::test]
async fn a_metric_channel_is_asked_for_and_handed_on_in_every_form() {
    let server = Server::start().await;
    let mut options = metric_options(&server, Start::Live);
    options.narrow.interval = Some(Interval::S5);
    options.narrow.shape = Some(Shape::Grouped);
    options.narrow.compression = true;
    options.narrow.filter = Some(RawValue::from_string(r#"{"host":{"prefix":"a"}}"#.to_owned()).unwrap());
    let (_client, mut deliveries) = Client::start(options);
    let mut peer = greet(&server).await;
    let asked = r#"{"channels":["system.metrics"],"filter":{"host":{"prefix":"a"}},"aggregation_interval":"5s","shape":"grouped","compression":true}"#;
    assert!(peer.hello.contains(asked), "{}", peer.hello);
    let document = r#"{"channel":"system.metrics","timestamp":"2025-11-08T12:00:00Z","cpu":{"percent":{"last":3,"min":1.0,"max":3.0,"sum":4.0,"count":2,"avg":2.0,"p50":1.0,"p95":3.0,"p99":3.0}},"interval":"5s"}"#;
    peer.text(&point("01", 7.5)).await;
    peer.frame(2, &json_to_msgpack(document.as_bytes()).unwrap()).await;
    peer.frame(2, b"\xc1 no MessagePack").await;
    peer.text(r#"{"type":"dropped","channel":"system.metrics","count":3}"#).await;
    peer.text(r#"{"type":"stale","channel":"system.metrics","since":5}"#).await;
    let expected = ["point cpu.percent=7.5", "document cpu.percent~2", "dropped 3", "stale 5"];
    assert_eq!(told(&mut deliveries, 4).await, expected);
}

#[tokio::test]
async fn the_past_comes_first_and_is_not_asked_for_again_once_it_has_come() {
    let server = Server::start().await;
    let start = Start::Past(Duration::from_secs(900));
    let (_client, mut deliveries) = Client::start(metric_options(&server, start));
    let past = r#"{"channel":"system.metrics","history":"900s"}"#;
    let mut peer = greet(&server).await;
    assert!(peer.hello.contains(past), "{}", peer.hello);
    peer.text(&page(r#""has_more":true,"next_time":"2025-11-08T12:00:10Z""#)).await;
    assert_eq!(told(&mut deliveries, 1).await, ["past 1 true"]);
    drop(peer);
    let mut peer = greet(&server).await;
    assert!(peer.hello.contains(past), "it broke before the end: {}", peer.hello);
    peer.text(&page(r#""has_more":false"#)).await;
    peer.text(&point("11", 2.5)).await;
    assert_eq!(told(&mut deliveries, 3).await, ["lost", "past 1 false", "point cpu.percent=2.5"]);
    drop(peer);
    let peer = greet(&server).await;
    assert!(peer.hello.contains(r#""channels":["system.metrics"]"#), "{}", peer.hello);
}

#[tokio::test]
async fn a_question_about_the_past_is_asked_again_after_a_reconnect_and_may_be_refused() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(metric_options(&server, Start::Live));
    let question =
        Question { channel: CHANNEL.to_owned(), interval: Some(Interval::S5), ..Question::default() };
    let asking = tokio::spawn({
        let (client, question) = (client.clone(), question.clone());
        async move { client.history(question).await }
    });
    let mut peer = greet(&server).await;
    let asked = peer.read_text().await;
    let data = r#""data":{"channel":"system.metrics","aggregation_interval":"5s"}}"#;
    assert!(asked.starts_with(r#"{"type":"get_history","id":""#) && asked.ends_with(data), "{asked}");
    drop(peer);
    let mut peer = greet(&server).await;
    assert_eq!(peer.read_text().await, asked);
    let id: serde_json::Value = serde_json::from_str(&asked).unwrap();
    let answer = page(r#""has_more":false"#).replacen('{', &format!(r#"{{"id":{},"#, id["id"]), 1);
    peer.text(&answer).await;
    let Past::Series(series) = asking.await.unwrap().unwrap() else { panic!("no windows") };
    assert_eq!((series.resolution.as_str(), series.metrics.len(), series.next_ms), ("5s", 1, None));

    let asking = tokio::spawn(async move { client.history(question).await });
    let id: serde_json::Value = serde_json::from_str(&peer.read_text().await).unwrap();
    peer.text(&format!(
        r#"{{"type":"error","message":"no","code":"forbidden","retryable":false,"id":{}}}"#,
        id["id"]
    ))
    .await;
    let Err(HistoryError::Refused(error)) = asking.await.unwrap() else { panic!("not refused") };
    assert_eq!(error.code, "forbidden");
}
