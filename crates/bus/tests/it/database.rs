//! A PostgreSQL server for tests: a cluster of its own in a temporary folder, on a free port.
//!
//! It belongs to the test program: a watcher that reads from it stops the server and removes the folder when the
//! program ends, however it ends. As root the server runs as `postgres`, as it refuses to run as root.

#![allow(dead_code, reason = "shared by test programs that use different parts")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Leaves out what needs PostgreSQL, where it cannot be installed.
const WITHOUT: &str = "PULSEWIRE_WITHOUT_POSTGRES";

pub(crate) struct Database {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Ends with its standard input.
    _watcher: Child,
}

impl Database {
    /// The server that the tests of this program share; `None` if they are to be left out.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Database>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["fsync=off"])).as_ref()
    }

    /// A server with these settings, for what others would feel.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        Self::start_with(settings, &[])
    }

    /// A server with these settings and files; settings name them relative to its data.
    pub(crate) fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some_and(|value| value != "0") {
            eprintln!("LEFT OUT: {WITHOUT} is set");
            return None;
        }
        let programs = programs().unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not installed. Install it with: sudo apt-get update && sudo apt-get install -y \
                 postgresql; or leave these tests out with {WITHOUT}=1"
            )
        });
        let database = Self::place(&programs);
        database.initialise(settings);
        for (name, text) in files {
            let path = database.data().join(name);
            std::fs::write(&path, text).expect("a file for the server");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
            if is_root() {
                run(Command::new("chown").arg("postgres").arg(&path));
            }
        }
        database.start_again();
        Some(database)
    }

    /// A folder and a port for a server, and who stops it in the end.
    fn place(programs: &Path) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("pulsewire-postgres-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let script = "read end; \"$0\" \"$@\" >/dev/null 2>&1; rm -rf \"$FOLDER\"";
        let mut stop = unprivileged(&programs.join("pg_ctl"));
        stop.args(["stop", "-m", "immediate", "-D"]).arg(folder.join("data"));
        let watcher = Command::new("sh")
            .args(["-c", script])
            .arg(stop.get_program())
            .args(stop.get_args())
            .env("FOLDER", &folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        Self { programs: programs.to_path_buf(), folder, port, _watcher: watcher }
    }

    /// A second server that follows this one, to take its place when it is [promoted](Database::promote).
    pub(crate) fn standby(&self) -> Self {
        let standby = Self::place(&self.programs);
        let mut copy = unprivileged(&self.programs.join("pg_basebackup"));
        copy.args(["-h", "127.0.0.1", "-U", "pulsewire", "-R", "-X", "stream", "-c", "fast", "-p"]);
        run(copy.arg(self.port.to_string()).arg("-D").arg(standby.data()));
        let folder = standby.folder.display();
        let ours = format!("port = {}\nunix_socket_directories = '{folder}'\n", standby.port);
        append(&standby.data().join("postgresql.conf"), &ours);
        standby.start_again();
        standby
    }

    /// Lets a standby go its own way.
    pub(crate) fn promote(&self) {
        self.control(&["promote", "-w", "-t", "60"]);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn initialise(&self, settings: &[&str]) {
        let mut initdb = unprivileged(&self.programs.join("initdb"));
        initdb.args(["-U", "pulsewire", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]);
        run(initdb.arg(self.data()));
        let folder = self.folder.display();
        let ours = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n",
            self.port
        );
        let lines = settings.iter().map(|setting| format!("{setting}\n")).collect::<String>();
        append(&self.data().join("postgresql.conf"), &(ours + &lines));
        // One role has to show a password.
        let rules = self.data().join("pg_hba.conf");
        let before = std::fs::read_to_string(&rules).expect("initdb wrote it");
        std::fs::write(&rules, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{before}"))
            .expect("it can be changed");
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts a server that was stopped, and waits until it answers.
    pub(crate) fn start_again(&self) {
        self.control(&["start", "-w", "-t", "60", "-l", &self.folder.join("log").display().to_string()]);
    }

    /// Stops the server: `fast` ends its sessions, `immediate` is as good as a crash.
    pub(crate) fn stop(&self, mode: &str) {
        self.control(&["stop", "-w", "-t", "60", "-m", mode]);
    }

    fn control(&self, arguments: &[&str]) {
        run(unprivileged(&self.programs.join("pg_ctl")).args(arguments).arg("-D").arg(self.data()));
    }

    /// The address of a schema of this server.
    pub(crate) fn url(&self, schema: &str) -> String {
        format!("postgres://pulsewire@127.0.0.1:{}/postgres?schema={schema}", self.port)
    }

    /// The address of a schema that nobody has used.
    pub(crate) fn fresh_url(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        self.url(&format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// What a statement answers, as psql shows it without ornaments.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let words = self.psql(sql);
        run(Command::new(&words[0]).args(&words[1..]))
    }

    /// The command that runs a statement in a session of its own.
    pub(crate) fn psql(&self, sql: &str) -> Vec<String> {
        let program = self.programs.join("psql").display().to_string();
        let options = "-X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -U pulsewire -d postgres -p";
        let mut words = vec![program];
        words.extend(options.split(' ').map(str::to_owned));
        words.extend([self.port.to_string(), "-c".to_owned(), sql.to_owned()]);
        words
    }
}

/// The newest installed version's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").is_file());
    found.sort_by_key(|programs| {
        let version = programs.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    found.pop()
}

fn is_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| run(Command::new("id").arg("-u")).trim() == "0")
}

/// A program that runs as somebody else than root.
fn unprivileged(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn append(file: &Path, text: &str) {
    let before = std::fs::read_to_string(file).expect("initdb wrote it");
    std::fs::write(file, before + text).expect("it can be changed");
}

#[track_caller]
fn run(command: &mut Command) -> String {
    // The server that pg_ctl starts keeps what it inherits: a pipe would never end.
    let log = std::env::temp_dir().join(format!(
        "pulsewire-run-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = std::fs::File::create(&log).expect("a file for the output");
    let status = command
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .status()
        .expect("the program starts");
    let output = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    assert!(status.success(), "{command:?}: {output}");
    output.trim_end().to_owned()
}
