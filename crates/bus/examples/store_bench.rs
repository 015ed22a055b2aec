//! What keeping costs: events a second by the size of the batch, for SQLite and PostgreSQL, beside one fsync.
//!
//! `cargo run -p pulsewire-bus --example store_bench --release [SECONDS]`; the database is a cluster of its own in
//! the temporary folder, as the tests have it, but with fsync.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

#[path = "../tests/it/database.rs"]
mod database;
#[path = "../tests/it/folder.rs"]
mod folder;

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsewire_bus::store::{Ages, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use pulsewire_bus::{Accepted, Append, Batch, Store};
use pulsewire_protocol::{ChannelName, Epoch, Event, EventType};
use serde_json::value::RawValue;

use database::Database;
use folder::Folder;

const CHANNELS: u64 = 16;
const PAYLOAD_BYTES: usize = 256;

fn append(number: u64) -> Append {
    let channel = ChannelName::parse(&format!("run:{}", number % CHANNELS)).expect("a name");
    let data = RawValue::from_string(format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2))).expect("JSON");
    let mut event = Event::new(channel, EventType::parse("note").expect("a type"), data);
    event.critical = Some(false);
    let mut dedup = [0; 16];
    dedup[..8].copy_from_slice(&number.to_le_bytes());
    let accepted = Arc::new(Accepted { event, user: None, timestamp_ms: 0 });
    Append { accepted, dedup, payload: 0, keyed: false }
}

/// Keeps batches of one size for some time. Returns events a second and the median of one commit.
fn measure(store: &dyn Store, numbers: &mut u64, size: u64, time: Duration) -> (f64, Duration) {
    let (begin, first) = (Instant::now(), *numbers);
    let mut commits = Vec::new();
    while begin.elapsed() < time {
        let request = |number| [append(number)].into();
        let requests = (*numbers..*numbers + size).map(request).collect();
        *numbers += size;
        let began = Instant::now();
        store.commit(&Batch { requests, strict: true, at_ms: 0 }).expect("it is kept");
        commits.push(began.elapsed());
    }
    commits.sort_unstable();
    let rate = (*numbers - first) as f64 / begin.elapsed().as_secs_f64();
    (rate, commits[commits.len() / 2])
}

fn report(store: &dyn Store, time: Duration) {
    let (mut numbers, mut alone) = (0, 0.0);
    for size in [1, 16, 64, 256, 512] {
        let (rate, median) = measure(store, &mut numbers, size, time);
        if size == 1 {
            alone = rate;
        }
        let (name, ratio) = (store.name(), rate / alone);
        println!(
            "{name:<9} batch {size:>3} {rate:>8.0} events/s  {ratio:>5.1} x one by one, a commit {median:>7.2?}"
        );
    }
}

fn fsync(folder: &Folder, time: Duration) -> Duration {
    let mut file = std::fs::File::create(folder.path().join("fsync")).expect("a file");
    let (begin, mut all) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        file.seek(SeekFrom::Start(0)).expect("the begin");
        let began = Instant::now();
        file.write_all(&[0; 4_096]).expect("it is written");
        file.sync_data().expect("it is on disk");
        all.push(began.elapsed());
    }
    all.sort_unstable();
    all[all.len() / 2]
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    let folder = Folder::new("bench");
    println!(
        "{PAYLOAD_BYTES}-byte payloads, {CHANNELS} channels, one writer; one fsync of 4 KiB: {:.2?}",
        fsync(&folder, time)
    );
    let epoch = Epoch::parse("bench").expect("an epoch");
    let path = folder.path().join("bench.db");
    let sqlite =
        SqliteStore::open(SqliteOptions { path, epoch: epoch.clone(), busy_ms: 5_000, bytes_max: 0 });
    report(&sqlite.expect("a file"), time);
    let Some(database) = Database::start(&[]) else { return };
    let url = database.fresh_url();
    let options =
        PostgresOptions { url, epoch, readers: 1, synchronous_replication: false, ages: Ages::OfDatabase };
    report(&PostgresStore::new(&options).expect("an address"), time);
}
