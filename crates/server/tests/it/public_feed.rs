//! Feeds that speak as three public ones do, from the examples in their documentation (`feeds/`).
//!
//! Each keeps who subscribed to what, answers requests in its own words, and says trades only to those who asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::feed::Feed;

/// Whose words a feed speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Binance spot, combined streams: keys are names of streams, such as `bnbbtc@trade`.
    Binance,
    /// Coinbase Exchange, the channel `matches`: keys are products, such as `BTC-USD`.
    Coinbase,
    /// Kraken spot v2, the channel `trade`: keys are pairs, such as `MATIC/USD`.
    Kraken,
}

#[derive(Deserialize)]
struct Recorded {
    path: String,
    conversation: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    about: String,
    message: Box<RawValue>,
}

impl Dialect {
    fn recorded(self) -> Recorded {
        let text = match self {
            Self::Binance => include_str!("feeds/binance.json"),
            Self::Coinbase => include_str!("feeds/coinbase.json"),
            Self::Kraken => include_str!("feeds/kraken.json"),
        };
        serde_json::from_str(text).unwrap()
    }

    /// The recorded message about something, as it is written.
    pub(crate) fn message(self, about: &str) -> String {
        let conversation = self.recorded().conversation;
        let part = conversation.into_iter().find(|part| part.about == about);
        part.unwrap_or_else(|| panic!("nothing is recorded about `{about}`")).message.get().to_owned()
    }

    /// A trade: the recorded one, of another key, with another number and price.
    pub(crate) fn trade(self, key: &str, number: u64, price: &str) -> String {
        let number = number.to_string();
        match self {
            Self::Binance => {
                let symbol = key.split('@').next().unwrap_or(key).to_uppercase();
                let said = self.message("a trade");
                replaced(
                    said,
                    &[("bnbbtc@trade", key), ("BNBBTC", &symbol), ("12345", &number), ("0.001", price)],
                )
            }
            Self::Coinbase => {
                let numbered = format!("\"trade_id\":{number},");
                let said = self.message("a match");
                replaced(said, &[("BTC-USD", key), ("\"trade_id\":10,", &numbered), ("400.23", price)])
            }
            Self::Kraken => {
                let said = self.message("a trade");
                replaced(said, &[("MATIC/USD", key), ("4665848", &number), ("0.5117", price)])
            }
        }
    }

    /// What is answered to a request, and what `subscribed` is then.
    fn answer(self, request: &Value, subscribed: &mut BTreeSet<String>) -> Vec<String> {
        let (asks, keys) = match self {
            Self::Binance => (&request["method"], &request["params"]),
            Self::Coinbase => (&request["type"], &request["product_ids"]),
            Self::Kraken => (&request["method"], &request["params"]["symbol"]),
        };
        let keys: Vec<String> = serde_json::from_value(keys.clone()).unwrap_or_default();
        let asks = asks.as_str().unwrap_or_default().to_lowercase();
        match (&*asks, self) {
            ("subscribe", _) => subscribed.extend(keys.iter().cloned()),
            ("unsubscribe", _) => subscribed.retain(|key| !keys.contains(key)),
            ("ping", Self::Kraken) => {
                let said = self.message("and its answer");
                return vec![replaced(said, &[("101", &request["req_id"].to_string())])];
            }
            _ => {
                let about = "a request that it does not understand";
                return if self == Self::Kraken { Vec::new() } else { vec![self.message(about)] };
            }
        }
        match self {
            Self::Binance => vec![json!({ "result": null, "id": request["id"] }).to_string()],
            Self::Coinbase => {
                let channel = |name| json!({ "name": name, "product_ids": subscribed });
                vec![json!({ "type": "subscriptions", "channels": [channel("matches")] }).to_string()]
            }
            Self::Kraken if asks == "subscribe" => {
                let done = |key: &String| replaced(self.message("it was done"), &[("MATIC/USD", key)]);
                let last = |key: &String| replaced(self.message("the last trades"), &[("MATIC/USD", key)]);
                let snapshot = request["params"]["snapshot"] != json!(false);
                keys.iter().map(done).chain(keys.iter().filter(|_| snapshot).map(last)).collect()
            }
            Self::Kraken => Vec::new(),
        }
    }
}

/// A text with its parts replaced, each of which is there.
fn replaced(mut text: String, parts: &[(&str, &str)]) -> String {
    for (from, to) in parts {
        assert!(text.contains(from), "{text} has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// A feed that speaks as a public one.
pub(crate) struct PublicFeed {
    /// The feed, for everything else that it can do.
    pub(crate) feed: Feed,
    dialect: Dialect,
    subscribed: Arc<Mutex<BTreeMap<usize, BTreeSet<String>>>>,
}

impl PublicFeed {
    pub(crate) fn start(dialect: Dialect) -> Self {
        let subscribed: Arc<Mutex<BTreeMap<usize, BTreeSet<String>>>> = Arc::default();
        let shared = subscribed.clone();
        let feed = Feed::answering(move |number, message| {
            let request: Value = serde_json::from_slice(message).unwrap_or_default();
            dialect.answer(&request, shared.lock().unwrap().entry(number).or_default())
        });
        Self { feed, dialect, subscribed }
    }

    /// Where it is, with the path of the public one.
    pub(crate) fn url(&self) -> String {
        self.feed.url(&self.dialect.recorded().path)
    }

    /// Says a trade to everybody who asked for the key; returns to how many.
    pub(crate) fn trade(&self, key: &str, number: u64, price: &str) -> usize {
        let said = self.dialect.trade(key, number, price);
        let asked: Vec<usize> = {
            let all = self.subscribed.lock().unwrap();
            all.iter().filter(|(_, keys)| keys.contains(key)).map(|(number, _)| *number).collect()
        };
        let open = self.feed.connections();
        let there = asked.into_iter().filter(|number| open[number - 1].open);
        there.inspect(|number| self.feed.send_to(*number, &said)).count()
    }

    /// What the connection of this number asked for.
    pub(crate) fn asked(&self, number: usize) -> Vec<String> {
        self.subscribed.lock().unwrap().get(&number).into_iter().flatten().cloned().collect()
    }

    /// Waits until a connection has asked for exactly these keys, in order of their names.
    #[track_caller]
    pub(crate) fn wait_asked(&self, number: usize, keys: &[&str]) {
        // Each message that changes it is heard, so it is looked at after each.
        self.feed.wait(&format!("connection {number} asks for {keys:?}"), |_| {
            (self.asked(number) == keys).then_some(())
        });
    }
}
