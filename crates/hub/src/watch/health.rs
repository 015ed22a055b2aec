//! How well a connection is, and why it is not.
//!
//! A pure function of what is known of it. Every cause that there are signs of has a score, and the worst counts; of
//! two that are equally bad, the one that says more is named. The thresholds are where people begin to notice (a tenth
//! of a second to answer, half of one to arrive) and where the server itself will act (the time-outs of its settings).

use pulsewire_protocol::ClientReport;

use crate::TcpSample;

/// Declares words with their texts.
macro_rules! causes {
    ($($(#[$help:meta])* $variant:ident = $text:literal,)+) => {
        /// Why a connection is not as well as it could be.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Cause { $($(#[$help])* $variant,)+ }

        impl Cause {
            /// The names of all, in the order of the declaration.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

causes! {
    /// Nothing stands out.
    Healthy = "healthy",
    /// Bytes wait, and the client's receive window is closed: its program does not read.
    ClientNotReading = "client_not_reading",
    /// It reads, but answers pings much later than its network does, or says that its handlers are slow.
    ClientBusy = "client_busy",
    /// As before, and its page is hidden.
    ClientHidden = "client_hidden",
    /// The way to it is long.
    NetworkSlow = "network_slow",
    /// TCP has to send again.
    NetworkLossy = "network_lossy",
    /// It reads as fast as it can, and more is sent to it than that.
    TooMuch = "too_much",
    /// Heartbeats go unanswered.
    Silent = "silent",
    /// It reconnects again and again.
    Unstable = "unstable",
    /// It sends more than it may.
    RateLimited = "rate_limited",
    /// It is away and may come back.
    Detached = "detached",
}

/// What is known of a connection, as far as it says how well it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signs {
    /// There is no connection: the session waits for its client.
    pub detached: bool,
    /// Bytes in its outbox.
    pub queued_bytes: u64,
    /// How long the kernel has taken nothing of them, in nanoseconds.
    pub stuck_ns: u64,
    /// A subscription reads the past because the outbox was full.
    pub lagging: bool,
    /// What the kernel says now; `None` while it was not asked, or does not know.
    pub tcp: Option<TcpSample>,
    /// TCP's smoothed round trip, as it was seen last, in microseconds; 0 if it never was.
    pub tcp_rtt_us: u32,
    /// Segments that TCP sent again since the connection began.
    pub retransmits: u32,
    /// Segments that were sent at least.
    pub segments: u64,
    /// The last heartbeat's round trip in nanoseconds; 0 if none was answered.
    pub heartbeat_rtt_ns: u64,
    /// For how long a ping has not been answered, in nanoseconds; 0 if none is awaited.
    pub awaited_ns: u64,
    /// How often the session has reconnected.
    pub reconnections: u32,
    /// How old the session is, in nanoseconds.
    pub session_age_ns: u64,
    /// It sent more than it may within the last minute.
    pub limited: bool,
    /// What the client last said of itself.
    pub report: Option<ClientReport>,
    /// After so long without progress the connection is closed, in nanoseconds.
    pub slow_after_ns: u64,
    /// After so long without an answer to a ping the connection is closed, in nanoseconds.
    pub heartbeat_timeout_ns: u64,
}

/// How well a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diagnosis {
    /// From 0, about to be closed, to 100.
    pub score: u8,
    /// What makes it less than 100.
    pub cause: Cause,
}

/// Network round trips from which on people notice, in microseconds.
const FAR_US: f64 = 150_000.0;
/// How much later than the network's round trip a ping may be answered before the client counts as busy.
const BUSY_US: f64 = 100_000.0;
/// A handler that runs for longer holds up what follows, in microseconds.
const HANDLER_US: u32 = 100_000;
/// TCP repeats a little wherever it is; from this share of segments on it is the network's fault.
const LOSS_SHARE: f64 = 0.02;
/// … and from so many.
const RETRANSMITS_MIN: u32 = 5;
/// Reconnections an hour from which on a session is unstable, if there were as many as the next number.
const RECONNECTIONS_PER_HOUR: f64 = 6.0;
/// … in all.
const RECONNECTIONS_MIN: u32 = 3;
/// A ping that is out for longer than this part of its time-out is not answered soon any more.
const SILENT_PART: f64 = 0.3;
/// What takes nothing for so long is stuck, and not only busy with what it has, in nanoseconds.
pub(crate) const STUCK_NS: u64 = 1_000_000_000;

impl Signs {
    /// How well the connection is.
    #[must_use]
    pub fn diagnose(&self) -> Diagnosis {
        if self.detached {
            return Diagnosis { score: 60, cause: Cause::Detached };
        }
        let mut worst = Diagnosis { score: 100, cause: Cause::Healthy };
        let mut see = |cause, score: Option<f64>| {
            let Some(score) = score else { return };
            let score = score.clamp(0.0, 99.0) as u8;
            if score < worst.score {
                worst = Diagnosis { score, cause };
            }
        };
        if self.queued_bytes > 0 || self.lagging {
            let (cause, score) = self.held_up();
            see(cause, Some(score));
        }
        see(Cause::Silent, self.silent());
        see(Cause::NetworkLossy, self.lossy());
        see(Cause::NetworkSlow, self.far());
        let (cause, score) = self.late();
        see(cause, score);
        see(Cause::Unstable, self.unstable());
        see(Cause::RateLimited, self.limited.then_some(85.0));
        worst
    }

    /// The client's receive window is closed: what was sent is acknowledged, and the rest may not be.
    fn window_closed(&self) -> bool {
        let Some(tcp) = self.tcp else { return false };
        match tcp.peer_window_bytes {
            // Less than a segment fits, and there is one: TCP waits for the client to read.
            Some(window) => {
                tcp.unsent_bytes > 0 && tcp.unacked_bytes <= 1 && window < tcp.segment_bytes.max(1)
            }
            None => tcp.unsent_bytes > 0 && tcp.unacked_bytes <= 1,
        }
    }

    /// Something waits in the outbox, or did not find room there: whose fault it is.
    fn held_up(&self) -> (Cause, f64) {
        let waited = part(self.stuck_ns, self.slow_after_ns);
        if self.window_closed() {
            return (Cause::ClientNotReading, 40.0 * (1.0 - waited));
        }
        if self.loss_share().is_some() {
            return (Cause::NetworkLossy, 45.0 * (1.0 - waited));
        }
        if self.network_us() >= FAR_US {
            return (Cause::NetworkSlow, 50.0 * (1.0 - waited));
        }
        (Cause::TooMuch, 70.0 - 40.0 * waited)
    }

    fn silent(&self) -> Option<f64> {
        let part = part(self.awaited_ns, self.heartbeat_timeout_ns);
        (part >= SILENT_PART).then_some(50.0 * (1.0 - part))
    }

    fn loss_share(&self) -> Option<f64> {
        let share = f64::from(self.retransmits) / self.segments.max(1) as f64;
        (self.retransmits >= RETRANSMITS_MIN && share >= LOSS_SHARE).then_some(share)
    }

    fn lossy(&self) -> Option<f64> {
        // A fiftieth is felt, a fifth is hardly a connection.
        self.loss_share().map(|share| 75.0 - 300.0 * (share - LOSS_SHARE).min(0.2))
    }

    /// TCP's round trip, in microseconds.
    fn network_us(&self) -> f64 {
        f64::from(self.tcp.map_or(self.tcp_rtt_us, |tcp| tcp.rtt_us))
    }

    fn far(&self) -> Option<f64> {
        slowness(self.network_us(), FAR_US)
    }

    /// A ping was answered much later than the network would have it: the client is busy, unless it says that its
    /// handlers are quick; then the way is longer than TCP's, which ends at the next proxy.
    fn late(&self) -> (Cause, Option<f64>) {
        let late_us = self.heartbeat_rtt_ns as f64 / 1_000.0 - self.network_us();
        let handler_us = self.report.and_then(|report| report.handler_us);
        let busy_us = handler_us.filter(|us| *us >= HANDLER_US).map(f64::from);
        let hidden = self.report.is_some_and(|report| report.visible == Some(false));
        let late = slowness(late_us, BUSY_US);
        let score = match (late, busy_us.and_then(|us| slowness(us, f64::from(HANDLER_US)))) {
            (Some(late), Some(busy)) => Some(late.min(busy)),
            (late, busy) => late.or(busy),
        };
        let cause = match (hidden, busy_us, handler_us) {
            (true, ..) => Cause::ClientHidden,
            (false, None, Some(_)) => Cause::NetworkSlow,
            _ => Cause::ClientBusy,
        };
        // Hidden pages are slowed down on purpose: that harms nobody.
        (cause, if hidden { score.map(|score| score.max(80.0)) } else { score })
    }

    fn unstable(&self) -> Option<f64> {
        let hours = (self.session_age_ns as f64 / 3.6e12).max(1.0 / 60.0);
        let per_hour = f64::from(self.reconnections) / hours;
        let often = self.reconnections >= RECONNECTIONS_MIN && per_hour >= RECONNECTIONS_PER_HOUR;
        often.then(|| (75.0 - per_hour / 2.0).max(45.0))
    }

    /// The cause in words, with the numbers that show it.
    #[must_use]
    pub fn explain(&self, cause: Cause) -> String {
        let queued = bytes(self.queued_bytes);
        let rtt = time_us(self.network_us());
        let ping = time_us(self.heartbeat_rtt_ns as f64 / 1_000.0);
        match cause {
            Cause::Healthy => "nothing stands out".to_owned(),
            Cause::ClientNotReading => {
                format!("{queued} wait for it and its receive window is closed: the client does not read")
            }
            Cause::ClientBusy => format!("{}: the client is busy", self.answers_late(&ping, &rtt)),
            Cause::ClientHidden => {
                let late = self.answers_late(&ping, &rtt);
                format!("{late}: its page is hidden, and browsers slow such pages down")
            }
            Cause::NetworkSlow if self.network_us() >= FAR_US => {
                let waiting =
                    if self.queued_bytes > 0 { format!(", and {queued} wait") } else { String::new() };
                format!("the network's round trip is {rtt}{waiting}")
            }
            Cause::NetworkSlow => {
                format!(
                    "it answers pings after {ping} though its handlers are quick and TCP's round trip is {rtt}: \
                     the way behind the next proxy is slow"
                )
            }
            Cause::NetworkLossy => format!(
                "TCP had to send {} of about {} segments again",
                self.retransmits,
                self.segments.max(u64::from(self.retransmits))
            ),
            Cause::TooMuch if self.queued_bytes == 0 => {
                "it reads what its full outbox could not take: more is sent to it than it reads".to_owned()
            }
            Cause::TooMuch => {
                format!("{queued} wait for it though it reads: more is sent to it than it can take")
            }
            Cause::Silent => {
                format!("it has not answered a ping for {}", time_us(self.awaited_ns as f64 / 1_000.0))
            }
            Cause::Unstable => format!(
                "it has reconnected {} times in {}",
                self.reconnections,
                time_us(self.session_age_ns as f64 / 1_000.0)
            ),
            Cause::RateLimited => "it sends more messages than it may: some were refused".to_owned(),
            Cause::Detached => "it has no connection and may come back".to_owned(),
        }
    }

    fn answers_late(&self, ping: &str, rtt: &str) -> String {
        match self.report.and_then(|report| report.handler_us).filter(|us| *us >= HANDLER_US) {
            Some(us) => format!("its slowest handler took {}", time_us(f64::from(us))),
            None => format!("it answers pings after {ping}, {rtt} of which are the network's"),
        }
    }
}

/// How much of a time-out has passed, from 0 to 1.
fn part(passed_ns: u64, timeout_ns: u64) -> f64 {
    (passed_ns as f64 / timeout_ns.max(1) as f64).min(1.0)
}

/// The score of something that takes so long: 80 where it begins to be felt, 30 at ten times that.
fn slowness(us: f64, from_us: f64) -> Option<f64> {
    (us >= from_us).then(|| 80.0 - 50.0 * ((us / from_us).log10()).clamp(0.0, 1.0))
}

/// `812 kB`, in thousands.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// `0.3 ms`, `612 ms`, `5.4 s`, `12 min`.
fn time_us(us: f64) -> String {
    match us {
        us if us < 10_000.0 => format!("{:.1} ms", us / 1_000.0),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1_000.0),
        us if us < 120e6 => format!("{:.1} s", us / 1e6),
        us => format!("{:.0} min", us / 60e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn well() -> Signs {
        Signs {
            tcp_rtt_us: 300,
            heartbeat_rtt_ns: 1_200_000,
            segments: 10_000,
            session_age_ns: 3_600 * S,
            slow_after_ns: 30 * S,
            heartbeat_timeout_ns: 10 * S,
            ..Signs::default()
        }
    }

    fn tcp(unsent_bytes: u32, unacked_bytes: u32) -> Option<TcpSample> {
        Some(TcpSample {
            rtt_us: 300,
            unsent_bytes,
            unacked_bytes,
            segment_bytes: 1_448,
            ..TcpSample::default()
        })
    }

    fn report(handler_us: u32, visible: Option<bool>) -> Option<ClientReport> {
        Some(ClientReport { handler_us: Some(handler_us), visible, ..ClientReport::default() })
    }

    #[track_caller]
    fn check(signs: Signs, cause: Cause, score: std::ops::RangeInclusive<u8>, text: &str) {
        let diagnosis = signs.diagnose();
        assert_eq!(diagnosis.cause, cause, "{diagnosis:?}");
        assert!(score.contains(&diagnosis.score), "{diagnosis:?}");
        assert_eq!(signs.explain(cause), text);
    }

    #[test]
    fn nothing_stands_out_of_a_connection_that_is_well() {
        check(well(), Cause::Healthy, 100..=100, "nothing stands out");
        check(Signs { retransmits: 4, ..well() }, Cause::Healthy, 100..=100, "nothing stands out");
    }

    #[test]
    fn a_closed_window_is_the_clients_fault_and_an_open_one_is_not() {
        let stuck = Signs { queued_bytes: 812_000, stuck_ns: 5 * S, tcp: tcp(65_536, 0), ..well() };
        let text = "812 kB wait for it and its receive window is closed: the client does not read";
        check(stuck, Cause::ClientNotReading, 33..=33, text);
        let about_to_be_closed = Signs { stuck_ns: 30 * S, ..stuck };
        check(about_to_be_closed, Cause::ClientNotReading, 0..=0, text);
        let open = Signs { tcp: tcp(65_536, 30_000), ..stuck };
        let text = "812 kB wait for it though it reads: more is sent to it than it can take";
        check(open, Cause::TooMuch, 60..=65, text);
        let announced = |peer_window_bytes| {
            let tcp = stuck.tcp.map(|tcp| TcpSample { peer_window_bytes, ..tcp });
            Signs { tcp, ..stuck }.diagnose().cause
        };
        assert_eq!(announced(Some(100)), Cause::ClientNotReading, "less than a segment fits");
        assert_eq!(announced(Some(100_000)), Cause::TooMuch, "the window is open, whatever was sent");
    }

    #[test]
    fn one_that_reads_behind_is_sent_too_much() {
        let text = "it reads what its full outbox could not take: more is sent to it than it reads";
        check(Signs { lagging: true, ..well() }, Cause::TooMuch, 70..=70, text);
    }

    #[test]
    fn a_long_way_is_the_networks_fault_and_more_so_when_something_waits() {
        let far = Signs { tcp_rtt_us: 450_000, heartbeat_rtt_ns: 460_000_000, ..well() };
        check(far, Cause::NetworkSlow, 50..=60, "the network's round trip is 450 ms");
        let text = "the network's round trip is 450 ms, and 9 kB wait";
        check(Signs { queued_bytes: 9_000, stuck_ns: S, ..far }, Cause::NetworkSlow, 45..=49, text);
    }

    #[test]
    fn segments_sent_again_are_the_networks_fault_from_a_share_on() {
        let lossy = Signs { retransmits: 400, segments: 10_000, ..well() };
        check(lossy, Cause::NetworkLossy, 65..=70, "TCP had to send 400 of about 10000 segments again");
        assert_eq!(Signs { segments: 100_000, ..lossy }.diagnose().cause, Cause::Healthy);
        let waiting = Signs { queued_bytes: 1_500_000, ..lossy };
        assert_eq!(waiting.diagnose(), Diagnosis { score: 45, cause: Cause::NetworkLossy });
    }

    #[test]
    fn late_answers_are_the_clients_unless_it_says_that_it_is_quick() {
        let late = Signs { heartbeat_rtt_ns: 400_000_000, ..well() };
        let text = "it answers pings after 400 ms, 0.3 ms of which are the network's: the client is busy";
        check(late, Cause::ClientBusy, 45..=55, text);
        let quick = Signs { report: report(2_000, Some(true)), ..late };
        let text = "it answers pings after 400 ms though its handlers are quick and TCP's round trip is 0.3 ms: \
                    the way behind the next proxy is slow";
        check(quick, Cause::NetworkSlow, 45..=55, text);
        let slow = Signs { report: report(700_000, Some(true)), ..well() };
        check(slow, Cause::ClientBusy, 30..=40, "its slowest handler took 700 ms: the client is busy");
        let hidden = Signs { report: report(700_000, Some(false)), ..well() };
        let text = "its slowest handler took 700 ms: its page is hidden, and browsers slow such pages down";
        check(hidden, Cause::ClientHidden, 80..=80, text);
    }

    #[test]
    fn silence_counts_from_a_third_of_its_time_out_on() {
        let silent = Signs { awaited_ns: 5 * S, ..well() };
        check(silent, Cause::Silent, 25..=25, "it has not answered a ping for 5.0 s");
        assert_eq!(Signs { awaited_ns: S, ..well() }.diagnose().cause, Cause::Healthy);
    }

    #[test]
    fn reconnections_count_by_the_hour() {
        let often = Signs { reconnections: 10, session_age_ns: 600 * S, ..well() };
        check(often, Cause::Unstable, 45..=50, "it has reconnected 10 times in 10 min");
        assert_eq!(Signs { reconnections: 3, ..well() }.diagnose().cause, Cause::Healthy);
        assert_eq!(Signs { reconnections: 2, session_age_ns: S, ..well() }.diagnose().cause, Cause::Healthy);
    }

    #[test]
    fn limits_and_absence_are_named_and_the_worst_counts() {
        let limited = Signs { limited: true, ..well() };
        check(limited, Cause::RateLimited, 85..=85, "it sends more messages than it may: some were refused");
        assert_eq!(Signs { awaited_ns: 9 * S, ..limited }.diagnose().cause, Cause::Silent);
        let away = Signs { detached: true, limited: true, ..well() };
        check(away, Cause::Detached, 60..=60, "it has no connection and may come back");
    }
}
