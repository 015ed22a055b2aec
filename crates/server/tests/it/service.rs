//! The server as service managers see it: what systemd is told over its socket, and `pulsewire health`.

use std::os::unix::net::UnixDatagram;

use crate::child::{Ended, Folder, Process, pulsewire, run};
use crate::harness::{PATIENCE, SECRET, until};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// The next message that is no sign of life.
    fn next(&self) -> String {
        loop {
            let message = self.any();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn wait_for_life(&self) {
        while self.any() != "WATCHDOG=1" {}
    }
}

#[test]
fn systemd_is_told_of_every_state_and_of_life() {
    let folder = Folder::new();
    let socket = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = folder.write("pulsewire.toml", "[server]\nshutdown_deadline = \"5s\"\n");
    let mut command = pulsewire();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000").env("JWT_SECRET_KEY", SECRET);
    let data = folder.path().to_str().unwrap();
    let mut process = Process::serve(command, &["--data", data, "--config", config.to_str().unwrap()]);

    assert_eq!(manager.next(), format!("READY=1\nSTATUS=listening on {}", process.address));
    manager.wait_for_life();
    manager.wait_for_life();

    process.signal("HUP");
    let reloading = manager.next();
    let (first, moment) = reloading.split_once("\nMONOTONIC_USEC=").unwrap();
    assert_eq!(first, "RELOADING=1");
    assert!(moment.parse::<u64>().unwrap() > 0, "{reloading}");
    assert_eq!(manager.next(), "READY=1\nSTATUS=new settings");

    folder.write("pulsewire.toml", "[server]\nshutdown_deadline = \"soon\"\n");
    process.signal("HUP");
    assert!(manager.next().starts_with("RELOADING=1\n"));
    let kept = manager.next();
    assert!(kept.starts_with("READY=1\nSTATUS=old settings"), "{kept}");

    process.signal("TERM");
    let stopping = manager.next();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    // Five seconds of its own and fifteen for what comes after.
    assert!(stopping.ends_with("\nEXTEND_TIMEOUT_USEC=20000000"), "{stopping}");
    assert!(process.wait().0.success());
}

#[test]
fn health_is_an_exit_code_and_finds_the_server_of_the_same_settings() {
    let folder = Folder::new();
    let settings = |listen: &str| {
        let mut command = pulsewire();
        command.current_dir(folder.path()).env("JWT_SECRET_KEY", SECRET);
        command.env("PULSEWIRE_SERVER_LISTEN", listen).env("PULSEWIRE_SERVER_DATA_DIR", folder.path());
        command
    };
    let mut process = Process::serve_as_told(settings("127.0.0.1:0"), &[]);
    let here = process.address.to_string();
    // Whoever asks needs no key.
    let asked = |listen: &str, more: &[&str]| -> Ended {
        run(settings(listen).env_remove("JWT_SECRET_KEY").arg("health").args(more))
    };

    let well = asked(&here, &[]);
    assert_eq!((well.code, well.out.as_str()), (Some(0), "{\"status\":\"live\"}\n"), "{}", well.err);
    let url = format!("http://{here}");
    assert_eq!(asked("127.0.0.1:1", &["--url", &url, "--ready"]).code, Some(0));
    assert_eq!(asked("127.0.0.1:1", &[]).code, Some(1), "nobody listens there");
    assert_eq!(asked("nowhere", &[]).code, Some(1), "the settings are wrong");

    let token = run(settings(&here).args(["token", "create", "--sub", "ops", "--role", "admin"])).out;
    let headers = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
        token.lines().last().unwrap().trim()
    );
    let drained = process.http("POST", "/api/admin/drain", &headers, r#"{"drain":true}"#);
    assert!((200..300).contains(&drained.status), "{}", drained.text());
    // An answer may be a tenth of a second old.
    let mut draining = well;
    until("it is not ready", || {
        draining = asked(&here, &["--ready"]);
        draining.code == Some(1)
    });
    assert!(draining.err.contains("503") && draining.err.contains("operator"), "{}", draining.err);
    assert_eq!(asked(&here, &[]).code, Some(0), "it is alive all the same");
    process.signal("TERM");
    assert!(process.wait().0.success());
}
