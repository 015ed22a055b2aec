//! The generator against servers whose faults are known.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod fake;
mod proxy;

use std::io::{BufRead as _, BufReader, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use pulsewire_client::{Endpoint, Trust};
use pulsewire_loadtest::fleet::{Fleet, Plan};
use pulsewire_loadtest::floor;
use pulsewire_loadtest::history::Verdict;
use pulsewire_loadtest::scan::{Seen, see};
use pulsewire_loadtest::swarm::{Entry, Note, Swarm};
use pulsewire_loadtest::target::Target;

use fake::{Fake, Fault};

const READERS: usize = 20;

fn target(fault: Fault) -> Target {
    let fake = Fake::start(fault);
    Target::running(&fake.url, &Trust::default(), Some("token".to_owned()), Some(std::process::id())).unwrap()
}

/// Publishes five single events, waits for so many arrivals and gives the judgement.
fn judge(fault: Fault, arrivals: u64) -> Verdict {
    let mut target = target(fault);
    let mut fleet =
        Fleet::gather(&mut target, Plan { subscribers: READERS, channels: 1, publishers: 1 }).unwrap();
    for _ in 0..5 {
        fleet.publish(0, 1, Instant::now()).unwrap();
    }
    fleet.until(|book| book.delivered >= arrivals && book.acks >= 5).unwrap();
    fleet.verdict()
}

#[test]
fn a_faultless_server_is_found_faultless() {
    let verdict = judge(Fault::None, 5 * READERS as u64);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.delivered, 5 * READERS as u64);
}

#[test]
fn every_fault_is_found_at_every_reader() {
    let readers = READERS as u64;
    let lost = judge(Fault::Lose(3), 4 * readers);
    assert_eq!((lost.lost, lost.skipped, lost.duplicate), (readers, readers, 0));
    let repeated = judge(Fault::Repeat(3), 6 * readers);
    assert_eq!((repeated.lost, repeated.duplicate), (0, readers));
    let swapped = judge(Fault::Swap(3), 5 * readers);
    assert_eq!((swapped.lost, swapped.out_of_order), (0, readers));
    let announced = judge(Fault::Announce(3), 4 * readers);
    assert!(announced.is_clean(), "{announced:?}");
    assert_eq!(announced.announced, readers);
}

#[test]
fn lockstep_waits_for_everybody_in_bursts_and_on_many_channels() {
    let mut target = target(Fault::None);
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: 8, channels: 4, publishers: 2 }).unwrap();
    fleet.lockstep(8, 1).unwrap();
    fleet.lockstep(4, 16).unwrap();
    assert_eq!(fleet.book.delivered, 8 * 2 + 4 * 16 * 2);
    assert!(fleet.verdict().is_clean());
    fleet.crowd(5).unwrap();
    assert_eq!((fleet.book.crowd, fleet.swarm.living()), (5, 15));
}

#[test]
fn a_refused_publish_ends_the_run_with_the_servers_words() {
    let mut target = target(Fault::Refuse);
    let mut fleet = Fleet::gather(&mut target, Plan { subscribers: 1, channels: 1, publishers: 1 }).unwrap();
    let error = fleet.lockstep(1, 1).unwrap_err();
    assert!(error.to_string().contains("Rate limit exceeded"), "{error}");
}

#[test]
fn a_refused_connection_is_told_with_its_status() {
    let error = match Fleet::gather(
        &mut target(Fault::Closed),
        Plan { subscribers: 1, channels: 1, publishers: 0 },
    ) {
        Ok(_) => panic!("the connection was refused"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("code 503"), "{error}");
}

#[test]
fn the_bare_loop_sends_every_publication_to_every_reader() {
    let (orders, mut order) = std::io::pipe().unwrap();
    let (said, saying) = std::io::pipe().unwrap();
    let serving = thread::spawn(move || floor::serve(BufReader::new(orders), saying));
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).unwrap();
    let endpoint = Endpoint::parse(line.trim().strip_prefix("listening on ").unwrap()).unwrap();
    let address = format!("{}:{}", endpoint.host(), endpoint.port()).parse().unwrap();
    let mut swarm = Swarm::new(Entry::new(&endpoint, address, None)).unwrap();
    for _ in 0..3 {
        swarm.connect(&[], None).unwrap();
    }
    let mut seen: Vec<Vec<u64>> = vec![Vec::new(); 3];
    let mut ready = 0;
    let mut ordered = false;
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.iter().any(|seen| seen.len() < 6) {
        if ready == 3 && !ordered {
            order.write_all(b"2 single 7 10\n4 joined 7 10\n").unwrap();
            ordered = true;
        }
        assert!(Instant::now() < deadline, "{ready} subscribed, {seen:?}");
        swarm
            .turn(Instant::now() + Duration::from_millis(100), &mut |peer, note| {
                if let Note::Text(text) = note {
                    match see(text) {
                        Seen::Subscribed { .. } => ready += 1,
                        Seen::Event { sequence, at_ns, .. } => {
                            assert_eq!(at_ns, Some(7));
                            seen[peer].push(sequence.unwrap());
                        }
                        _ => {}
                    }
                }
            })
            .unwrap();
    }
    assert!(seen.iter().all(|seen| *seen == [1, 2, 3, 4, 5, 6]), "{seen:?}");
    drop(order);
    serving.join().unwrap().unwrap();
}
