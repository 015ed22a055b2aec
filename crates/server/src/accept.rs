//! The listening socket and what is done with each connection before it is anybody's.
//!
//! There are as many HTTP connections at a time as there are descriptors for them ([`crate::seats`]), so
//! the process does not run out of them; should it, the loop goes on and tries again. A request's head
//! must be complete within the handshake time; keep-alive connections count against the same time between requests. HTTP/1.1 only: a client that begins with HTTP/2 is
//! answered 400 and closed. At the public address TLS comes first, within a handshake time of its own.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pulsewire_edge::tls::ServerConfig;
use pulsewire_edge::{clock, sys};
use pulsewire_hub::{Failed, FailedStage};
use pulsewire_telemetry::{ConnectionError, RejectReason, RejectStage, TlsResult, limited};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::Layer as _;

use crate::app::App;
use crate::http::access::Remote;
use crate::patient::{Patient, Stalled};
use crate::seats::{Seat, Seats};
use crate::stream::{HandshakeError, SecureStream, Stream};

/// What a connection is told for which there is no place, before anything of it was read.
fn no_place(seconds: u64) -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
}
/// Connections the kernel may hold for us, as far as `net.core.somaxconn` allows.
const BACKLOG: i32 = 4_096;

/// A listening socket with address reuse and a long backlog.
///
/// # Errors
///
/// As `bind` and `listen`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket =
        socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Which of the two addresses it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// For everybody; speaks TLS if there is a certificate.
    Public,
    /// For operators; never speaks TLS.
    Internal,
}

/// Serves a router on a socket until `stop` changes, with as many connections at a time as there are seats.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    door: Door,
    router: Router,
    seats: Arc<Seats>,
    mut stop: watch::Receiver<bool>,
) {
    let agents = Arc::new(crate::agents::Agents::default());
    // A handshake's descriptor becomes the connection's.
    let spare = || match door {
        Door::Public => app.live.load().share.connections_max.saturating_sub(app.hub.admission.connections()),
        Door::Internal => 0,
    };
    loop {
        // Thousands at once would have their turn before everything else that waits for the runtime.
        if door == Door::Public {
            let per_second = app.live.load().settings.limits.handshakes_per_second;
            let wait_ms = app.pace.accept(per_second, clock::now().mono_ms());
            if wait_ms > 0 {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                continue;
            }
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let Some(seat) = seats.take(spare).await else {
                    refuse(&app, &stream, door);
                    continue;
                };
                let peer = Peer { stream, door, seat, stalled: Stalled::default() };
                let router = axum::Extension(Remote::new(remote, app.clone())).layer(
                    axum::Extension(peer.stalled.clone())
                        .layer(axum::Extension(agents.clone()).layer(router.clone())),
                );
                let (app, stop) = (app.clone(), stop.clone());
                tokio::spawn(async move { connection(&app, peer, router, stop).await });
            }
            Err(error) => {
                app.telemetry.shared().connection_failed(ConnectionError::Accept);
                limited!(warn, %error, "a connection could not be accepted");
                // Out of descriptors or memory: what is there goes on, and the next try comes soon.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Performs the TLS handshake; says and counts why there is none.
async fn secure(
    app: &App,
    stream: TcpStream,
    config: Arc<ServerConfig>,
    timeout: Duration,
) -> Option<SecureStream> {
    let shared = app.telemetry.shared();
    let remote = stream.peer_addr();
    let failed = |reason: RejectReason, detail: String| {
        let Ok(remote) = remote else { return };
        app.hub.ledger.write_failed(Failed {
            number: 0,
            at_ms: clock::now().wall_ms,
            remote,
            user_agent: Arc::default(),
            origin: None,
            path: None,
            stage: FailedStage::Tls,
            reason: reason.as_str(),
            status: None,
            detail: detail.into(),
        });
    };
    match tokio::time::timeout(timeout, SecureStream::accept(stream, config)).await {
        Ok(Ok(stream)) => {
            shared.tls_handshake(TlsResult::Completed);
            Some(stream)
        }
        // A balancer looks whether somebody listens.
        Ok(Err(HandshakeError::Silent)) => None,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            failed(RejectReason::BadRequest, error.to_string());
            shared.tls_handshake(TlsResult::Failed);
            shared.connection_failed(ConnectionError::Tls);
            None
        }
        Err(_) => {
            failed(RejectReason::Timeout, "the handshake was not complete in time".to_owned());
            shared.tls_handshake(TlsResult::TimedOut);
            shared.rejected(RejectStage::Accept, RejectReason::Timeout);
            None
        }
    }
}

/// Tells a connection to come back later, if it speaks HTTP at once. Nobody waits for it to hear that.
fn refuse(app: &App, stream: &TcpStream, door: Door) {
    app.telemetry.shared().rejected(RejectStage::Accept, RejectReason::Overloaded);
    if door == Door::Internal || app.tls.in_force().is_none() {
        // What was sent already is taken, for a socket that is closed with bytes unread resets its answer away.
        let _ = stream.try_read(&mut [0; 4_096]);
        let per_second = app.live.load().settings.limits.handshakes_per_second;
        let wait_ms = app.pace.turn_away(per_second, clock::now().mono_ms());
        let _ = stream.try_write(no_place(wait_ms.div_ceil(1_000)).as_bytes());
    }
    limited!(warn, "every HTTP connection is busy; new ones are told to come back later");
}

/// A connection that has come.
struct Peer {
    stream: TcpStream,
    door: Door,
    seat: Seat,
    stalled: Stalled,
}

async fn connection<S>(app: &App, peer: Peer, service: S, mut stop: watch::Receiver<bool>)
where
    S: tower::Service<
            http::Request<hyper::body::Incoming>,
            Response = axum::response::Response,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let Peer { stream, door, seat, stalled } = peer;
    let seat = Arc::new(seat);
    let service = {
        let seat = seat.clone();
        tower::service_fn(move |request| {
            seat.busy();
            let (answer, seat) = (service.clone().call(request), seat.clone());
            async move {
                // The request is answered when all of the answer was taken, not when it begins.
                answer.await.map(|answer| answer.map(|body| Body::new(Held { body, seat })))
            }
        })
    };
    let (timeout, header_bytes_max, headers_max, patience, unsent_bytes_max) = {
        let live = app.live.load();
        let limits = &live.settings.limits;
        (
            limits.handshake_timeout,
            limits.header_bytes_max,
            limits.headers_max,
            limits.slow_after,
            limits.kernel_unsent_bytes,
        )
    };
    let unsent_bytes_max = u32::try_from(unsent_bytes_max).unwrap_or(u32::MAX);
    // A peer that reads slowly costs a bounded part of the kernel's memory, not its whole send buffer.
    let bounded = sys::set_notsent_low_water(&stream, unsent_bytes_max);
    if let Err(error) = stream.set_nodelay(true).and(bounded) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let pair = if door == Door::Public { app.tls.in_force() } else { None };
    let stream = match pair {
        None => Stream::Plain(stream),
        Some(pair) => {
            let secured = tokio::select! {
                secured = secure(app, stream, pair.config.clone(), timeout) => secured,
                () = seat.cut() => {
                    app.telemetry.shared().rejected(RejectStage::Accept, RejectReason::Overloaded);
                    return;
                }
                _ = stop.changed() => return,
            };
            let Some(stream) = secured else { return };
            Stream::Secure(Box::new(stream))
        }
    };
    let stream = Patient::new(stream, patience, stalled, app.telemetry.clone());
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_headers(headers_max)
        .max_buf_size(header_bytes_max.max(8 * 1024));
    let serving =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = seat.cut() => {
            app.telemetry.shared().rejected(RejectStage::Accept, RejectReason::Overloaded);
            return;
        }
        _ = stop.changed() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(Duration::from_secs(1), serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        if error.is_timeout() {
            app.telemetry.shared().rejected(RejectStage::Accept, RejectReason::Timeout);
        } else if error.is_parse() {
            app.telemetry.shared().rejected(RejectStage::Accept, RejectReason::BadRequest);
        }
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

/// An answer's body, whose connection is busy until it is gone.
struct Held {
    body: Body,
    seat: Arc<Seat>,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.seat.waits();
    }
}
