//! Messages of public feeds and of hostile ones, read with the declarations that a user would write.
//!
//! The recorded messages are the ones that the server's tests speak; see the README beside them.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::upstream::ChannelTemplate;

/// What a feed says and hears.
#[derive(Deserialize)]
struct Feed<'f> {
    #[serde(borrow)]
    conversation: Vec<Said<'f>>,
}

#[derive(Deserialize)]
struct Said<'f> {
    from: &'f str,
    #[serde(borrow)]
    message: &'f RawValue,
}

const BINANCE: &str = include_str!("../../../../server/tests/it/feeds/binance.json");
const COINBASE: &str = include_str!("../../../../server/tests/it/feeds/coinbase.json");
const KRAKEN: &str = include_str!("../../../../server/tests/it/feeds/kraken.json");

/// What the feed of a file says, as bytes.
fn said(file: &'static str) -> Vec<&'static str> {
    let feed: Feed<'_> = serde_json::from_str(file).unwrap();
    feed.conversation.iter().filter(|said| said.from == "feed").map(|said| said.message.get()).collect()
}

/// An upstream of this channel whose messages mean this: lines of `key = value` as in the settings.
fn declared(channel: &str, lines: &str) -> Upstream {
    let url = Template::parse("wss://feed.example/").unwrap();
    let mut upstream = Upstream::new("feed", vec![url], ChannelTemplate::parse(channel).unwrap());
    let mapping = &mut upstream.mapping;
    let pointer = |text: &str| Some(Pointer::parse(text).unwrap());
    let template = |text: &str| Some(Template::parse(text).unwrap());
    for (name, value) in lines.lines().filter_map(|line| line.trim_start().split_once(" = ")) {
        match name {
            "codec" => {
                mapping.codec = match value {
                    "json" => Codec::Json,
                    "text" => Codec::Text,
                    "msgpack" => Codec::MessagePack,
                    _ => panic!("{value}"),
                }
            }
            "each" => mapping.each = pointer(value),
            "route" => mapping.route = template(value),
            "data" => mapping.data = pointer(value),
            "type" => mapping.event_type = template(value),
            "key" => mapping.event_key = template(value),
            "id" => mapping.id = template(value),
            "time" => mapping.time = pointer(value),
            "sequence" => mapping.sequence = pointer(value),
            "sequence_first" => mapping.sequence_first = pointer(value),
            only => mapping.only.push((pointer(only).unwrap(), value.into())),
        }
    }
    upstream.check().unwrap();
    upstream
}

fn binance() -> Upstream {
    declared(
        "binance:{key}",
        "route = {/stream}\ndata = /data\ntype = {/data/e}\ntime = /data/E\nsequence = /data/t\n/data/e = trade",
    )
}

fn binance_depth() -> Upstream {
    declared(
        "binance:{key}",
        "route = {/stream}\ndata = /data\ntype = {/data/e}\nid = {/stream}/{/data/u}\ntime = /data/E\n\
         sequence = /data/u\nsequence_first = /data/U\n/data/e = depthUpdate",
    )
}

fn coinbase() -> Upstream {
    declared(
        "coinbase:{key}",
        "/type = match\nroute = {/product_id}\ntype = {/type}\nkey = {/product_id}\ntime = /time\nsequence = /trade_id",
    )
}

fn kraken() -> Upstream {
    declared(
        "kraken:{key}",
        "each = /data\nroute = {/symbol}\ntype = trade\ntime = /timestamp\nsequence = /trade_id",
    )
}

/// What becomes of a message, in words: one line for each event or reason.
fn read(upstream: &Upstream, message: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    upstream.mapping.read(upstream, message, &mut |result| {
        lines.push(match result {
            Ok(Mapped { key, sequence, event }) => {
                assert_eq!(Some(&event.channel), upstream.channel.name(&key).as_ref());
                let mut line = format!("{key}: {} {}", event.event_type, event.data.get());
                if let Some((first, last)) = sequence {
                    line += &format!(" #{first}-{last}");
                }
                if let Some(ms) = event.timestamp_ms {
                    line += &format!(" @{ms}");
                }
                for (name, value) in
                    [("key", event.key.as_deref()), ("id", event.id.as_ref().map(MessageId::as_str))]
                {
                    line += &value.map(|value| format!(" {name}={value}")).unwrap_or_default();
                }
                line
            }
            Err(reason) => format!("{reason:?}"),
        });
    });
    lines
}

/// What a feed says, each message with what became of it.
fn all(upstream: &Upstream, file: &'static str) -> Vec<String> {
    said(file).iter().flat_map(|message| read(upstream, message.as_bytes())).collect()
}

#[track_caller]
fn check(upstream: &Upstream, message: impl AsRef<[u8]>, expected: &[&str]) {
    let lines = read(upstream, message.as_ref());
    assert_eq!(
        lines,
        expected,
        "{}",
        String::from_utf8_lossy(&message.as_ref()[..message.as_ref().len().min(300)])
    );
}

#[test]
fn binance_s_combined_streams_are_read() {
    assert_eq!(
        all(&binance(), BINANCE),
        [
            "PassedOver",
            r#"bnbbtc@trade: trade {"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true} #12345-12345 @1672515782136"#,
            "PassedOver",
            "PassedOver",
            "PassedOver",
        ]
    );
    let lines = all(&binance_depth(), BINANCE);
    assert_eq!(
        lines[2],
        r#"bnbbtc@depth: depthUpdate {"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],"a":[["0.0026","100"]]} #157-160 @1672515782136 id=bnbbtc@depth/160"#
    );
    assert_eq!(lines.iter().filter(|line| *line == "PassedOver").count(), 4);
}

#[test]
fn coinbase_s_matches_are_read() {
    let lines = all(&coinbase(), COINBASE);
    assert_eq!(
        lines[2],
        r#"BTC-USD: match {"type":"match","trade_id":10,"sequence":50,"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","taker_order_id":"132fb6ae-456b-4654-b4e0-d681ac05cea1","time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"} #10-10 @1415348367028 key=BTC-USD"#
    );
    let others: Vec<&String> = lines.iter().filter(|line| *line != &lines[2]).collect();
    assert_eq!(others, ["PassedOver"; 4]);
}

#[test]
fn kraken_s_arrays_of_trades_are_read_one_by_one() {
    assert_eq!(
        all(&kraken(), KRAKEN),
        [
            "PassedOver",
            "PassedOver",
            r#"MATIC/USD: trade {"symbol":"MATIC/USD","side":"buy","price":0.5147,"qty":6423.46326,"ord_type":"limit","trade_id":4665846,"timestamp":"2023-09-25T07:48:36.925533Z"} #4665846-4665846 @1695628116925"#,
            r#"MATIC/USD: trade {"symbol":"MATIC/USD","side":"buy","price":0.5147,"qty":1136.19677815,"ord_type":"limit","trade_id":4665847,"timestamp":"2023-09-25T07:49:36.925603Z"} #4665847-4665847 @1695628176925"#,
            r#"MATIC/USD: trade {"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665848,"timestamp":"2023-09-25T07:49:37.708706Z"} #4665848-4665848 @1695628177708"#,
            "PassedOver",
            "PassedOver",
        ]
    );
}

#[test]
fn another_feed_s_messages_are_passed_over_or_refused_and_never_events() {
    for (upstream, files) in
        [(binance(), [COINBASE, KRAKEN]), (coinbase(), [BINANCE, KRAKEN]), (kraken(), [BINANCE, COINBASE])]
    {
        for file in files {
            assert!(
                all(&upstream, file).iter().all(|line| line == "PassedOver"),
                "{:?}",
                all(&upstream, file)
            );
        }
    }
}

#[test]
fn a_payload_is_handed_on_as_it_was_written() {
    let whole = declared("news", "");
    for json in [
        r#"{"p":0.10000000,"q":1e400,"r":-0.0,"s":123456789012345678901234567890,"t":1E+2}"#,
        r#"{"b":1,"a":2,"b":3}"#,
        "[ 1,\n\t2 ]",
        r#""\u00e9\/\ud83d\ude00""#,
        r#""\ud800 stands alone""#,
        "1e999999999",
        "-0",
        "null",
        "{}",
    ] {
        check(&whole, json, &[&format!(": message {json}")]);
    }
    check(&whole, " \n {\"a\" : 1} \r\n", &[": message {\"a\" : 1}"]);
    let part = declared("news", "data = /a/1/b~1c\nkey = {/a/0}");
    check(
        &part,
        r#"{"x":1e400,"a":[0.10,{"b/c":{"n":1e400,"m":1.50}}]}"#,
        &[r#": message {"n":1e400,"m":1.50} key=0.10"#],
    );
}

#[test]
fn numbers_that_no_type_holds_do_no_harm_beside_the_parts_that_are_read() {
    let upstream = declared("{key}", "route = {/s}\nsequence = /n\ntime = /t");
    check(
        &upstream,
        r#"{"s":"a","n":7,"t":1.5,"huge":1e400}"#,
        &[r#"a: message {"s":"a","n":7,"t":1.5,"huge":1e400} #7-7 @1500"#],
    );
    for (n, t, reason) in [
        ("1e400", "1", "sequence"),
        ("-1", "1", "sequence"),
        ("1.5", "1", "sequence"),
        ("18446744073709551616", "1", "sequence"),
        ("null", "1", "sequence"),
        ("[1]", "1", "sequence"),
        ("\"x\"", "1", "sequence"),
        ("1", "1e400", "time"),
        ("1", "1e30", "time"),
        ("1", "-1e30", "time"),
        ("1", "\"nan\"", "time"),
        ("1", "\"inf\"", "time"),
        ("1", "\"yesterday\"", "time"),
        ("1", "true", "time"),
        ("1", "{}", "time"),
    ] {
        check(&upstream, format!(r#"{{"s":"a","n":{n},"t":{t}}}"#), &[&format!("Unusable({reason:?})")]);
    }
    check(
        &upstream,
        r#"{"s":"a","n":"18446744073709551615","t":"1"}"#,
        &[
            r#"a: message {"s":"a","n":"18446744073709551615","t":"1"} #18446744073709551615-18446744073709551615 @1000"#,
        ],
    );
}

#[test]
fn moments_are_read_in_every_unit() {
    let upstream = declared("news", "time = ");
    for (written, ms) in [
        ("1695628116", 1_695_628_116_000_i64),
        ("1695628116.925533", 1_695_628_116_925),
        ("1695628116925", 1_695_628_116_925),
        ("1695628116925533", 1_695_628_116_925),
        ("1695628116925533000", 1_695_628_116_925),
        ("\"1534614057.321597\"", 1_534_614_057_321),
        ("\"2023-09-25T07:48:36.925533Z\"", 1_695_628_116_925),
        ("\"2023-09-25T09:48:36+02:00\"", 1_695_628_116_000),
        ("0", 0),
        ("-1", -1_000),
    ] {
        check(&upstream, written, &[&format!(": message {written} @{ms}")]);
    }
}

#[test]
fn text_becomes_a_json_string_and_msgpack_becomes_json() {
    let text = declared("news", "codec = text\ntype = line");
    check(&text, "say \"hi\"\n{", &[r#": line "say \"hi\"\n{""#]);
    check(&text, "", &[r#": line """#]);
    check(&text, b"\xff\xfe", &["Malformed"]);
    let packed = declared("tick:{key}", "codec = msgpack\nroute = {/s}\nsequence = /n");
    // {"s": "BTC", "n": 7, "p": 0.5, "b": nil}
    let message = b"\x84\xa1s\xa3BTC\xa1n\x07\xa1p\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00\xa1b\xc0";
    check(&packed, message, &[r#"BTC: message {"s":"BTC","n":7,"p":0.5,"b":null} #7-7"#]);
    for length in 0..message.len() {
        check(&packed, &message[..length], &["Malformed"]);
    }
    // Lengths of 4 GiB that are not there, a byte that is no type, more than one value.
    for bytes in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffx",
        b"\xc1",
        b"\x01\x02",
    ] {
        check(&packed, bytes, &["Malformed"]);
    }
    // JSON's codec does not read MessagePack.
    check(&declared("news", ""), message, &["Malformed"]);
}

#[test]
fn only_what_stands_where_it_has_to_is_a_message() {
    let upstream = declared("news", "/t = trade\n/live = true\n/v = 1.0\n/x = null");
    let good = r#"{"t":"trade","live":true,"v":1.0,"x":null}"#;
    check(&upstream, good, &[&format!(": message {good}")]);
    check(
        &upstream,
        good.replace("trade", r"tr\u0061de"),
        &[&format!(": message {}", good.replace("trade", r"tr\u0061de"))],
    );
    for (from, to) in [
        ("trade", "trades"),
        ("true", "false"),
        ("1.0", "2.0"),
        ("\"x\":null", "\"y\":null"),
        ("\"trade\"", "[\"trade\"]"),
    ] {
        check(&upstream, good.replace(from, to), &["PassedOver"]);
    }
}

#[test]
fn elements_are_read_each_for_itself_and_too_many_are_refused() {
    let upstream = declared("tick:{key}", "each = /d\nroute = {/s}\nsequence = /n");
    let message = r#"{"d":[{"s":"A","n":1},{"s":"B"},{"n":3},7,{"s":"a b","n":4},{"s":"C","n":5}]}"#;
    check(
        &upstream,
        message,
        &[
            r#"A: message {"s":"A","n":1} #1-1"#,
            "Unusable(\"sequence\")",
            "PassedOver",
            "PassedOver",
            "Unusable(\"route\")",
            r#"C: message {"s":"C","n":5} #5-5"#,
        ],
    );
    check(&upstream, r#"{"d":[]}"#, &[]);
    for other in [r#"{"d":{}}"#, r#"{"d":1}"#, r#"{"e":[]}"#, "[]", "7", r#""d""#] {
        check(&upstream, other, &["PassedOver"]);
    }
    check(&upstream, r#"{"d":[{"s":"A","n":1},]}"#, &["Malformed"]);
    let many = |count: usize| format!(r#"{{"d":[{}]}}"#, vec![r#"{"s":"A","n":1}"#; count].join(","));
    assert_eq!(read(&upstream, many(1_000).as_bytes()).len(), 1_000);
    check(&upstream, many(1_001), &["Unusable(\"each\")"]);
    let whole = declared("news", "each = ");
    check(&whole, "[1,[2]]", &[": message 1", ": message [2]"]);
}

#[test]
fn a_key_leads_to_its_own_channel_or_to_none() {
    let upstream = declared("{key}", "route = {/a}.{/b}");
    check(&upstream, r#"{"a":"run:7","b":2}"#, &[r#"run:7.2: message {"a":"run:7","b":2}"#]);
    for (a, b) in [
        ("a b", "1"),
        ("$sys", "nodes"),
        ("", ":"),
        ("é", "1"),
        ("a\\n", "1"),
        ("a*", "1"),
        ("x", &"y".repeat(300)),
    ] {
        check(&upstream, format!(r#"{{"a":"{a}","b":"{b}"}}"#), &["Unusable(\"route\")"]);
    }
    // One channel, whatever a message names.
    let fixed = declared("news", "route = {/a}");
    check(&fixed, r#"{"a":"$sys.nodes"}"#, &[r#": message {"a":"$sys.nodes"}"#]);
}

#[test]
fn a_stream_of_one_key_reads_everything_for_it() {
    let mut upstream = declared("tick:{key}", "route = {/s}\ntype = t.{key}");
    upstream.urls = vec![Template::parse("wss://feed.example/{key}").unwrap()];
    for route in [upstream.mapping.route.clone(), None] {
        upstream.mapping.route = route;
        upstream.check().unwrap();
        let mut seen = Vec::new();
        upstream
            .mapping
            .read_for(&upstream, "BTC", br#"{"s":"ETH"}"#, &mut |result| seen.push(result.unwrap()));
        let [Mapped { key, event, .. }] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((&**key, event.channel.as_str(), event.event_type.as_str()), ("BTC", "tick:BTC", "t.BTC"));
    }
    check(&upstream, r#"{"s":"ETH"}"#, &["Unusable(\"route\")"]);
}

#[test]
fn a_message_cannot_say_how_its_upstream_is() {
    let upstream = declared("news", "type = {/t}");
    check(&upstream, r#"{"t":"upstream"}"#, &["Unusable(\"type\")"]);
    check(&upstream, r#"{"t":"upstreams"}"#, &[r#": upstreams {"t":"upstreams"}"#]);
    for wrong in [r#""""#, r#""a b""#, "null", "[]", r#""\ud800""#, &format!("{:?}", "x".repeat(65))] {
        check(&upstream, format!(r#"{{"t":{wrong}}}"#), &["Unusable(\"type\")"]);
    }
    check(&declared("news", "type = upstream"), "1", &["Unusable(\"type\")"]);
}

#[test]
fn ids_and_keys_are_held_to_their_grammar() {
    let upstream = declared("news", "id = {/i}\nkey = {/k}");
    check(&upstream, r#"{"i":"a b","k":"é"}"#, &[r#": message {"i":"a b","k":"é"} key=é id=a b"#]);
    for (i, k, reason) in [
        ("", "k", "id"),
        ("é", "k", "id"),
        (&"i".repeat(65), "k", "id"),
        ("i", "", "key"),
        ("i", &"k".repeat(129), "key"),
    ] {
        check(&upstream, format!(r#"{{"i":"{i}","k":"{k}"}}"#), &[&format!("Unusable({reason:?})")]);
    }
}

#[test]
fn pointers_that_lead_nowhere_find_nothing() {
    for bad in ["a", "a/b", "#/a", "{/a}"] {
        assert!(Pointer::parse(bad).is_err(), "{bad}");
    }
    for nowhere in
        ["/b", "/a/x", "/a/01", "/a/-1", "/a/+1", "/a/99", "/a/18446744073709551616", "/a/0/0", "/", "/a/"]
    {
        check(&declared("news", &format!("data = {nowhere}")), r#"{"a":[1,2]}"#, &["Unusable(\"data\")"]);
    }
    // The last of members with the same name counts, as for most readers.
    check(&declared("news", "data = /a"), r#"{"a":1,"a":2}"#, &[": message 2"]);
}

#[test]
fn nesting_is_bounded_before_anything_follows_it() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let upstream = declared("news", "");
    assert_eq!(read(&upstream, nested(32).as_bytes()).len(), 1);
    assert!(read(&upstream, nested(32).as_bytes())[0].starts_with(": message"));
    let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    for deep in [
        nested(33),
        objects(33),
        nested(100_000),
        objects(100_000),
        "[".repeat(100_000),
        r#"{"a":"#.repeat(200_000),
    ] {
        check(&upstream, &deep, &["Malformed"]);
        check(&kraken(), &deep, &["Malformed"]);
    }
    let mut packed = vec![0x91; 100_000];
    packed.push(1);
    check(&declared("news", "codec = msgpack"), &packed, &["Malformed"]);
    // Brackets inside a text are no nesting.
    let text = format!("{:?}", "[".repeat(100_000));
    check(&upstream, &text, &[&format!(": message {text}")]);
}

/// A long row of numbers that look random and are always the same (xorshift).
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

#[test]
fn a_mebibyte_of_garbage_is_malformed() {
    let bytes = garbage(1 << 20);
    let printable: Vec<u8> = bytes.iter().map(|byte| b' ' + byte % 95).collect();
    let cut: Vec<u8> =
        br#"{"s":""#.iter().copied().chain(printable.iter().copied().filter(|byte| *byte != b'"')).collect();
    for garbage in
        [&bytes[..], &printable[..], &cut[..], &vec![0; 1 << 20][..], &vec![b'"'; (1 << 20) - 1][..]]
    {
        for upstream in [binance(), coinbase(), kraken(), declared("news", "")] {
            check(&upstream, garbage, &["Malformed"]);
        }
    }
    check(&declared("news", "codec = msgpack"), &bytes, &["Malformed"]);
    check(&declared("news", "codec = text"), &bytes, &["Malformed"]);
}

/// Declarations of every kind.
fn declarations() -> Vec<Upstream> {
    let mut all = vec![binance(), binance_depth(), coinbase(), kraken()];
    for codec in ["json", "text", "msgpack"] {
        all.push(declared("news", &format!("codec = {codec}")));
        all.push(declared("open.{key}", &format!("codec = {codec}\nroute = {{/s}}")));
        all.push(declared(
            "{key}",
            &format!("codec = {codec}\neach = \nroute = {{/a}}\nkey = {{/b}}\ntime = /t\nsequence = /n"),
        ));
        all.push(declared(
            "{key}:x",
            &format!("codec = {codec}\nroute = {{/a/0}}\ndata = /b\ntype = {{/t}}\nid = {{/i}}"),
        ));
    }
    all
}

/// Reads with every declaration; what is an event is for a channel of its upstream that is not the server's own, and can
/// be read again.
fn holds(message: &[u8]) {
    for upstream in declarations() {
        upstream.mapping.read(&upstream, message, &mut |result| {
            let Ok(mapped) = result else { return };
            let name = mapped.event.channel.as_str();
            assert!(!name.starts_with('$') && upstream.channel.key_of(name).is_some(), "{name}");
            if upstream.channel.has_key() {
                assert_eq!(upstream.channel.key_of(name), Some(&*mapped.key));
            }
            assert_ne!(mapped.event.event_type.as_str(), STATUS_TYPE);
            let data = mapped.event.data.get();
            assert!(is_shallow(data.as_bytes()) && serde_json::from_str::<&RawValue>(data).is_ok(), "{data}");
            assert!(mapped.sequence.is_none_or(|(first, last)| first <= last));
        });
    }
}

/// JSON with the names that declarations look for.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<f64>().prop_filter("JSON has no others", |it| it.is_finite()).prop_map(|it| format!("{it:e}")),
        "[a-z$@ :.{}\\PC]{0,12}".prop_map(|it| Value::from(it).to_string()),
        Just(r#""trade""#.to_owned()),
        Just(r#""upstream""#.to_owned()),
        Just(r#""$sys.nodes""#.to_owned()),
        Just(r#""\ud800""#.to_owned()),
    ];
    let name = prop::sample::select(
        &[
            "a",
            "b",
            "t",
            "n",
            "i",
            "e",
            "E",
            "u",
            "U",
            "s",
            "symbol",
            "stream",
            "data",
            "type",
            "product_id",
            "trade_id",
            "time",
        ][..],
    );
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|it| format!("[{}]", it.join(","))),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|it| {
                let members: Vec<String> =
                    it.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_of_the_upstream_s_own_channels_or_none(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        holds(&bytes);
    }

    #[test]
    fn any_json_is_an_event_of_the_upstream_s_own_channels_or_none(json in json()) {
        holds(json.as_bytes());
        let mut packed = Vec::new();
        if let Ok(bytes) = transcode::json_to_msgpack(json.as_bytes()) {
            packed.extend_from_slice(&bytes);
        }
        holds(&packed);
    }

    #[test]
    fn recorded_messages_with_bytes_changed_are_read_or_refused(file in 0..3_usize, which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let messages = said([BINANCE, COINBASE, KRAKEN][file]);
        let mut bytes = messages[which.index(messages.len())].as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        holds(&bytes);
    }
}
