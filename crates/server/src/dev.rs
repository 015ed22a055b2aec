//! What `--dev` tells the person in front of it.
//!
//! A token, a place to look and two lines to try; the same in a file that `pulsewire tail` and
//! `pulsewire publish` read, so that a second terminal needs no typing.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use pulsewire_edge::clock;
use pulsewire_hub::{Actions, Role};
use pulsewire_protocol::ChannelPattern;

use crate::auth::{NewToken, Signer};
use crate::settings::Settings;

/// How long the token lives.
const TTL: Duration = Duration::from_secs(24 * 3_600);
/// The file, in the data folder.
pub const FILE: &str = "dev.json";

/// Makes a token, writes it to the file and prints what can be done. Returns the file's path.
///
/// # Errors
///
/// If the key cannot sign or the file cannot be written.
pub fn announce(settings: &Settings, address: SocketAddr) -> anyhow::Result<PathBuf> {
    let read = |path: &std::path::Path| fs::read_to_string(path);
    let signer = Signer::new(settings, &read).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let all = ChannelPattern::parse("*").context("a pattern for all channels")?;
    let token = NewToken {
        sub: "dev".to_owned(),
        role: Role::Admin,
        ttl: TTL,
        channels: vec![all],
        actions: Actions::ALL,
    };
    let token = signer.sign(&token, clock::now().wall_ms)?;
    let folder = &settings.server.data_dir;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let path = folder.join(FILE);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let (http, ws) = if settings.tls.is_set() { ("https", "wss") } else { ("http", "ws") };
    let content = serde_json::json!({ "url": format!("{http}://{address}"), "token": token });
    writeln!(file, "{content}")?;
    print(http, ws, address, &token, settings.dashboard.enabled);
    Ok(path)
}

#[expect(clippy::print_stdout, reason = "this is what the command is asked for")]
fn print(http: &str, ws: &str, address: SocketAddr, token: &str, dashboard: bool) {
    // What stands behind `#` is never sent to the server.
    let dashboard =
        if dashboard { format!("  dashboard    {http}://{address}/#token={token}\n") } else { String::new() };
    println!(
        "\
pulsewire {version}   dev mode: for this machine only

  listening on {http}://{address}
  WebSocket    {ws}://{address}/ws
  metrics      {http}://{address}/metrics
{dashboard}  token        {token}
               (user dev, role admin, 24 h)

try, in another terminal:
  export PULSEWIRE_TOKEN={token}
  curl -N -s {http}://{address}/health/websocket
  curl -s {http}://{address}/api/publish -H \"Authorization: Bearer $PULSEWIRE_TOKEN\" \\
    -d '{{\"channel\":\"demo\",\"type\":\"hello\",\"data\":{{\"text\":\"it works\"}}}}'
  pulsewire tail system.metrics demo
",
        version = env!("CARGO_PKG_VERSION"),
    );
}
