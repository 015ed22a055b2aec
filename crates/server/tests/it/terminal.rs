//! The commands for people at a terminal, as the real program runs them.

mod doctor;
mod fixture;
mod lists;
mod real;
mod replay;
mod top;
mod upstreams;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use pulsewire_hub::Role;

use crate::child::{Ended, pulsewire, run};
use crate::harness::{Server, until};

/// Runs a command against a server, with a token of this role.
fn against(server: &Server, role: Role, arguments: &[&str]) -> Ended {
    let mut command = pulsewire();
    command.args(arguments);
    command.args(["--url", &format!("ws://{}", server.address), "--token", &server.token("ada", role)]);
    run(&mut command)
}

#[test]
fn completions_name_the_commands_and_their_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(pulsewire().args(["completions", shell]));
        assert_eq!(ended.code, Some(0), "{shell}");
        for word in ["doctor", "replay", "silence", "upstreams", "judge", "no-progress"] {
            assert!(ended.out.contains(word), "{word} for {shell}");
        }
    }
}

#[test]
fn what_would_go_on_for_ever_ends_when_nobody_reads_it() {
    let server = Server::start("");
    let mut command = pulsewire();
    command.args(["stat", "--interval", "100ms", "--url", &format!("ws://{}", server.address)]);
    command.args(["--token", &server.token("ada", Role::Viewer)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("TIME"), "{first}");
    let mut ended = None;
    until("it ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success(), "{ended:?}");
}
