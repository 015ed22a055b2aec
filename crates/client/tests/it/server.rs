//! A server that does what a test tells it.

use pulsewire_client::handshake::accept_key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Server {
    listener: TcpListener,
}

pub(crate) struct Peer {
    stream: TcpStream,
    /// The upgrade request.
    pub(crate) request: String,
    /// The connect frame.
    pub(crate) hello: String,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.listener.local_addr().unwrap())
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let request = read_head(&mut stream).await;
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(key)
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        Peer { stream, request, hello: String::new() }
    }

    pub(crate) async fn refuse(&self, status: &str) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    /// Answers so many requests on one connection.
    pub(crate) async fn answer_http(&self, requests: usize, status: &str) -> TcpStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        for _ in 0..requests {
            let head = read_head(&mut stream).await;
            assert!(head.contains("Content-Length: 2"), "{head}");
            stream.read_exact(&mut [0; 2]).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        stream
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

impl Peer {
    pub(crate) async fn text(&mut self, text: &str) {
        self.frame(1, text.as_bytes()).await;
    }

    pub(crate) async fn frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        if payload.len() < 126 {
            frame.push(payload.len() as u8);
        } else {
            frame.push(126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    pub(crate) async fn read(&mut self) -> (u8, Vec<u8>) {
        let first = self.stream.read_u8().await.unwrap();
        let second = self.stream.read_u8().await.unwrap();
        assert_eq!(second & 0x80, 0x80, "clients mask");
        let len = match second & 0x7f {
            126 => usize::from(self.stream.read_u16().await.unwrap()),
            len => usize::from(len),
        };
        let mut mask = [0; 4];
        self.stream.read_exact(&mut mask).await.unwrap();
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        (first & 0x0f, payload)
    }

    pub(crate) async fn read_text(&mut self) -> String {
        let (opcode, payload) = self.read().await;
        assert_eq!(opcode, 1);
        String::from_utf8(payload).unwrap()
    }
}
