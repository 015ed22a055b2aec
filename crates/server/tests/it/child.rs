//! The real binary as a child process, for what only a process of its own can show: signals, exit
//! codes, output, descriptors.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::harness::{Answer, Socket, series_of, until};

/// A folder of one test, removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that is left over is nobody's harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with nothing of this process's environment.
pub(crate) fn pulsewire() -> Command {
    clean(env!("CARGO_BIN_EXE_pulsewire"))
}

/// The binary under a lower limit of open files, which it cannot raise again.
pub(crate) fn pulsewire_with_open_files(most: u32) -> Command {
    let mut command = clean("/bin/sh");
    command.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_pulsewire")]);
    command
}

fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// How a command ended: its code and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A server in a process of its own. It is killed with the value, if it has not ended.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it printed when it began.
    pub(crate) greeting: String,
    out: Option<JoinHandle<String>>,
    err: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts `serve` with these arguments and waits until it listens.
    pub(crate) fn serve(command: Command, arguments: &[&str]) -> Self {
        Self::serve_as_told(command, &[&["--listen", "127.0.0.1:0"], arguments].concat())
    }

    /// The same, at the address that its settings name.
    pub(crate) fn serve_as_told(mut command: Command, arguments: &[&str]) -> Self {
        command.arg("serve").args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = String::new();
        let mut log = String::new();
        // With --dev the address is printed, without it is logged.
        let dev = arguments.contains(&"--dev");
        let address = if dev {
            read_address(&mut out, &mut greeting, "listening on http://")
        } else {
            read_address(&mut err, &mut log, "\"address\":\"")
        };
        let rest = |mut text: String, mut reader: Box<dyn BufRead + Send>| {
            std::thread::spawn(move || {
                // What is not text any more was cut off by the end of the process.
                let _ = reader.read_to_string(&mut text);
                text
            })
        };
        let out = Some(rest(greeting.clone(), Box::new(out)));
        let err = Some(rest(log, Box::new(err)));
        Self { child, address, greeting, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.pid())]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end; returns how it ended, and what was written to standard output and error.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String, String) {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let text = |thread: &mut Option<JoinHandle<String>>| thread.take().unwrap().join().unwrap();
        (status.unwrap(), text(&mut self.out), text(&mut self.err))
    }

    pub(crate) fn connect(&self) -> Socket {
        Socket::connect(self.address)
    }

    /// One HTTP request.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        crate::harness::http(self.address, method, path, headers, body)
    }

    /// The value of a series in `/metrics`; 0 while the page cannot be had.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = self.http("GET", "/metrics", "", "").text();
        series_of(&page, series).unwrap_or_else(|| panic!("{series} is not exported"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines until one names the address.
fn read_address(reader: &mut impl BufRead, seen: &mut String, before: &str) -> SocketAddr {
    loop {
        let from = seen.len();
        assert!(reader.read_line(seen).unwrap() > 0, "it ended before it listened: {seen}");
        let Some((_, rest)) = seen[from..].split_once(before) else { continue };
        let end = rest.find(|it: char| !(it.is_ascii_digit() || ".:".contains(it))).unwrap_or(rest.len());
        return rest[..end].parse().unwrap();
    }
}
