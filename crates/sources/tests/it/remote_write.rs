//! Prometheus remote write.

use proptest::prelude::*;
use pulsewire_protocol::SampleFault;
use pulsewire_sources::Intake;
use pulsewire_sources::remote_write::{RemoteWriteError, RemoteWriteOptions, read};

use crate::encode::Message;
use crate::{faults, lines};

/// What Prometheus writes for a series that has ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

const OPTIONS: RemoteWriteOptions = RemoteWriteOptions { count_max: 100, bytes_max: 1 << 20 };

fn packed(request: &Message) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&request.0).unwrap()
}

fn taken(request: &Message) -> Intake {
    read(&packed(request), OPTIONS).unwrap()
}

fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Message {
    let labelled = labels.iter().fold(Message::new(), |series, (name, value)| {
        series.message(1, &Message::new().text(1, name).text(2, value))
    });
    samples.iter().fold(labelled, |series, (value, ms)| {
        series.message(2, &Message::new().double(1, *value).varint(2, *ms as u64))
    })
}

fn request(list: &[Message]) -> Message {
    list.iter().fold(Message::new(), |request, series| request.message(1, series))
}

fn metadata(request: Message, kind: u64, family: &str) -> Message {
    request.message(3, &Message::new().varint(1, kind).text(2, family).text(4, "help"))
}

#[test]
fn series_become_samples_and_the_end_of_a_name_says_its_kind() {
    let intake = taken(&request(&[
        series(&[("__name__", "up"), ("job", "node"), ("instance", "a:9100")], &[(1.0, 1_000), (0.0, 2_000)]),
        series(&[("__name__", "http_requests_total")], &[(7.0, 1_000)]),
        series(&[("__name__", "lat_bucket"), ("le", "+Inf")], &[(3.0, 1_000)]),
        series(&[("__name__", "lat_sum")], &[(1.5, 1_000)]),
        series(&[("__name__", "lat_count")], &[(3.0, 1_000)]),
    ]));
    assert_eq!(
        lines(&intake),
        [
            "0 gauge up 1.0 @1000 instance=a:9100 job=node",
            "1 gauge up 0.0 @2000 instance=a:9100 job=node",
            "2 counter http_requests_total 7.0 @1000",
            "3 counter lat_bucket 3.0 @1000 le=+Inf",
            "4 counter lat_sum 1.5 @1000",
            "5 counter lat_count 3.0 @1000",
        ]
    );
}

#[test]
fn the_metadata_of_a_request_says_more_than_a_name() {
    let names = ["ticks", "queue_count", "jobs_total", "rows_total", "wait_sum", "wait", "odd_count"];
    let all: Vec<_> = names.iter().map(|name| series(&[("__name__", name)], &[(1.0, 1)])).collect();
    // 1 counter, 2 gauge, 3 histogram, 5 summary, 0 unknown.
    let known = [(1, "ticks"), (2, "queue_count"), (2, "jobs_total"), (1, "rows"), (5, "wait"), (0, "odd")];
    let request = known.iter().fold(request(&all), |request, (kind, name)| metadata(request, *kind, name));
    let kinds: Vec<_> = taken(&request).samples.iter().map(|sample| sample.kind.name()).collect();
    assert_eq!(kinds, ["counter", "gauge", "gauge", "counter", "counter", "gauge", "counter"]);
}

#[test]
fn a_series_that_cannot_be_taken_is_refused_alone() {
    let (long, wide) = ("x".repeat(65), "n".repeat(129));
    let many: Vec<_> = (0..17).map(|at| (format!("l{at}"), "v")).collect();
    let mut labels = vec![("__name__", "n")];
    labels.extend(many.iter().map(|(name, value)| (&**name, *value)));
    for (wrong, fault) in [
        (series(&[("job", "a")], &[(1.0, 1)]), SampleFault::Name),
        (series(&[("__name__", "two words")], &[(1.0, 1)]), SampleFault::Name),
        (series(&[("__name__", &wide)], &[(1.0, 1)]), SampleFault::Name),
        (series(&[("__name__", "n"), ("path", &long)], &[(1.0, 1)]), SampleFault::Tags),
        (series(&[("__name__", "n"), ("", "v")], &[(1.0, 1)]), SampleFault::Tags),
        (series(&labels, &[(1.0, 1)]), SampleFault::Tags),
        (series(&[("__name__", "n")], &[(f64::INFINITY, 1)]), SampleFault::Value),
        (series(&[("__name__", "n")], &[(1.0, -1)]), SampleFault::Malformed),
        (series(&[("__name__", "n")], &[]).message(4, &Message::new()), SampleFault::Value),
    ] {
        let good = series(&[("__name__", "good")], &[(1.0, 1)]);
        let intake = taken(&request(&[good.clone(), wrong, good]));
        assert_eq!(lines(&intake), ["0 gauge good 1.0 @1", "2 gauge good 1.0 @1"]);
        assert_eq!(faults(&intake), [(fault, 1)]);
    }
}

#[test]
fn what_is_not_a_number_is_passed_over() {
    let stale = f64::from_bits(STALE);
    let intake = taken(&request(&[series(&[("__name__", "n")], &[(1.0, 1), (stale, 2), (f64::NAN, 3)])]));
    assert_eq!(lines(&intake), ["0 gauge n 1.0 @1"]);
    assert_eq!((intake.without_value, intake.refused.total()), (2, 0));
}

#[test]
fn a_request_is_bounded_before_it_is_unpacked() {
    let body = packed(&request(&[series(&[("__name__", "n")], &[(1.0, 1)])]));
    let len = snap::raw::decompress_len(&body).unwrap();
    let bounded = |bytes_max| read(&body, RemoteWriteOptions { bytes_max, ..OPTIONS });
    assert!(bounded(len).is_ok());
    assert_eq!(bounded(len - 1), Err(RemoteWriteError::TooLarge { bytes: len, bytes_max: len - 1 }));
    // Only the beginning is there: it is refused for what it says, not for what is missing.
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(read(&huge, OPTIONS), Err(RemoteWriteError::TooLarge { .. })));
    for wrong in [&b""[..], b"\x05\x00", b"plain text", &[0x01, 0x00, 0xff]] {
        assert!(matches!(read(wrong, OPTIONS), Err(RemoteWriteError::Malformed(_))), "{wrong:?}");
    }
}

#[test]
fn samples_beyond_the_bound_are_refused() {
    let body = packed(&request(&[series(&[("__name__", "n")], &[(1.0, 1), (2.0, 2), (3.0, 3)])]));
    let intake = read(&body, RemoteWriteOptions { count_max: 2, ..OPTIONS }).unwrap();
    assert_eq!(lines(&intake).len(), 2);
    assert_eq!(faults(&intake), [(SampleFault::BatchMax, 1)]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, OPTIONS);
        let _ = read(&packed(&Message(bytes)), OPTIONS);
    }

    #[test]
    fn nor_does_a_request_in_which_a_few_bytes_are_others(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let all = [
            series(&[("__name__", "up"), ("job", "node")], &[(1.0, 1_000), (0.0, 2_000)]),
            series(&[("__name__", "lat_sum")], &[(1.5, 1_000)]),
        ];
        let mut request = metadata(request(&all), 5, "lat");
        for (at, byte) in &changes {
            let at = at.index(request.0.len());
            request.0[at] = *byte;
        }
        if let Ok(intake) = read(&packed(&request), OPTIONS) {
            prop_assert!(intake.samples.iter().all(|sample| sample.value.as_f64().is_finite()));
            let points = intake.samples.len() as u64 + intake.refused.total() + intake.without_value;
            prop_assert_eq!(intake.points_total, points);
        }
    }
}
