use super::*;

fn at(ms_at: u64) -> Duration {
    ms(ms_at)
}

fn outbox() -> Outbox<u32> {
    Outbox::new(QueueOptions::default(), ms(defaults::ACK_TIMEOUT_MS))
}

/// Queues publishes whose id, frame and reply are their number.
fn queue(
    outbox: &mut Outbox<u32>,
    channel: &str,
    numbers: std::ops::RangeInclusive<u32>,
) -> Vec<Settled<u32>> {
    let push = |number: u32| {
        outbox.push(number.to_string(), channel.to_owned(), number.to_string(), number, Duration::ZERO)
    };
    numbers.flat_map(push).collect()
}

/// What goes out now, by number.
fn sent(outbox: &mut Outbox<u32>, now: u64) -> Vec<u32> {
    std::iter::from_fn(|| outbox.next(at(now)).map(|frame| frame.parse().unwrap())).collect()
}

fn later(retry_after_ms: Option<u64>) -> ServerError {
    ServerError {
        code: "overloaded".to_owned(),
        message: "Overloaded".to_owned(),
        help: None,
        retryable: true,
        retry_after_ms,
    }
}

fn never() -> ServerError {
    ServerError { code: "forbidden".to_owned(), retryable: false, ..later(None) }
}

/// Who was told what, by the codes.
fn told(settled: impl IntoIterator<Item = Settled<u32>>) -> Vec<(u32, String)> {
    let code = |outcome: Result<Ack, PublishError>| match outcome {
        Ok(ack) => format!("ack {}", ack.sequence.unwrap_or_default()),
        Err(error) => error.code().to_owned(),
    };
    settled.into_iter().map(|(number, outcome)| (number, code(outcome))).collect()
}

fn is(number: u32, code: &str) -> Vec<(u32, String)> {
    vec![(number, code.to_owned())]
}

/// Lets a publish pass an ack timeout on a connection that lives.
fn unanswered(outbox: &mut Outbox<u32>, now: u64) -> Vec<Settled<u32>> {
    let (mut settled, suspicious) = outbox.expire(at(now));
    assert!(suspicious, "a late answer makes the connection suspicious");
    settled.extend(outbox.proved());
    settled
}

#[test]
fn sixteen_are_on_their_way_at_once_and_each_answer_makes_room() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=20);
    assert_eq!(sent(&mut outbox, 0), (1..=16).collect::<Vec<_>>());
    let ack = Ack { sequence: Some(7), ..Ack::default() };
    assert_eq!(told(outbox.acked("3", ack)), is(3, "ack 7"));
    assert_eq!(told(outbox.refused("5", never(), at(0))), is(5, "forbidden"));
    assert_eq!(sent(&mut outbox, 0), [17, 18]);
    assert_eq!(outbox.len(), 18);
    assert!(outbox.acked("3", Ack::default()).is_none(), "it is settled once");
}

#[test]
fn a_message_that_has_to_wait_holds_those_behind_it_on_its_channel_only() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=2);
    assert_eq!(sent(&mut outbox, 0), [1, 2]);
    queue(&mut outbox, "a", 3..=4);
    queue(&mut outbox, "b", 5..=5);
    assert!(outbox.refused("1", later(Some(800)), at(10)).is_none());
    assert_eq!(sent(&mut outbox, 10), [5], "what was on its way stays, what was not waits");
    assert_eq!(outbox.due(at(10)), Some(at(810)));
    assert_eq!(sent(&mut outbox, 809), [0_u32; 0]);
    assert_eq!(sent(&mut outbox, 810), [1, 3, 4]);
}

#[test]
fn later_three_times_and_then_never() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=1);
    let mut now = 0;
    for wait in [500, 1_000, 2_000] {
        assert_eq!(sent(&mut outbox, now), [1]);
        assert!(outbox.refused("1", later(None), at(now)).is_none());
        assert_eq!(sent(&mut outbox, now + wait - 1), [0_u32; 0]);
        now += wait;
    }
    assert_eq!(sent(&mut outbox, now), [1], "the fourth sending is the third retry");
    assert_eq!(told(outbox.refused("1", later(None), at(now))), is(1, "retries_exhausted"));
    assert_eq!(outbox.len(), 0);
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again_once_the_connection_has_proved_itself() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=1);
    assert_eq!(sent(&mut outbox, 0), [1]);
    assert_eq!(outbox.due(at(0)), Some(at(5_000)));
    assert!(!outbox.expire(at(4_999)).1);
    assert!(outbox.expire(at(5_000)).1, "late: the connection is suspicious");
    assert!(!outbox.expire(at(5_001)).1, "once");
    assert_eq!(sent(&mut outbox, 5_001), [0_u32; 0], "not before the connection has proved itself");
    assert!(outbox.proved().is_empty());
    assert_eq!(sent(&mut outbox, 5_100), [1]);
}

#[test]
fn a_late_answer_settles_it_even_while_it_is_doubted() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=1);
    sent(&mut outbox, 0);
    outbox.expire(at(5_000));
    assert_eq!(told(outbox.acked("1", Ack::default())), is(1, "ack 0"));
    assert!(outbox.proved().is_empty() && sent(&mut outbox, 5_001).is_empty());
}

#[test]
fn four_sendings_without_an_answer_are_the_end() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=1);
    for round in 0..3 {
        assert_eq!(sent(&mut outbox, round * 5_000), [1]);
        assert!(unanswered(&mut outbox, (round + 1) * 5_000).is_empty());
    }
    assert_eq!(sent(&mut outbox, 15_000), [1]);
    let settled = unanswered(&mut outbox, 20_000);
    assert_eq!(settled, [(1, Err(PublishError::NoAck { attempts: 4 }))]);
}

#[test]
fn what_was_on_its_way_goes_out_again_in_order_after_a_reconnect() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=18);
    sent(&mut outbox, 0);
    assert_eq!(told(outbox.acked("2", Ack::default())), is(2, "ack 0"));
    assert!(outbox.lost().is_empty());
    let mut expected: Vec<u32> = (1..=17).collect();
    expected.remove(1);
    assert_eq!(sent(&mut outbox, 60_000), expected);
}

#[test]
fn only_what_was_really_sent_counts() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=1);
    for _ in 0..100 {
        assert!(outbox.lost().is_empty());
    }
    for round in 0..3 {
        assert_eq!(sent(&mut outbox, round), [1]);
        assert!(outbox.lost().is_empty());
    }
    assert_eq!(sent(&mut outbox, 4), [1]);
    assert_eq!(told(outbox.lost()), is(1, "no_ack"));
}

#[test]
fn five_minutes_after_it_was_first_sent_it_is_not_sent_again() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=2);
    assert_eq!(sent(&mut outbox, 1_000), [1, 2]);
    assert!(outbox.refused("2", later(Some(400_000)), at(1_000)).is_none());
    outbox.lost();
    assert_eq!(outbox.due(at(1_000)), Some(at(301_000)));
    assert!(outbox.expire(at(300_999)).0.is_empty());
    let settled = told(outbox.expire(at(301_000)).0);
    assert_eq!(settled, [is(1, "no_ack"), is(2, "retries_exhausted")].concat());
}

#[test]
fn a_day_without_a_connection_is_the_end() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=1);
    assert!(outbox.expire(at(86_399_999)).0.is_empty());
    assert_eq!(told(outbox.expire(at(86_400_000)).0), is(1, "expired"));
}

/// K1.
#[test]
fn beyond_the_bound_the_new_one_is_refused_or_the_oldest_given_up() {
    let mut outbox = outbox();
    let settled = told(queue(&mut outbox, "a", 1..=1_500));
    assert_eq!(settled.len(), 500);
    assert!(settled.iter().zip(1_001..).all(|(told, number)| *told == (number, "queue_full".to_owned())));
    assert_eq!(sent(&mut outbox, 0), (1..=16).collect::<Vec<_>>());

    let options = QueueOptions { overflow: Overflow::DropOldest, ..QueueOptions::default() };
    let mut outbox = Outbox::new(options, ms(5_000));
    queue(&mut outbox, "a", 1..=4);
    assert_eq!(sent(&mut outbox, 0), [1, 2, 3, 4]);
    let settled = told(queue(&mut outbox, "a", 5..=1_500));
    assert_eq!(settled.len(), 500);
    assert!(settled.iter().zip(5..).all(|(told, number)| *told == (number, "queue_full".to_owned())));
    assert_eq!(outbox.len(), 1_000);
    assert_eq!(sent(&mut outbox, 0), (505..=516).collect::<Vec<_>>(), "what is on its way stays, in order");
}

#[test]
fn bytes_are_bounded_too() {
    let options = QueueOptions { bytes_max: 100, ..QueueOptions::default() };
    for (overflow, expected) in
        [(Overflow::Reject, is(3, "queue_full")), (Overflow::DropOldest, is(1, "queue_full"))]
    {
        let mut outbox = Outbox::new(QueueOptions { overflow, ..options }, ms(5_000));
        let mut push = |number: u32, len: usize| {
            told(outbox.push(number.to_string(), "a".to_owned(), "x".repeat(len), number, Duration::ZERO))
        };
        assert!(push(1, 50).is_empty() && push(2, 50).is_empty());
        assert_eq!(push(3, 10), expected);
        assert_eq!(push(4, 101), is(4, "queue_full"), "one that never fits drops nobody");
        assert_eq!(outbox.bytes, if overflow == Overflow::Reject { 100 } else { 60 });
        let _ = outbox.acked("2", Ack::default());
        assert_eq!(outbox.bytes, if overflow == Overflow::Reject { 50 } else { 10 });
    }
}

#[test]
fn the_end_of_the_client_settles_everything() {
    let mut outbox = outbox();
    queue(&mut outbox, "a", 1..=20);
    sent(&mut outbox, 0);
    let settled = told(outbox.close());
    assert_eq!(settled.len(), 20);
    assert!(settled.iter().all(|(_, code)| code == "disconnected"));
    assert_eq!((outbox.len(), outbox.bytes), (0, 0));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Happens {
        Push { channel: u8 },
        Send,
        Ack(usize),
        Later(usize, u64),
        Never(usize),
        Lost,
        Proved,
        Wait(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => (0_u8..3).prop_map(|channel| Happens::Push { channel }),
            6 => Just(Happens::Send),
            3 => any::<usize>().prop_map(Happens::Ack),
            2 => (any::<usize>(), 0_u64..3_000).prop_map(|(which, wait)| Happens::Later(which, wait)),
            1 => any::<usize>().prop_map(Happens::Never),
            1 => Just(Happens::Lost),
            2 => Just(Happens::Proved),
            3 => (0_u64..20_000).prop_map(Happens::Wait),
            1 => (0_u64..90_000_000).prop_map(Happens::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Every publish settles once, is sent four times at most and for five minutes at most; the bounds hold; first
        /// sendings of a channel are in order; and nothing is ever due in the past.
        #[test]
        fn every_publish_settles_once_within_its_bounds(
            all in proptest::collection::vec(happens(), 1..200),
            overflow in prop_oneof![Just(Overflow::Reject), Just(Overflow::DropOldest)],
        ) {
            let options = QueueOptions { messages_max: 24, bytes_max: 60, overflow, ..QueueOptions::default() };
            let mut outbox = Outbox::new(options, ms(5_000));
            let mut now = Duration::ZERO;
            let mut channels = Vec::new();
            let mut sends: Vec<Vec<Duration>> = Vec::new();
            let mut settled: Vec<u32> = Vec::new();
            let mut on_their_way: Vec<usize> = Vec::new();
            for what in all {
                let mut gone = Vec::new();
                let pick = |which: usize, from: &[usize]| from.get(which % from.len().max(1)).copied();
                match what {
                    Happens::Push { channel } => {
                        let number = channels.len();
                        channels.push(channel);
                        sends.push(Vec::new());
                        let frame = number.to_string();
                        gone = outbox.push(frame.clone(), channel.to_string(), frame, number as u32, now);
                    }
                    Happens::Send => while let Some(frame) = outbox.next(now) {
                        let number: usize = frame.parse().unwrap();
                        if sends[number].is_empty() {
                            let behind = (number + 1..channels.len()).filter(|other| channels[*other] == channels[number]);
                            prop_assert!(behind.clone().all(|other| sends[other].is_empty()), "{number} came too late");
                        }
                        sends[number].push(now);
                        prop_assert!(!on_their_way.contains(&number));
                        on_their_way.push(number);
                    },
                    Happens::Ack(which) => if let Some(number) = pick(which, &on_their_way) {
                        gone.extend(outbox.acked(&number.to_string(), Ack::default()));
                        on_their_way.retain(|other| *other != number);
                    },
                    Happens::Later(which, wait) => if let Some(number) = pick(which, &on_their_way) {
                        gone.extend(outbox.refused(&number.to_string(), later(Some(wait)), now));
                        on_their_way.retain(|other| *other != number);
                    },
                    Happens::Never(which) => if let Some(number) = pick(which, &on_their_way) {
                        gone.extend(outbox.refused(&number.to_string(), never(), now));
                        on_their_way.retain(|other| *other != number);
                    },
                    Happens::Lost => { gone = outbox.lost(); on_their_way.clear(); }
                    Happens::Proved => {
                        gone = outbox.proved();
                        on_their_way.retain(|number| matches!(
                            outbox.find(&number.to_string()).map(|index| outbox.entries[index].place),
                            Some(Place::Sent { .. })
                        ));
                    }
                    Happens::Wait(time) => { now += ms(time); gone = outbox.expire(now).0; }
                }
                on_their_way.retain(|number| outbox.has(&number.to_string()));
                settled.extend(gone.into_iter().map(|(number, _)| number));
                prop_assert!(on_their_way.len() <= 16 && outbox.len() <= 24 && outbox.bytes <= 60);
                let (over, _) = outbox.expire(now);
                settled.extend(over.into_iter().map(|(number, _)| number));
                prop_assert!(outbox.due(now).is_none_or(|due| due > now), "{:?} at {now:?}", outbox.due(now));
            }
            settled.extend(outbox.close().into_iter().map(|(number, _)| number));
            settled.sort_unstable();
            prop_assert_eq!(settled, (0..channels.len() as u32).collect::<Vec<_>>());
            for times in sends {
                prop_assert!(times.len() <= 4);
                let took = times.last().copied().unwrap_or_default() - times.first().copied().unwrap_or_default();
                prop_assert!(took <= ms(300_000), "sent for {took:?}");
            }
        }
    }
}
