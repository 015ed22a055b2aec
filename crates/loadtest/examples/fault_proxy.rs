//! A network that misbehaves when told to, for tests in any language.
//!
//! `fault_proxy --to 127.0.0.1:PORT` says where it listens and then obeys lines of JSON on standard input until they end;
//! see `pulsewire_loadtest::proxy::control` for the lines and `pulsewire_loadtest::proxy::Fault` for the faults.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use pulsewire_loadtest::proxy::{Proxy, control};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, to] = arguments.as_slice() else { bail!("usage: fault_proxy --to 127.0.0.1:PORT") };
    if flag != "--to" {
        bail!("unknown argument {flag}; usage: fault_proxy --to 127.0.0.1:PORT");
    }
    let to: SocketAddr = to.parse().with_context(|| format!("{to} is not an address and a port"))?;
    let proxy = Proxy::start(to)?;
    Ok(control::serve(&proxy, std::io::stdin().lock(), std::io::stdout().lock())?)
}
