//! The server as its image runs it: in a root with nothing but its files, as an account without rights, with the
//! environment and the health check that the Dockerfile names. What links the image's program is not exercised here:
//! this one brings its libraries.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{Folder, Process, run};
use crate::harness::SECRET;
use crate::monitoring::shipped;

/// The account of the image.
const ACCOUNT: u32 = 65_532;

/// What a container runtime does; its mounts end with the process. The arguments are the root, the volume in it and the
/// account.
const RUNTIME: &str = r#"
    root=$0 data=$1 account=$2
    shift 2
    mount --bind "$root" "$root"
    mount --bind "$root/$data" "$root/$data"
    mount --bind /proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -o remount,bind,ro "$root"
    exec unshare --root="$root" --setgid="$account" --setuid="$account" /pulsewire "$@"
"#;

#[test]
fn the_image_needs_nothing_but_its_files_and_an_account_without_rights() {
    if !run(Command::new("id").arg("-u")).out.starts_with("0\n") {
        assert!(std::env::var_os("CI").is_none(), "only root can change the root of a process");
        eprintln!("LEFT OUT: only root can change the root of a process");
        return;
    }
    let image = Image::read();
    let root = image.root();
    let inside = |port: &str| image.command(root.path(), port);

    let mut server = Process::serve_as_told(inside("0"), &[]);
    assert_eq!(server.address.ip().to_string(), "0.0.0.0", "a container is reached from outside");
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
    assert_eq!(uids, [ACCOUNT.to_string().as_str(); 4].join("\t"));
    assert_eq!(server.http("GET", "/livez", "", "").status, 200);

    let port = server.address.port().to_string();
    let health = run(inside(&port).args(&image.health));
    assert_eq!(health.code, Some(0), "{}", health.err);
    server.signal("TERM");
    assert!(server.wait().0.success());
    assert_eq!(run(inside(&port).args(&image.health)).code, Some(1), "it is gone");
    let data = root.path().join(&image.data);
    assert!(fs::read_dir(data).unwrap().count() > 0, "its files are where the volume is");
}

/// What the Dockerfile says of the running image.
struct Image {
    environment: Vec<(String, String)>,
    /// The folder of the volume, without the first `/`.
    data: PathBuf,
    /// What asks for health, without the program.
    health: Vec<String>,
}

impl Image {
    fn read() -> Self {
        let text = fs::read_to_string(shipped("docker/Dockerfile")).unwrap().replace("\\\n", " ");
        let line = |word: &str| {
            let last = text.lines().filter_map(|line| line.strip_prefix(word)).next_back();
            last.unwrap_or_else(|| panic!("no {word}")).trim().to_owned()
        };
        assert_eq!(line("USER "), format!("{ACCOUNT}:{ACCOUNT}"));
        assert_eq!(line("ENTRYPOINT "), r#"["/pulsewire"]"#);
        assert_eq!(line("CMD "), r#"["serve"]"#);
        let asks = line("HEALTHCHECK ");
        let (_, asks) = asks.split_once("CMD ").unwrap();
        let asks: Vec<String> = serde_json::from_str(asks).unwrap();
        assert_eq!(asks[0], "/pulsewire");
        let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let data = line("VOLUME ").trim_start_matches('/').into();
        let environment = line("ENV ").split_whitespace().map(|it| pair(it).unwrap()).collect();
        Self { environment, data, health: asks[1..].to_vec() }
    }

    /// A root with the program, its libraries and the folder of its volume.
    fn root(&self) -> Folder {
        let root = Folder::new();
        let program = env!("CARGO_BIN_EXE_pulsewire");
        put(program, &root.path().join("pulsewire"));
        let libraries = run(Command::new("ldd").arg(program)).out;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            put(library, &root.path().join(library.trim_start_matches('/')));
        }
        for of_the_runtime in ["proc", "dev"] {
            fs::create_dir(root.path().join(of_the_runtime)).unwrap();
        }
        let data = root.path().join(&self.data);
        fs::create_dir_all(&data).unwrap();
        chown(&data, Some(ACCOUNT), Some(ACCOUNT)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        root
    }

    /// The program in a root, as container runtimes start it with a root that cannot be written: with the image's
    /// environment and what somebody who runs it adds.
    fn command(&self, root: &Path, port: &str) -> Command {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "/bin/sh", "-euc", RUNTIME]).arg(root).arg(&self.data);
        command.arg(ACCOUNT.to_string());
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("JWT_SECRET_KEY", SECRET).env("WS_PORT", port);
        command
    }
}

fn put(from: impl AsRef<Path>, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}
