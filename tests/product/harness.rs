//! Processes, folders and patience: what every test of the product stands on.

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The access key secret that every test uses: no output of the product may hold it.
pub const SECRET: &str = "MARKER-s3cr3t-of-the-access-key";

/// Asks again and again until there is an answer; panics with the last word of `state` when patience ends.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(state) if begin.elapsed() > PATIENCE => panic!("{what}: not within {PATIENCE:?}; last: {state}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Lets time pass where a test asserts that something does *not* happen.
pub fn for_a_while(time: Duration) {
    std::thread::sleep(time);
}

/// A folder of a test's own; kept when the test fails.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder below the target directory.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A port that was free a moment ago, for peers that cannot choose one themselves.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The same for UDP.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody accepts connections there.
pub fn wait_until_listening(port: u16) {
    eventually("a listener", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|e| format!("port {port}: {e}"))
    });
}

/// Waits until somebody has bound this UDP port.
pub fn wait_until_bound_udp(port: u16) {
    eventually("a bound UDP port", || {
        let bound = std::fs::read_to_string("/proc/net/udp").unwrap();
        let hex = format!(":{port:04X} ");
        bound.contains(&hex).then_some(()).ok_or_else(|| format!("nobody on {port}"))
    });
}

type Lines = Arc<Mutex<Vec<String>>>;

fn held(lines: &Lines) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process, ended with this value. What it printed is shown when a test fails.
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
    /// Standard error that nobody reads.
    unheard: Option<PipeReader>,
}

impl Process {
    /// Starts it with its output collected.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut process = Self::spawn(name, command.stderr(Stdio::piped()));
        let stderr = process.child.stderr.take().unwrap();
        process.readers.push(collect(stderr, process.stderr.clone()));
        process
    }

    /// Starts it with a standard error that nobody reads, and that has been full before its first line.
    pub fn start_unheard(name: &str, mut command: Command) -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[FULL; PIPE]).unwrap();
        let mut process = Self::spawn(name, command.stderr(writer));
        process.unheard = Some(reader);
        process
    }

    fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![collect(child.stdout.take().unwrap(), stdout.clone())];
        Self { name: name.to_owned(), child, stdout, stderr, readers, unheard: None }
    }

    /// The product's binary with a subcommand and nothing of this machine's environment.
    pub fn sls_syslog(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sls-syslog"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).args(arguments);
        // Not in this machine's own place for state, whoever runs the tests.
        command.env("STATE_DIRECTORY", env!("CARGO_TARGET_TMPDIR"));
        command
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> Vec<String> {
        held(&self.stdout).clone()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        held(&self.stderr).clone()
    }

    /// Both, for searching.
    pub fn output(&self) -> String {
        [self.stdout(), self.stderr()].concat().join("\n")
    }

    /// The first line of standard output as JSON.
    pub fn greeting(&mut self) -> serde_json::Value {
        let line = eventually(&format!("the first line of {}", self.name), || {
            let ended = self.child.try_wait().unwrap();
            match (self.stdout().first(), ended) {
                (Some(line), _) => Ok(line.clone()),
                (None, Some(status)) => panic!("{} ended with {status}: {:?}", self.name, self.stderr()),
                (None, None) => Err("nothing printed".to_owned()),
            }
        });
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{}: {e}: {line}", self.name))
    }

    /// The last line of standard output as JSON; to be asked after the end.
    pub fn farewell(&self) -> serde_json::Value {
        let lines = self.stdout();
        let line = lines.last().unwrap_or_else(|| panic!("{} printed nothing", self.name));
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", self.name))
    }

    /// Waits until its output holds `text`.
    #[track_caller]
    pub fn says(&mut self, text: &str) {
        eventually(&format!("{} says {text:?}", self.name), || match self.output() {
            output if output.contains(text) => Ok(()),
            output => match self.child.try_wait().unwrap() {
                // What it said last may still be on its way through the pipe.
                Some(status) if !self.ended_output().contains(text) => {
                    panic!("{} ended with {status} without saying {text:?}:\n{output}", self.name)
                }
                _ => Err(format!("{} lines", output.lines().count())),
            },
        });
    }

    fn ended_output(&mut self) -> String {
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        self.output()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to end, and waits.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// What it could write to a standard error that nobody read; to be asked after its end.
    pub fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        self.unheard.take().unwrap().read_to_end(&mut words).unwrap();
        String::from_utf8_lossy(&words[PIPE..]).into_owned()
    }

    /// Stops one of its threads for good, the `n`-th of those whose names begin like this; `None` where this machine
    /// lets nobody do that.
    pub fn hang_thread(&self, name: &str, n: usize) -> Option<HungThread> {
        let tasks = format!("/proc/{}/task", self.pid());
        let mut threads: Vec<u32> = std::fs::read_dir(&tasks)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .filter(|id| std::fs::read_to_string(format!("{tasks}/{id}/comm")).is_ok_and(|comm| comm.starts_with(name)))
            .collect();
        threads.sort_unstable();
        let mut command = Command::new("python3");
        command.args(["-c", HANG, &threads[n].to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let hung = HungThread(child);
        (line == "stopped\n").then_some(hung)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.pid())).status().unwrap();
        assert!(sent.success(), "cannot signal {}", self.name);
    }

    /// Waits for its end and for the last of its output.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        let status = eventually(&format!("the end of {name}"), || {
            self.child.try_wait().unwrap().ok_or_else(|| "still runs".to_owned())
        });
        self.ended_output();
        status
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// What a pipe holds, unless somebody has changed that.
const PIPE: usize = 64 << 10;
/// What it is full of.
const FULL: u8 = b' ';

/// Stops one thread as a debugger does, and waits for its end, so that its process can end.
const HANG: &str = "
import ctypes, os, sys
libc, thread, options = ctypes.CDLL(None), int(sys.argv[1]), 0x40000000
seize, interrupt = 0x4206, 0x4207
ok = libc.ptrace(seize, thread, None, None) == 0 and libc.ptrace(interrupt, thread, None, None) == 0
ok = ok and os.WIFSTOPPED(os.waitpid(thread, options)[1])
print('stopped' if ok else 'refused', flush=True)
while ok and os.WIFSTOPPED(os.waitpid(thread, options)[1]):
    pass
";

/// Holds a thread of another process; lets go of it by drop.
pub struct HungThread(Child);

impl Drop for HungThread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        if std::thread::panicking() {
            eprintln!("---- {} ({}) ----", self.name, self.child.id());
            for (stream, lines) in [("out", self.stdout()), ("err", self.stderr())] {
                for line in &lines[lines.len().saturating_sub(60)..] {
                    eprintln!("{stream}: {}", line.chars().take(600).collect::<String>());
                }
            }
        }
    }
}

fn collect(stream: impl Read + Send + 'static, lines: Lines) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            held(&lines).push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
            line.clear();
        }
    })
}

/// The test receiver.
pub struct Receiver {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Receiver {
    /// Starts it on a free port, or on that of `--listen` among the arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Process::sls_syslog(&["receiver"]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut process = Process::start("receiver", command.args(arguments));
        let address = process.greeting()["listening"].as_str().unwrap().parse().unwrap();
        Self { process, address }
    }

    /// Ends it; its summary.
    pub fn finish(mut self) -> serde_json::Value {
        self.process.stop();
        self.process.farewell()
    }
}
