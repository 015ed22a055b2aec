//! The floor: a process that does nothing but the sends.
//!
//! It accepts the same clients, encodes each publication once, and writes it to every socket in a plain loop. What a
//! server needs beyond this is its own cost. Orders come as lines on standard input: `BURST joined|single AT PAD`, so
//! many publications, each in its own send or all in one, stamped `AT`, with `PAD` bytes of padding.

use std::io::{BufRead, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use pulsewire_client::handshake::accept_key;

/// Serves until the input ends.
///
/// # Errors
///
/// When no socket can be opened or an order cannot be read.
pub fn serve(orders: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(output, "listening on http://{}", listener.local_addr()?)?;
    output.flush()?;
    let readers = Arc::new(Readers::default());
    let accepting = Arc::clone(&readers);
    thread::spawn(move || {
        // A client that cannot be greeted is the generator's to report.
        for stream in listener.incoming().flatten() {
            let _ = accepting.greet(stream);
        }
    });
    for order in orders.lines() {
        readers.send(&order?)?;
    }
    Ok(())
}

#[derive(Default)]
struct Readers {
    streams: Mutex<Vec<TcpStream>>,
    sequence: AtomicU64,
}

impl Readers {
    fn greet(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut head = Vec::new();
        let mut piece = [0; 2048];
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                len => head.extend_from_slice(&piece[..len]),
            }
        }
        let head = String::from_utf8_lossy(&head);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(key)
        )
        .into_bytes();
        // Whoever reads that it is subscribed may order at once: nothing is sent before it is among the readers.
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = self.sequence.load(Ordering::Relaxed);
        frame(
            &format!(
                r#"{{"type":"subscribed","channels":["c"],"positions":{{"c":{{"epoch":"e","sequence":{sequence}}}}}}}"#
            ),
            &mut answer,
        );
        stream.write_all(&answer)?;
        streams.push(stream);
        Ok(())
    }

    fn send(&self, order: &str) -> anyhow::Result<()> {
        let mut words = order.split(' ');
        let mut word = || words.next().with_context(|| format!("unreadable order {order:?}"));
        let burst: u64 = word()?.parse()?;
        let joined = word()? == "joined";
        let at: u64 = word()?.parse()?;
        let pad = "x".repeat(word()?.parse()?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
        let frames: Vec<Vec<u8>> = (0..burst)
            .map(|_| {
                let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
                let text = format!(
                    r#"{{"type":"event","channel":"project:bench-0","sequence":{sequence},"event":"tick","data":{{"at":{at},"pad":"{pad}"}},"timestamp":{now},"user":"dev"}}"#
                );
                let mut bytes = Vec::with_capacity(text.len() + 4);
                frame(&text, &mut bytes);
                bytes
            })
            .collect();
        let writes = if joined { vec![frames.concat()] } else { frames };
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for bytes in &writes {
            // A reader that left is forgotten; the others move up at no cost.
            streams.retain_mut(|stream| stream.write_all(bytes).is_ok());
        }
        Ok(())
    }
}

fn frame(text: &str, out: &mut Vec<u8>) {
    out.push(0x81);
    if text.len() < 126 {
        out.push(text.len() as u8);
    } else {
        out.push(126);
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}
