//! `pulsewire backup`, beside a server that is writing, and what a server makes of the copy.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::child::{Ended, Folder, pulsewire, run};
use crate::harness::Server;

fn serve(data: &Path) -> Server {
    Server::start(&format!("[server]\ndata_dir = \"{}\"\n[store]\nurl = \"sqlite\"\n", data.display()))
}

fn back_up(data: &Path, to: &Path, more: &[&str]) -> Ended {
    let mut command = pulsewire();
    command.arg("backup").arg(to).arg("--data").arg(data).args(more);
    // Whoever copies needs no key.
    run(&mut command)
}

#[test]
fn a_backup_beside_a_server_that_writes_has_everything_acknowledged_before_it_under_an_epoch_of_its_own() {
    let folder = Folder::new();
    let (data, copies) = (folder.path().join("data"), folder.path().join("copies"));
    let server = serve(&data);
    let note = |n: u64| json!({"channel": "run:1", "type": "note", "data": {"n": n}, "id": format!("m{n}")});
    let mut last = json!(null);
    for n in 1..=200 {
        last = server.publish(&note(n));
    }
    let (done, going) = (AtomicBool::new(false), AtomicBool::new(false));
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 201.. {
                server.publish(&note(n));
                going.store(true, Ordering::Relaxed);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        crate::harness::until("somebody publishes", || going.load(Ordering::Relaxed));
        let ended = back_up(&data, &copies, &[]);
        done.store(true, Ordering::Relaxed);
        ended
    });
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let copy = copies.join("pulsewire.db");
    assert!(ended.out.contains(&copy.display().to_string()), "{}", ended.out);
    assert!(copies.join("metrics.db").exists() && !copies.join("pulsewire.partial").exists());
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);

    // The folder of copies is a data folder.
    let restored = serve(&copies);
    let again = restored.publish(&note(200));
    assert_eq!((&again["duplicate"], &again["sequence"]), (&json!(true), &json!(200)), "{again}");
    assert_ne!(again["epoch"], last["epoch"], "another history");
    let mut socket = restored.welcomed("ann");
    let since = json!({"epoch": last["epoch"], "sequence": 200});
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "since": since}]}));
    assert_eq!(socket.json()["type"], "subscribed");
    let told = socket.json();
    assert_eq!(told["type"], "reset", "{told}");
}

#[test]
fn a_backup_replaces_nothing_and_says_what_it_cannot_copy() {
    let folder = Folder::new();
    let (data, copies) = (folder.path().join("data"), folder.path().join("copies"));
    let server = serve(&data);
    server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
    drop(server);
    assert_eq!(back_up(&data, &copies, &[]).code, Some(0));
    let before = std::fs::read(copies.join("pulsewire.db")).unwrap();
    let again = back_up(&data, &copies, &[]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("is there already"), "{}", again.err);
    assert_eq!(std::fs::read(copies.join("pulsewire.db")).unwrap(), before);

    let nothing = back_up(&folder.path().join("empty"), &folder.path().join("none"), &[]);
    assert_eq!(nothing.code, Some(1), "{}", nothing.err);
    for (url, said) in [("memory", "in memory only"), ("postgres://u@h/d", "pg_dump")] {
        let set = format!("store.url={url}");
        let refused = back_up(&data, &folder.path().join(said), &["--set", &set]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.err.contains(said), "{}", refused.err);
    }
}
