//! Row A18: guessing keys tells nothing, and guessing much hurts nobody else.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use pulsewire_client::http1;
use socket2::{Domain, Protocol, Socket, Type};

use super::raw::Raw;
use super::{Bench, Progress, median};
use crate::report::Figure;
use crate::target::Target;

/// The key of the server under test, and the SHA-256 that it knows.
const KEY: &str = "pw_bench_92c1156672b759cf1a310c9a903ad17f72e5d0a6";
const KEY_SHA256: &str = "f219289a1f6b0aed70761f02e94dd7a362544f4eb2109d4d06218e86582a7347";
/// What every guess begins with; the rest is the secret.
const KNOWN: usize = "pw_bench_".len();
/// Guesses whose times are compared.
const GUESSES: usize = 100_000;
/// Guesses of a block: what else the machine does changes slowly, so it is the same for both kinds within one.
const BLOCK: usize = 200;
/// Beyond this the differences of the blocks are not zero, with a probability of 99 %.
const T_MAX: f64 = 2.58;
/// Guesses a second of the flood: 1,000 tokens and 1,000 keys.
const FLOOD: u32 = 2_000;
/// Logins a second whose times are measured.
const LOGINS: u32 = 100;
/// Where the flood comes from: the others are somebody else.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);

pub(super) fn run(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut figures = timing(bench, progress)?;
    figures.extend(flood(bench, progress)?);
    Ok(figures)
}

/// Whether the time of an answer tells how much of a key is right.
fn timing(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let keys = format!(r#"auth.api_keys=[{{ id = "bench", sha256 = "{KEY_SHA256}", publish = ["*"] }}]"#);
    let target = bench.server_with(&["auth.attempts_per_minute=0", &keys])?;
    let mut guesser = Guesser::new(&target, Ipv4Addr::LOCALHOST)?;
    ensure!(guesser.status(KEY)? != 401, "the server does not know the key");
    let nothing = wrong(KNOWN);
    let nearly = wrong(KEY.len() - 1);
    let (mut medians, mut differences) = ([Vec::new(), Vec::new()], Vec::new());
    let mut times = [Vec::new(), Vec::new()];
    let mut order = 0x9e37_79b9_u32;
    for number in 0..GUESSES {
        if number % 10_000 == 0 {
            progress.say(format!("{number} of {GUESSES} guesses"));
        }
        // In no order that anything else on the machine could follow (xorshift).
        order ^= order << 13;
        order ^= order >> 17;
        order ^= order << 5;
        let kind = (order >> 16 & 1) as usize;
        let begun = Instant::now();
        let status = guesser.status([&nothing, &nearly][kind])?;
        times[kind].push(begun.elapsed().as_nanos() as f64);
        ensure!(status == 401, "a wrong key was answered {status}");
        if (number + 1) % BLOCK == 0 {
            let [nothing, nearly] = std::mem::take(&mut times).map(median);
            medians[0].push(nothing);
            medians[1].push(nearly);
            differences.push(nothing - nearly);
        }
    }
    let [nothing, nearly] = medians.map(|medians| median(medians) / 1_000.0);
    let t = Sample::of(&differences).t();
    Ok(vec![
        Figure::new("secrets_guesses", GUESSES as f64, "").note(
            "wrong API keys over one connection, in turns by chance: no byte of the secret right, or all but the last",
        ),
        Figure::new("secrets_nothing_right_us", nothing, "µs").note("median answer"),
        Figure::new("secrets_nearly_right_us", nearly, "µs").note("median answer"),
        Figure::new("secrets_t", t.abs(), "").at_most(T_MAX).note(format!(
            "Student's t of the difference of the medians in {} blocks: beyond 2.58 it is not zero with p < 0.01, \
             which chance alone brings about once in a hundred runs",
            differences.len()
        )),
    ])
}

/// A key of the right length of which so many bytes are right.
fn wrong(right: usize) -> String {
    let other = |byte: u8| if byte == b'0' { '1' } else { '0' };
    KEY.bytes().enumerate().map(|(at, byte)| if at < right { byte as char } else { other(byte) }).collect()
}

/// Whether those who log in notice somebody who guesses.
fn flood(bench: &Bench, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let target = bench.server()?;
    progress.say("logins alone");
    let alone = logins(&target, bench.duration)?;
    progress.say("logins beside a flood of guesses");
    let idle = cpu_of(&target, || logins(&target, bench.duration))?.1;
    let stop = AtomicBool::new(false);
    let guesser = Guesser::new(&target, ELSEWHERE)?;
    let (beside, cpu, statuses) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let flood = scope.spawn(|| guess(guesser, &stop));
        let outcome = cpu_of(&target, || logins(&target, bench.duration));
        stop.store(true, Relaxed);
        let statuses = flood.join().ok().context("the flood has failed")??;
        let (beside, cpu) = outcome?;
        Ok((beside, cpu, statuses))
    })?;
    let (looked_at, waved_off) = statuses;
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1_000.0;
    Ok(vec![
        Figure::new("secrets_flood_looked_at", looked_at as f64, "")
            .note("guesses answered 401: what the budget of 60 a minute for an address lets through"),
        Figure::new("secrets_flood_waved_off", waved_off as f64, "").note("guesses answered 429"),
        Figure::new("secrets_flood_cpu_percent", cpu - idle, "%")
            .at_most(25.0)
            .note(format!("of one core, for {FLOOD} guesses a second, beyond what the logins need")),
        Figure::new("secrets_login_alone_p99_ms", p99(&alone), "ms")
            .note(format!("connect to welcome with a token, {LOGINS} a second")),
        Figure::new("secrets_login_beside_p99_ms", p99(&beside), "ms")
            .note("the same beside the flood, which comes from another address"),
    ])
}

fn cpu_of<T>(target: &Target, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let (before, begun) = (target.usage()?, Instant::now());
    let outcome = work()?;
    let after = target.usage()?;
    let percent = (after.cpu_ns - before.cpu_ns) as f64 / begun.elapsed().as_nanos() as f64 * 100.0;
    Ok((outcome, percent))
}

/// Logs in at a fixed rate; the times in microseconds, from when each was meant to begin.
fn logins(target: &Target, duration: Duration) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new_with_max(60_000_000, 3)?;
    let every = Duration::from_secs(1) / LOGINS;
    let begun = Instant::now();
    for number in 0..(duration.as_nanos() / every.as_nanos()) as u32 {
        let meant = begun + every * number;
        std::thread::sleep(meant.saturating_duration_since(Instant::now()));
        let mut login = Raw::connect(target)?;
        login.upgrade()?;
        login.text()?;
        times.saturating_record(meant.elapsed().as_micros() as u64);
        login.reset();
    }
    Ok(times)
}

/// Guesses tokens and keys until told to stop; how many were answered 401 and 429.
fn guess(mut guesser: Guesser, stop: &AtomicBool) -> anyhow::Result<(u64, u64)> {
    let guesses = [wrong(KNOWN), "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA".to_owned()];
    let (mut looked_at, mut waved_off) = (0, 0);
    let begun = Instant::now();
    let mut number = 0_u32;
    while !stop.load(Relaxed) {
        let meant = begun + Duration::from_secs(1) / FLOOD * number;
        std::thread::sleep(meant.saturating_duration_since(Instant::now()));
        match guesser.status(&guesses[number as usize % 2])? {
            401 => looked_at += 1,
            429 => waved_off += 1,
            status => anyhow::bail!("a guess was answered {status}"),
        }
        number += 1;
    }
    Ok((looked_at, waved_off))
}

struct Sample {
    mean: f64,
    variance: f64,
    count: f64,
}

impl Sample {
    fn of(values: &[f64]) -> Sample {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Sample { mean, variance, count }
    }

    /// How far the mean is from zero, in standard errors.
    fn t(&self) -> f64 {
        self.mean / (self.variance / self.count).sqrt()
    }
}

/// An HTTP connection that is kept.
struct Guesser {
    stream: TcpStream,
    authority: String,
    buffer: Vec<u8>,
}

impl Guesser {
    fn new(target: &Target, from: Ipv4Addr) -> anyhow::Result<Guesser> {
        let entry = target.entry();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&entry.address().into())?;
        socket.set_tcp_nodelay(true)?;
        Ok(Guesser { stream: socket.into(), authority: target.endpoint.authority(), buffer: Vec::new() })
    }

    /// The status that a publish with this credential is answered with.
    fn status(&mut self, credential: &str) -> anyhow::Result<u16> {
        let headers = [format!("Authorization: Bearer {credential}")];
        let request = http1::write_request("POST", "/api/publish", &self.authority, &headers, b"{}");
        self.stream.write_all(&request)?;
        loop {
            if let Some(head) = http1::parse_head(&self.buffer)?
                && let Some((_, len)) = head.body(&self.buffer[head.len_bytes..], false)?
            {
                self.buffer.drain(..head.len_bytes + len);
                return Ok(head.status);
            }
            let mut block = [0; 4096];
            let len = self.stream.read(&mut block)?;
            ensure!(len > 0, "closed before an answer");
            self.buffer.extend_from_slice(&block[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_differ_from_the_key_where_they_should() {
        assert_eq!(wrong(KEY.len() - 1)[..KEY.len() - 1], KEY[..KEY.len() - 1]);
        assert_ne!(wrong(KEY.len() - 1), KEY);
        let nothing = wrong(KNOWN);
        assert_eq!(nothing.len(), KEY.len());
        assert!(nothing.bytes().zip(KEY.bytes()).skip(KNOWN).all(|(wrong, right)| wrong != right));
    }

    #[test]
    fn a_sample_knows_how_far_it_is_from_zero() {
        let Sample { mean, variance, count } = Sample::of(&[2.0, 4.0, 6.0]);
        assert_eq!((mean, variance, count), (4.0, 4.0, 3.0));
        assert!((Sample::of(&[2.0, 4.0, 6.0]).t() - 12.0_f64.sqrt()).abs() < 1e-9);
        assert!(Sample::of(&[-1.0, 1.0, -1.0, 1.0]).t().abs() < 1e-9);
    }
}
