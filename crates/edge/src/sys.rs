//! What the kernel knows about a socket, a thread and the process.
//!
//! The only unsafe code of the project: socket options, clocks and limits that no safe crate offers. Each
//! function is one system call on a borrowed descriptor with a buffer of its own, so nothing here can
//! dangle or be left half done. Linux only; elsewhere reads return `None` and settings report
//! `Unsupported`, and the callers do without: every figure from here is an observation or a hint.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "system calls no safe crate offers"))]

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(not(target_os = "linux"))]
use unsupported as platform;

/// One reading of `TCP_INFO`. A figure this kernel is too old to report is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpInfo {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Mean deviation of the round-trip time.
    pub rtt_variance: Duration,
    /// Segments sent and not yet acknowledged.
    pub unacked_segments: u32,
    /// Segments sent again since the connection began.
    pub retransmitted_segments: u32,
    /// Congestion window, in segments of `segment_bytes`.
    pub congestion_window_segments: u32,
    /// Payload bytes of a full segment.
    pub segment_bytes: u32,
    /// Time since the peer last acknowledged something, in the kernel's milliseconds.
    pub last_ack_received: Duration,
    /// Payload bytes the peer has acknowledged since the connection began.
    pub acked_bytes: Option<u64>,
    /// Bytes written by us and not yet sent for the first time.
    pub notsent_bytes: Option<u32>,
    /// Payload bytes sent since the connection began, repeats included.
    pub sent_bytes: Option<u64>,
    /// The kernel's estimate of what the path delivers, in bytes a second.
    pub delivery_bytes_per_second: Option<u64>,
    /// Segments that are out and held for lost.
    pub lost_segments: u32,
    /// Segments with payload sent since the connection began, repeats included.
    pub sent_segments: Option<u32>,
    /// For how long there was something to be sent since the connection began.
    pub busy: Option<Duration>,
    /// … and for how long of that the peer had no room.
    pub receive_window_limited: Option<Duration>,
    /// … and for how long our send buffer was what held it up.
    pub send_buffer_limited: Option<Duration>,
    /// The window that the peer has announced, in bytes (Linux 5.4).
    pub peer_window_bytes: Option<u32>,
}

/// Reads `TCP_INFO`; `None` if the descriptor is not a TCP socket or the platform has no such thing.
#[must_use]
pub fn tcp_info(socket: &impl AsFd) -> Option<TcpInfo> {
    platform::tcp_info(socket.as_fd())
}

/// Bytes in the kernel's send queue, sent and unacknowledged ones included (`SIOCOUTQ`).
#[must_use]
pub fn send_queue_bytes(socket: &impl AsFd) -> Option<usize> {
    platform::send_queue_bytes(socket.as_fd())
}

/// The kernel memory the socket's send queue may take, overhead included (`SO_SNDBUF`, which the kernel
/// reports doubled).
#[must_use]
pub fn send_buffer_bytes(socket: &impl AsFd) -> Option<usize> {
    platform::send_buffer_bytes(socket.as_fd())
}

/// Reports the socket as writable only while fewer than `bytes` are unsent (`TCP_NOTSENT_LOWAT`), so that
/// a lagging reader's queue grows in our outbox, where it can be dropped, rather than in the kernel.
///
/// # Errors
///
/// What `setsockopt` answers; the connection works without the option.
pub fn set_notsent_low_water(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    platform::set_notsent_low_water(socket.as_fd(), bytes)
}

/// Breaks the connection once sent bytes stay unacknowledged for `timeout` (`TCP_USER_TIMEOUT`, RFC 5482),
/// rather than after the kernel's default of some 15 minutes. Rounded down to milliseconds; zero restores
/// the default.
///
/// # Errors
///
/// What `setsockopt` answers; the connection works without the option.
pub fn set_user_timeout(socket: &impl AsFd, timeout: Duration) -> io::Result<()> {
    platform::set_user_timeout(socket.as_fd(), timeout)
}

/// Sends small writes at once (`TCP_NODELAY`): the shard coalesces, so the kernel need not wait.
///
/// # Errors
///
/// What `setsockopt` answers; the connection works without the option.
pub fn set_nodelay(socket: &impl AsFd) -> io::Result<()> {
    platform::set_nodelay(socket.as_fd())
}

/// CPU time the calling thread has used, in user space and kernel.
#[must_use]
pub fn thread_cpu_time() -> Option<Duration> {
    platform::thread_cpu_time()
}

/// Nanoseconds of `CLOCK_MONOTONIC`: since the machine started, not counting sleep, never going back.
#[must_use]
pub fn monotonic_ns() -> Option<u64> {
    platform::monotonic_ns()
}

/// The process's limit of open files, before and after raising it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFilesLimit {
    /// The soft limit the process was started with.
    pub before: u64,
    /// The soft limit now in force.
    pub now: u64,
}

/// Raises the soft limit of open files to the hard limit; each connection needs one descriptor, and the
/// usual soft limit of 1,024 would be reached first. A refusal leaves the limit as it was, which the
/// answer shows.
#[must_use]
pub fn raise_open_files_limit() -> Option<OpenFilesLimit> {
    platform::raise_open_files_limit()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::{offset_of, size_of};
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::time::Duration;

    use libc::{c_int, c_void, socklen_t};

    use super::{OpenFilesLimit, TcpInfo};

    /// `struct tcp_info` of `linux/tcp.h` up to Linux 5.4, the last field we read. The C library's copy
    /// ends earlier. The kernel only ever appends, and writes as much as both sides know.
    #[repr(C)]
    #[derive(Default)]
    struct RawTcpInfo {
        state_to_flags: [u8; 8],
        rto: u32,
        ato: u32,
        snd_mss: u32,
        rcv_mss: u32,
        unacked: u32,
        sacked: u32,
        lost: u32,
        retrans: u32,
        fackets: u32,
        last_data_sent: u32,
        last_ack_sent: u32,
        last_data_recv: u32,
        last_ack_recv: u32,
        pmtu: u32,
        rcv_ssthresh: u32,
        rtt: u32,
        rttvar: u32,
        snd_ssthresh: u32,
        snd_cwnd: u32,
        advmss: u32,
        reordering: u32,
        rcv_rtt: u32,
        rcv_space: u32,
        total_retrans: u32,
        pacing_rate: u64,
        max_pacing_rate: u64,
        bytes_acked: u64,
        bytes_received: u64,
        segs_out: u32,
        segs_in: u32,
        notsent_bytes: u32,
        min_rtt: u32,
        data_segs_in: u32,
        data_segs_out: u32,
        delivery_rate: u64,
        busy_time: u64,
        rwnd_limited: u64,
        sndbuf_limited: u64,
        delivered: u32,
        delivered_ce: u32,
        bytes_sent: u64,
        bytes_retrans: u64,
        dsack_dups: u32,
        reord_seen: u32,
        rcv_ooopack: u32,
        snd_wnd: u32,
    }

    // Offsets of the kernel's structure: a slip in the list above fails to compile.
    const _: () = assert!(
        offset_of!(RawTcpInfo, rtt) == 68
            && offset_of!(RawTcpInfo, total_retrans) == 100
            && offset_of!(RawTcpInfo, bytes_acked) == 120
            && offset_of!(RawTcpInfo, notsent_bytes) == 144
            && offset_of!(RawTcpInfo, delivery_rate) == 160
            && offset_of!(RawTcpInfo, bytes_sent) == 200
            && offset_of!(RawTcpInfo, snd_wnd) == 228
    );

    pub(super) fn tcp_info(socket: BorrowedFd<'_>) -> Option<TcpInfo> {
        let mut raw = RawTcpInfo::default();
        let mut len = size_of::<RawTcpInfo>() as socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, the size of `raw`, which is exclusively ours; every
        // field is a plain integer without invalid values, and there is no padding that is read.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut raw).cast::<c_void>(),
                &raw mut len,
            )
        };
        let written = len as usize;
        // What every kernel we support reports; less is not a TCP_INFO.
        if answer != 0 || written < offset_of!(RawTcpInfo, pacing_rate) {
            return None;
        }
        let micros = |value: u32| Duration::from_micros(u64::from(value));
        let long = Duration::from_micros;
        Some(TcpInfo {
            rtt: micros(raw.rtt),
            rtt_variance: micros(raw.rttvar),
            unacked_segments: raw.unacked,
            retransmitted_segments: raw.total_retrans,
            congestion_window_segments: raw.snd_cwnd,
            segment_bytes: raw.snd_mss,
            last_ack_received: Duration::from_millis(u64::from(raw.last_ack_recv)),
            acked_bytes: (written >= offset_of!(RawTcpInfo, bytes_received)).then_some(raw.bytes_acked),
            notsent_bytes: (written >= offset_of!(RawTcpInfo, min_rtt)).then_some(raw.notsent_bytes),
            sent_bytes: (written >= offset_of!(RawTcpInfo, bytes_retrans)).then_some(raw.bytes_sent),
            delivery_bytes_per_second: (written >= offset_of!(RawTcpInfo, busy_time))
                .then_some(raw.delivery_rate),
            lost_segments: raw.lost,
            sent_segments: (written >= offset_of!(RawTcpInfo, delivery_rate)).then_some(raw.data_segs_out),
            busy: (written >= offset_of!(RawTcpInfo, delivered)).then(|| long(raw.busy_time)),
            receive_window_limited: (written >= offset_of!(RawTcpInfo, delivered))
                .then(|| long(raw.rwnd_limited)),
            send_buffer_limited: (written >= offset_of!(RawTcpInfo, delivered))
                .then(|| long(raw.sndbuf_limited)),
            peer_window_bytes: (written >= size_of::<RawTcpInfo>()).then_some(raw.snd_wnd),
        })
    }

    pub(super) fn send_queue_bytes(socket: BorrowedFd<'_>) -> Option<usize> {
        let mut bytes: c_int = 0;
        // `SIOCOUTQ` of `linux/sockios.h` is the same request as `TIOCOUTQ`.
        // SAFETY: the request writes one int through the pointer, which is valid for the call.
        let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if answer == 0 { usize::try_from(bytes).ok() } else { None }
    }

    pub(super) fn send_buffer_bytes(socket: BorrowedFd<'_>) -> Option<usize> {
        let mut bytes: c_int = 0;
        let mut len = size_of::<c_int>() as socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, the size of `bytes`, valid for the call.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw mut bytes).cast::<c_void>(),
                &raw mut len,
            )
        };
        if answer == 0 { usize::try_from(bytes).ok() } else { None }
    }

    pub(super) fn set_notsent_low_water(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
        set_tcp_option(socket, libc::TCP_NOTSENT_LOWAT, bytes)
    }

    pub(super) fn set_user_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).min(c_int::MAX as u32);
        set_tcp_option(socket, libc::TCP_USER_TIMEOUT, millis)
    }

    pub(super) fn set_nodelay(socket: BorrowedFd<'_>) -> io::Result<()> {
        set_tcp_option(socket, libc::TCP_NODELAY, 1)
    }

    fn set_tcp_option(socket: BorrowedFd<'_>, option: c_int, value: u32) -> io::Result<()> {
        // SAFETY: the kernel reads the stated four bytes of `value`, valid for the call.
        let answer = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                option,
                (&raw const value).cast::<c_void>(),
                size_of::<u32>() as socklen_t,
            )
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn thread_cpu_time() -> Option<Duration> {
        clock(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    pub(super) fn monotonic_ns() -> Option<u64> {
        clock(libc::CLOCK_MONOTONIC).and_then(|time| u64::try_from(time.as_nanos()).ok())
    }

    fn clock(clock: libc::clockid_t) -> Option<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one `timespec` through the pointer, valid for the call.
        let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
        if answer != 0 {
            return None;
        }
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }

    pub(super) fn raise_open_files_limit() -> Option<OpenFilesLimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one `rlimit` through the pointer, valid for the call.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
            return None;
        }
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads one `rlimit` through the pointer, valid for the call.
        let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
        Some(OpenFilesLimit { before, now: if raised { limit.rlim_cur } else { before } })
    }
}

#[cfg(not(target_os = "linux"))]
mod unsupported {
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::time::Duration;

    use super::{OpenFilesLimit, TcpInfo};

    pub(super) fn tcp_info(_: BorrowedFd<'_>) -> Option<TcpInfo> {
        None
    }

    pub(super) fn send_queue_bytes(_: BorrowedFd<'_>) -> Option<usize> {
        None
    }

    pub(super) fn send_buffer_bytes(_: BorrowedFd<'_>) -> Option<usize> {
        None
    }

    pub(super) fn set_notsent_low_water(_: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn set_user_timeout(_: BorrowedFd<'_>, _: Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn set_nodelay(_: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn thread_cpu_time() -> Option<Duration> {
        None
    }

    pub(super) fn monotonic_ns() -> Option<u64> {
        None
    }

    pub(super) fn raise_open_files_limit() -> Option<OpenFilesLimit> {
        None
    }
}
