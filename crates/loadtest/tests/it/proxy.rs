//! The misbehaving network does what it is told and nothing else.

mod control;
mod faults;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pulsewire_loadtest::proxy::{Direction, Proxy};

/// Longer than anything takes that does not fail.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client and the server's end of its connection through a proxy.
fn pair() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let client = TcpStream::connect(proxy.address).unwrap();
    let (server, _) = listener.accept().unwrap();
    for side in [&client, &server] {
        side.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (proxy, client, server)
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).unwrap();
    let mut heard = vec![0; text.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text.as_bytes());
}

fn ends(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0; 16]).map_err(|error| error.kind())
}

#[test]
fn bytes_pass_both_ways_and_the_end_follows_them() {
    let (_proxy, mut client, mut server) = pair();
    pass(&mut client, &mut server, "there");
    pass(&mut server, &mut client, "and back");
    drop(client);
    assert_eq!(ends(&mut server), Ok(0));
}

#[test]
fn a_delay_is_that_of_its_direction() {
    let (proxy, mut client, mut server) = pair();
    proxy.delay(Direction::ToServer, Duration::from_millis(30));
    let began = Instant::now();
    pass(&mut client, &mut server, "late");
    assert!(began.elapsed() >= Duration::from_millis(30));
    pass(&mut server, &mut client, "whenever");
}

#[test]
fn what_falls_into_a_black_hole_never_comes_and_nobody_is_told() {
    let (proxy, mut client, mut server) = pair();
    pass(&mut client, &mut server, "before");
    proxy.black_hole(Direction::ToServer, true);
    client.write_all(b"lost").unwrap();
    pass(&mut server, &mut client, "the other way");
    server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(ends(&mut server), Err(ErrorKind::WouldBlock), "neither bytes nor an end");
    proxy.black_hole(Direction::ToServer, false);
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    pass(&mut client, &mut server, "after");
}

#[test]
fn a_cut_is_an_end_and_a_reset_is_a_reset() {
    let (proxy, mut client, mut server) = pair();
    pass(&mut client, &mut server, "here");
    proxy.cut();
    assert_eq!((ends(&mut client), ends(&mut server)), (Ok(0), Ok(0)));
    let (proxy, mut client, mut server) = pair();
    pass(&mut client, &mut server, "here");
    proxy.reset();
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!((ends(&mut client), ends(&mut server)), (reset, reset));
    assert_eq!(proxy.connections(), 0);
}
