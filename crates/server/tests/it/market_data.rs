//! `examples/market-data` and the declarations of `docs/upstreams.md`, run as they stand.
//!
//! Only the address is another, and waits are shorter. The example's own feed and page take Node:
//! `node examples/market-data/start.mjs --check`.

use std::collections::BTreeSet;

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::feed::Feed;
use crate::harness::{Server, Socket};
use crate::public_feed::{Dialect, PublicFeed};
use crate::support::World;

const EXAMPLE: &str = include_str!("../../../../examples/market-data/pulsewire.toml");
const GUIDE: &str = include_str!("../../../../docs/upstreams.md");

/// The guide's blocks of TOML.
fn blocks() -> Vec<&'static str> {
    let blocks = GUIDE.split("```toml\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("a block ends").0).collect()
}

/// The first declaration of the guide with this name.
fn recipe(name: &str) -> &'static str {
    let named = format!("name = \"{name}\"");
    blocks()
        .into_iter()
        .find(|block| block.contains(&named))
        .unwrap_or_else(|| panic!("no recipe for {name}"))
}

/// A declaration with another address, which may be on loopback, and waits that nobody notices.
fn moved(declaration: &str, url: &str) -> String {
    let lines = declaration.lines().map(|line| match line {
        line if line.starts_with("urls = ") => {
            format!("urls = [\"{url}\"]\nallow_private = true\nretry_min = \"10ms\"")
        }
        line if ["allow_private", "retry_max"].iter().any(|key| line.starts_with(key)) => String::new(),
        line => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Lines that are commented out, without what marks them.
fn uncommented(text: &str) -> String {
    let from = text.find("# [[upstream]]").expect("a declaration that is commented out");
    text[from..].lines().map(|line| line.trim_start_matches('#').trim_start()).collect::<Vec<_>>().join("\n")
}

fn subscribe(server: &Server, channels: &[&str]) -> Socket {
    let mut socket = server.welcomed_as("ada", Role::User);
    socket.say(&json!({ "type": "subscribe", "channels": channels }));
    assert_eq!(socket.json()["type"], "subscribed");
    socket
}

/// The next event of this type; of `upstream`, the next that tells of this state.
fn next(socket: &mut Socket, wanted: &str) -> Value {
    loop {
        let said = socket.json();
        let state = if said["event"] == "upstream" { &said["data"]["state"] } else { &said["event"] };
        if state == wanted {
            return said;
        }
    }
}

/// A feed that speaks as that of the example: it says that it was asked, and the test says the trades.
fn market() -> Feed {
    Feed::answering(|_, message| {
        let request: Value = serde_json::from_slice(message).expect("JSON");
        vec![json!({ "op": "subscribed", "id": request["id"], "symbols": request["symbols"] }).to_string()]
    })
}

fn trade(symbol: &str, n: u64, price: &str) -> String {
    format!(
        r#"{{"type":"trade","symbol":"{symbol}","n":{n},"price":"{price}","size":"0.1000","at":1732280000123}}"#
    )
}

#[test]
fn the_example_relays_prices_and_tells_what_becomes_of_the_feed() {
    let feed = market();
    let server = Server::start(&moved(EXAMPLE, &feed.url("/feed")));
    let mut socket = subscribe(&server, &["upstream:market:BTC-USD", "upstream:market:ETH-USD"]);
    let mut another = subscribe(&server, &["upstream:market:BTC-USD"]);
    let asked = |number: usize| {
        feed.wait("both symbols are asked for", |all| {
            let messages = all.get(number - 1)?.json();
            let symbols = messages.iter().filter(|message| message["op"] == "subscribe");
            let symbols: BTreeSet<String> = symbols
                .flat_map(|it| it["symbols"].as_array().cloned().unwrap_or_default())
                .map(|it| it.to_string())
                .collect();
            (symbols.len() == 2).then_some(())
        });
    };
    asked(1);
    feed.send(&trade("BTC-USD", 7, "64213.50"));
    let event = next(&mut socket, "trade");
    assert_eq!(
        (&event["channel"], &event["timestamp"]),
        (&json!("upstream:market:BTC-USD"), &json!(1_732_280_000_123_i64))
    );
    assert_eq!(event["data"]["price"], "64213.50");
    assert_eq!(next(&mut another, "trade")["data"], event["data"]);
    feed.send(&trade("DOGE-USD", 1, "0.10"));
    feed.send(&trade("ETH-USD", 3, "3100.00"));
    assert_eq!(next(&mut socket, "trade")["channel"], "upstream:market:ETH-USD");
    feed.send(&trade("BTC-USD", 13, "64000.00"));
    let gap = next(&mut socket, "gap");
    assert_eq!(
        (&gap["data"]["from"], &gap["data"]["to"], &gap["data"]["missing"]),
        (&json!(8), &json!(12), &json!(5))
    );
    assert_eq!(next(&mut socket, "trade")["data"]["n"], 13);
    assert_eq!(feed.accepted(), 1, "one connection for both pages");

    feed.cut(1);
    assert_eq!(next(&mut socket, "down")["data"]["kind"], "closed");
    next(&mut socket, "live");
    asked(2);
    feed.send_to(2, &trade("BTC-USD", 14, "64100.00"));
    assert_eq!(next(&mut socket, "trade")["data"]["n"], 14, "it goes on where it was");
}

#[test]
fn every_declaration_of_the_guide_and_of_the_example_is_valid() {
    let whole: Vec<_> = blocks().into_iter().filter(|block| block.starts_with("[[upstream]]")).collect();
    assert_eq!(whole.len(), 6, "{whole:#?}");
    for text in whole.into_iter().map(str::to_owned).chain([EXAMPLE.to_owned(), uncommented(EXAMPLE)]) {
        // The candidate's table needs the stable one that it differs from.
        let stable = if text.contains("track = \"canary\"") { recipe("ticker") } else { "" };
        assert_eq!(World::new().toml(&format!("{stable}\n{text}")).problems(), [""; 0], "{text}");
    }
    assert_eq!(World::new().toml(&uncommented(EXAMPLE)).settings().upstreams.len(), 1);
}

#[test]
fn the_guide_s_recipes_relay_public_feeds() {
    for (dialect, name, keys, price) in [
        (Dialect::Binance, "binance", ["bnbbtc@trade", "btcusdt@trade"], "/data/p"),
        (Dialect::Coinbase, "coinbase", ["BTC-USD", "ETH-USD"], "/data/price"),
        (Dialect::Kraken, "kraken", ["ETH/USD", "MATIC/USD"], "/data/price"),
    ] {
        let public = PublicFeed::start(dialect);
        let server = Server::start(&moved(recipe(name), &public.url()));
        let channels = keys.map(|key| format!("upstream:{name}:{key}"));
        let mut socket = subscribe(&server, &[&channels[0], &channels[1]]);
        public.wait_asked(1, &keys);
        let written = |event: &Value| event.pointer(price).expect("a price").to_string();
        for (number, text) in [(5_000_001, "9.50"), (5_000_002, "9.25")] {
            assert_eq!(public.trade(keys[1], number, text), 1, "{name}");
            let event = next(&mut socket, if name == "coinbase" { "match" } else { "trade" });
            assert_eq!(event["channel"], channels[1].as_str());
            // Kraken's are numbers, the others' texts.
            assert_eq!(written(&event).trim_matches('"').trim_end_matches('0'), text.trim_end_matches('0'));
        }
        public.trade(keys[1], 5_000_004, "9.00");
        let gap = next(&mut socket, "gap");
        assert_eq!((&gap["channel"], &gap["data"]["missing"]), (&json!(channels[1]), &json!(1)), "{name}");

        public.feed.cut(1);
        next(&mut socket, "live");
        public.wait_asked(2, &keys);
        public.trade(keys[0], 7_000_000, "1.00");
        let event = next(&mut socket, if name == "coinbase" { "match" } else { "trade" });
        // What came before the cut is still told of first.
        let event = if event["channel"] == channels[0].as_str() {
            event
        } else {
            next(&mut socket, event["event"].as_str().expect("a type"))
        };
        assert_eq!(event["channel"], channels[0].as_str(), "{name}");
        drop(socket);
    }
}

#[test]
fn a_key_in_the_url_has_a_connection_of_its_own_and_needs_no_route() {
    let feed = Feed::start();
    let declaration = format!(
        "[[upstream]]\nname = \"apart\"\nurls = [\"{}\"]\nallow_private = true\nchannel = \"upstream:apart:{{key}}\"\n\
         type = \"of.{{key}}\"\nsequence = \"/n\"",
        feed.url("/ws/{key}")
    );
    let server = Server::start(&declaration);
    let mut socket = subscribe(&server, &["upstream:apart:BTC", "upstream:apart:ETH/USD"]);
    feed.wait_open(2);
    let paths: BTreeSet<String> = feed.connections().into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["/ws/BTC", "/ws/ETH%2FUSD"].map(str::to_owned).into());
    let btc = 1 + feed.connections().iter().position(|one| one.path == "/ws/BTC").expect("it is open");
    feed.send_to(btc, r#"{"n":1,"s":"ETH/USD"}"#);
    let event = next(&mut socket, "of.BTC");
    assert_eq!((&event["channel"], &event["data"]["n"]), (&json!("upstream:apart:BTC"), &json!(1)));
    feed.send_to(btc, r#"{"n":3}"#);
    assert_eq!(next(&mut socket, "gap")["channel"], "upstream:apart:BTC");
}
