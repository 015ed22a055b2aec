//! Reading from a Redis that is a few lines of its protocol, and deciding about messages.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that says what a test tells it to.
struct Fake {
    listener: TcpListener,
}

impl Fake {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn options(&self) -> RedisOptions {
        let url = format!("redis://:geheim@{}", self.listener.local_addr().unwrap());
        RedisOptions { url, patterns: vec!["*.metrics".to_owned(), "numbers:*".to_owned()], lease: None }
    }

    /// Takes a connection and answers its commands until it has subscribed. Returns what it asked for.
    fn subscribed(&self) -> (TcpStream, String) {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut input = BufReader::new(stream.try_clone().unwrap());
        let mut asked = Vec::new();
        loop {
            let words = command(&mut input);
            asked.push(words.join(" "));
            if words[0] != "PSUBSCRIBE" {
                stream.write_all(b"+OK\r\n").unwrap();
                continue;
            }
            for (at, pattern) in words[1..].iter().enumerate() {
                let length = pattern.len();
                let answer = format!("*3\r\n$10\r\npsubscribe\r\n${length}\r\n{pattern}\r\n:{}\r\n", at + 1);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            return (stream, asked.join("\n"));
        }
    }
}

/// A command: an array of bulk strings.
fn command(input: &mut impl BufRead) -> Vec<String> {
    let mut line = || {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let count: usize = line()[1..].parse().unwrap();
    (0..count)
        .map(|_| {
            line();
            line()
        })
        .collect()
}

fn message(channel: &str, payload: &str) -> String {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    format!("*4\r\n{}{}{}{}", bulk("pmessage"), bulk("*.metrics"), bulk(channel), bulk(payload))
}

/// Runs a reader beside a test, which is told what happens as text. What the test returns, such as a connection, is
/// there until the reader knows that it is to stop: else it would come back.
fn reading<T>(fake: &Fake, test: impl FnOnce(&mpsc::Receiver<String>) -> T) {
    let reader = RedisReader::new(&fake.options()).unwrap();
    let (stopping, (tell, told)) = (AtomicBool::new(false), mpsc::channel());
    /// Stops the reader also when the test fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let stop = Stop(&stopping);
        scope.spawn(|| {
            let tell = tell;
            reader.run(
                &stopping,
                || 0,
                |happening| {
                    let text = match happening {
                        Happening::Connected => "connected".to_owned(),
                        Happening::Message { channel, payload, .. } => {
                            format!("{channel} {}", String::from_utf8_lossy(payload))
                        }
                        Happening::Idle => "idle".to_owned(),
                        Happening::Takes(takes) => format!("takes {takes}"),
                        Happening::Lost { pause, .. } => format!("lost {pause:?}"),
                    };
                    // Whoever tests may have seen enough.
                    let _ = tell.send(text);
                },
            );
        });
        let until_stopped = test(&told);
        drop(stop);
        drop(until_stopped);
    });
}

/// What happens next, but for nothing.
fn next(told: &mpsc::Receiver<String>) -> String {
    loop {
        let what = told.recv_timeout(PATIENCE).unwrap();
        if what != "idle" {
            return what;
        }
    }
}

#[test]
fn messages_of_the_patterns_are_read_and_a_lost_connection_comes_back() {
    let fake = Fake::new();
    reading(&fake, |told| {
        let (mut stream, asked) = fake.subscribed();
        assert!(asked.contains("geheim") && asked.ends_with("PSUBSCRIBE *.metrics numbers:*"), "{asked}");
        assert_eq!(next(told), "connected");
        stream.write_all(message("system.metrics", "one").as_bytes()).unwrap();
        stream.write_all(message("a.metrics", "two").as_bytes()).unwrap();
        assert_eq!((next(told), next(told)), ("system.metrics one".into(), "a.metrics two".into()));
        drop(stream);
        assert_eq!(next(told), "lost 200ms");
        let (mut stream, _) = fake.subscribed();
        assert_eq!(next(told), "connected");
        stream.write_all(b"what is this\r\n").unwrap();
        assert_eq!(next(told), "lost 400ms", "what is no Redis is left, too");
        drop(fake.subscribed());
        assert_eq!((next(told), next(told)), ("connected".into(), "lost 800ms".into()));
    });
}

/// A reader looks up twice a second whether it is to stop; a message that is half here then is not lost.
#[test]
fn a_message_that_takes_its_time_is_read_whole() {
    let fake = Fake::new();
    reading(&fake, |told| {
        let (mut stream, _) = fake.subscribed();
        assert_eq!(next(told), "connected");
        let slow = message("system.metrics", "slowly");
        let (first, second) = slow.as_bytes().split_at(slow.len() / 2);
        stream.write_all(first).unwrap();
        // The first may have been before it came.
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "idle");
        }
        stream.write_all(second).unwrap();
        assert_eq!(next(told), "system.metrics slowly");
        stream
    });
}

#[test]
fn an_address_is_checked_and_never_repeated() {
    let of = |url: &str| {
        RedisReader::new(&RedisOptions { url: url.to_owned(), patterns: Vec::new(), lease: None })
    };
    for right in ["redis://localhost", "rediss://u:geheim@host:6380/1", "unix:///run/redis.sock"] {
        let shown = format!("{:?}", of(right).unwrap());
        assert!(!shown.contains("geheim"), "{shown}");
    }
    for wrong in ["", "localhost", "http://u:geheim@host", "redis://u:geheim@host:port"] {
        let error = of(wrong).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{wrong}");
    }
}

#[test]
fn pauses_double_up_to_ten_seconds_and_begin_anew_after_a_good_connection() {
    let pauses = |chance: u64, held: u64| {
        let mut backoff = Backoff::default();
        let ms: Vec<_> =
            (0..9).map(|_| backoff.pause(Duration::from_millis(held), chance).as_millis()).collect();
        ms
    };
    assert_eq!(pauses(0, 0), [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
    assert_eq!(pauses(0, 9_999)[8], 10_000);
    assert_eq!(pauses(0, 10_000), [200; 9]);
    let chance = AtomicU64::new(0);
    for _ in 0..1_000 {
        let chance = chance.fetch_add(997, Ordering::Relaxed);
        assert!((5_000..=10_000).contains(&pauses(chance, 0)[8]));
    }
    assert_eq!(pauses(100, 0)[0], 100, "half is the least");
}

#[test]
fn a_message_is_samples_of_the_channel_of_its_name_or_refused() {
    let read = |channel: &str, payload: &str| {
        let is_metric = |channel: &ChannelName| channel.as_str().ends_with(".metrics");
        match read_message(channel, payload.as_bytes(), is_metric) {
            Err((reason, _)) => format!("all {reason}"),
            Ok(message) => {
                let samples =
                    message.samples.iter().map(|sample| format!("{}={}", sample.name, sample.value.as_f64()));
                let refused = message.refused.iter().map(|(reason, _)| format!("not {reason}"));
                samples.chain(refused).collect::<Vec<_>>().join(" ")
            }
        }
    };
    let point = r#"{"channel":"system.metrics","name":"cpu.percent","type":"gauge","value":75.5,"tags":{"host":"a"}}"#;
    assert_eq!(read("system.metrics", point), "cpu.percent=75.5");
    let grouped =
        r#"{"timestamp":"2025-11-08T12:00:00Z","cpu":{"percent":45.2,"count":8},"success_rate":95.0}"#;
    assert_eq!(read("system.metrics", grouped), "cpu.percent=45.2 cpu.count=8 success_rate=95");
    assert_eq!(
        read("system.metrics", &format!("[{point},{grouped},1]")),
        "cpu.percent=75.5 cpu.percent=45.2 cpu.count=8 success_rate=95 not malformed"
    );
    assert_eq!(read("agent.metrics", point), "not channel", "it says that it is for another");
    for other in ["run:1", "system.metrics:x", "?", "", "two words.metrics"] {
        assert_eq!(read(other, point), "all channel", "{other}");
    }
    assert_eq!(read("system.metrics", "{"), "all malformed");
    let padded = |len: usize| format!("{}{}", " ".repeat(len - point.len()), point);
    assert_eq!(read("system.metrics", &padded(MESSAGE_BYTES_MAX)), "cpu.percent=75.5");
    assert_eq!(read("system.metrics", &padded(MESSAGE_BYTES_MAX + 1)), "all batch_max");
    let many = |count: usize| format!("[{}]", vec![r#"{"name":"n","value":1}"#; count].join(","));
    assert_eq!(read("system.metrics", &many(SAMPLES_MAX)).matches("n=1").count(), SAMPLES_MAX);
    assert_eq!(read("system.metrics", &many(SAMPLES_MAX + 1)), "all batch_max");
}
