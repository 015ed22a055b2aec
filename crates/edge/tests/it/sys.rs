//! The kernel's figures over a loopback connection.
#![cfg(target_os = "linux")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pulsewire_edge::sys;

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

#[test]
fn acknowledged_bytes_grow_with_what_the_peer_received() {
    let (mut server, mut client) = connected();
    let before = sys::tcp_info(&server).unwrap().acked_bytes.unwrap();
    server.write_all(&[7; 10_000]).unwrap();
    client.read_exact(&mut [0; 10_000]).unwrap();
    // An answer carries the acknowledgement of everything before it.
    client.write_all(b"!").unwrap();
    server.read_exact(&mut [0; 1]).unwrap();
    let info = sys::tcp_info(&server).unwrap();
    assert_eq!(info.acked_bytes.unwrap() - before, 10_000);
    assert!(info.sent_bytes.unwrap() >= 10_000);
    assert!(info.rtt > Duration::ZERO);
    assert!(info.congestion_window_segments > 0 && info.segment_bytes > 0);
    assert_eq!((info.unacked_segments, info.notsent_bytes), (0, Some(0)));
    assert_eq!(sys::send_queue_bytes(&server), Some(0));
}

#[test]
fn unsent_bytes_stay_near_the_low_water_mark_when_the_peer_does_not_read() {
    let (mut server, client) = connected();
    sys::set_notsent_low_water(&server, 64 * 1024).unwrap();
    sys::set_nodelay(&server).unwrap();
    assert!(server.nodelay().unwrap());
    server.set_nonblocking(true).unwrap();
    let mut written = 0;
    // The kernel stops taking bytes by itself: 64 MiB would only be reached if it did not.
    while written < 64 << 20 {
        match server.write(&[0; 16 * 1024]) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let info = sys::tcp_info(&server).unwrap();
    let notsent_bytes = info.notsent_bytes.unwrap() as usize;
    let queued_bytes = sys::send_queue_bytes(&server).unwrap();
    assert!(written < 64 << 20, "{written} bytes taken");
    assert!(notsent_bytes <= 128 * 1024, "{notsent_bytes} bytes unsent");
    assert!(
        queued_bytes > 0 && queued_bytes >= notsent_bytes,
        "{queued_bytes} queued, {notsent_bytes} unsent"
    );
    assert!(sys::send_buffer_bytes(&server).unwrap() > 0);
    drop(client);
}

#[test]
fn a_user_timeout_is_accepted_and_clamped() {
    let (server, _client) = connected();
    sys::set_user_timeout(&server, Duration::from_secs(30)).unwrap();
    sys::set_user_timeout(&server, Duration::MAX).unwrap();
    sys::set_user_timeout(&server, Duration::ZERO).unwrap();
}

#[test]
fn a_socket_that_is_not_tcp_has_no_tcp_info() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(sys::tcp_info(&socket), None);
    assert!(sys::set_nodelay(&socket).is_err());
}

#[test]
fn clocks_never_go_back() {
    let (wall, cpu) = (sys::monotonic_ns().unwrap(), sys::thread_cpu_time().unwrap());
    let sum: u64 = std::hint::black_box((0..1_000_000u64).fold(0, |sum, n| sum ^ std::hint::black_box(n)));
    assert_eq!(sum, (0..1_000_000u64).fold(0, |sum, n| sum ^ n));
    assert!(sys::monotonic_ns().unwrap() > wall);
    assert!(sys::thread_cpu_time().unwrap() > cpu);
}

#[test]
fn the_open_files_limit_is_raised_once() {
    let first = sys::raise_open_files_limit().unwrap();
    assert!(first.now >= first.before);
    let second = sys::raise_open_files_limit().unwrap();
    assert_eq!((second.before, second.now), (first.now, first.now));
}
