//! A way besides WebSocket.
//!
//! The client has the place for one and ships none: what uses this crate is rarely behind a proxy that lets no WebSocket
//! through. The rules when one is tried and when it is left are the machine's, and the same for every client.

use std::fmt;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::tracker::Start;
use crate::trust::Trust;
use crate::url::Endpoint;

/// What a [`Fallback`] does until it is dropped.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads the channels in another way while WebSocket does not get through. Publishes wait meanwhile.
pub trait Fallback: Send + Sync + fmt::Debug {
    /// Begins. The future is dropped when WebSocket works again; one that ends by itself counts as failed.
    fn run(&self, host: FallbackHost) -> Running;
}

/// What a fallback may use of its client.
#[derive(Debug)]
pub struct FallbackHost {
    /// The server.
    pub endpoint: Endpoint,
    /// Who may vouch for its certificate.
    pub trust: Trust,
    /// The newest token.
    pub token: Option<String>,
    /// The session that fell back, for the server's count (R90).
    pub session: Option<String>,
    /// The channels, with where to go on.
    pub channels: Vec<(String, Start)>,
    pub(crate) reports: mpsc::Sender<Report>,
}

#[derive(Debug)]
pub(crate) enum Report {
    Message(String),
    Succeeded,
    Failed,
}

impl FallbackHost {
    /// Hands on a message of the server as if it had come over the socket; what is known already is dropped. Waits while
    /// 64 are waiting.
    pub async fn deliver(&self, message: String) {
        let _ = self.reports.send(Report::Message(message)).await;
    }

    /// Service was had. The first one makes the client say `polling`.
    pub async fn succeeded(&self) {
        let _ = self.reports.send(Report::Succeeded).await;
    }

    /// Service was not had. The first try that fails, and three in a row, end the fallback until it is tried again.
    pub async fn failed(&self) {
        let _ = self.reports.send(Report::Failed).await;
    }
}

/// A fallback that runs; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Handle {
    reports: mpsc::Receiver<Report>,
    task: AbortHandle,
}

impl Handle {
    pub(crate) fn new(reports: mpsc::Receiver<Report>, running: Running) -> Handle {
        Handle { reports, task: tokio::spawn(running).abort_handle() }
    }

    /// What it says next; none once it has ended.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
