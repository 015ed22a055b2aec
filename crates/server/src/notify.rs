//! What systemd is told of the server (`Type=notify`, `notify-reload`): ready, reloading, stopping, and that it is
//! alive.
//!
//! A message is one datagram to the socket that `NOTIFY_SOCKET` names, as in sd_notify(3); where no such variable is
//! set, nothing happens. Nothing waits for it and nothing depends on it: a message that cannot be sent is logged.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulsewire_edge::clock;
use tokio::task::JoinHandle;

use crate::app::App;

/// Beyond the deadline of a stop, for what is kept and closed after it.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// Who started this process and wants to know how it does.
#[derive(Debug, Clone, Default)]
pub struct Manager {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    /// How long it waits for a sign of life before it starts the server anew.
    watchdog: Option<Duration>,
}

impl Manager {
    /// Whoever the environment names; nobody if it names none.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(&|name| std::env::var_os(name), std::process::id())
    }

    fn new(variable: &dyn Fn(&str) -> Option<OsString>, own_pid: u32) -> Self {
        let Some(path) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let socket = match UnixDatagram::unbound().and_then(|socket| Ok((socket, address(&path)?))) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; the service manager is told nothing");
                return Self::default();
            }
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(own_pid));
        let watchdog = number("WATCHDOG_USEC").filter(|_| is_ours).map(Duration::from_micros);
        Self { socket: Some(socket.into()), watchdog: watchdog.filter(|span| !span.is_zero()) }
    }

    /// The server listens.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The settings are being read again; [`Manager::ready`] ends it.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::now().mono_ns / 1_000));
    }

    /// The server goes away, which takes until the deadline; it is not to be killed before.
    pub fn stopping(&self, deadline: Duration) {
        let most = (deadline + STOP_SLACK).as_micros();
        self.tell(&format!("STOPPING=1\nSTATUS=sending clients elsewhere\nEXTEND_TIMEOUT_USEC={most}"));
    }

    /// Gives a sign of life, as often as is asked for twice over, while every shard answers. `None` if nobody asks.
    #[must_use]
    pub fn watch(&self, app: &Arc<App>) -> Option<JoinHandle<()>> {
        let every = self.watchdog? / 2;
        let (manager, app) = (self.clone(), app.clone());
        Some(tokio::spawn(async move {
            loop {
                // What stands still while the server goes away has a deadline of its own.
                if !app.scrapes.survey(&app).await.stalled || app.stopping.load(Ordering::Relaxed) {
                    manager.tell("WATCHDOG=1");
                }
                tokio::time::sleep(every).await;
            }
        }))
    }

    fn tell(&self, message: &str) {
        let Some((socket, address)) = self.socket.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "the service manager was not told");
        }
    }
}

/// A path, or behind `@` a name without a file.
fn address(path: &OsStr) -> std::io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(variables: &[(&str, &str)]) -> Manager {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Manager::new(&variable, 7)
    }

    #[test]
    fn messages_go_to_a_name_without_a_file_too() {
        let name = format!("pulsewire-notify-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]).ready("here");
        let mut buffer = [0; 64];
        let length = heard.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=here");
    }

    #[test]
    fn signs_of_life_are_given_to_whoever_asks_this_process() {
        let asked = |variables: &[(&str, &str)]| {
            let all = [&[("NOTIFY_SOCKET", "/run/nobody")], variables].concat();
            manager(&all).watchdog
        };
        assert_eq!(asked(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(30)));
        assert_eq!(
            asked(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")]),
            Some(Duration::from_secs(30))
        );
        assert_eq!(asked(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(asked(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(manager(&[("WATCHDOG_USEC", "30000000")]).watchdog, None);
    }
}
