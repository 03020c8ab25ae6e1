//! Receivers, and what they have kept: the messages in their files, read while they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::judge::Delivery;
use super::network::Network;
use crate::harness::{Folder, Process, Receiver, free_port};
use crate::peers::{Daemon, Input, rsyslog, write_certificates};

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// `sls-syslog receiver`, which answers over RELP when a message is in its file.
    Ours,
    /// rsyslogd.
    Rsyslog,
}

enum Running {
    Ours { receiver: Option<Process>, arguments: Vec<String> },
    Rsyslog(#[expect(dead_code, reason = "ends with this value")] Daemon),
}

/// A receiver with its files.
pub struct Keeper {
    running: Running,
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    _own_folder: Option<Folder>,
    tail: Tail,
    files: usize,
    /// What it has kept, in this order.
    pub deliveries: Vec<Delivery>,
    /// Messages that are no whole log of ours.
    pub strangers: Vec<String>,
    /// The shortest of them, in bytes.
    pub shortest: u64,
    /// The connections that they came on, where the receiver tells, in their order.
    pub connections: BTreeMap<String, usize>,
}

impl Keeper {
    /// Starts it, in this network if there is one; nothing if it is not installed.
    pub fn start(who: Who, protocol: &str, network: Option<&Network>) -> Option<Self> {
        if who == Who::Rsyslog {
            let input = if protocol == "relp" { Input::Relp } else { Input::Tcp };
            let daemon = rsyslog(input, free_port())?;
            let folder = daemon.folder.path().to_owned();
            let address = SocketAddr::from(([127, 0, 0, 1], daemon.port));
            let tail = Tail::new(folder.join("received.json"));
            return Some(Self::new(Running::Rsyslog(daemon), address, folder, None, tail));
        }
        let own = Folder::new("faults");
        let folder = own.path().to_owned();
        write_certificates(&folder);
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let mut arguments = vec!["--quiet".to_owned(), "--protocol".to_owned(), protocol.to_owned()];
        if protocol.ends_with("tls") {
            for (flag, file) in [("--cert", "server.pem"), ("--key", "server-key.pem"), ("--client-ca", "ca.pem")] {
                arguments.extend([flag.to_owned(), path(file)]);
            }
        }
        let file = folder.join("kept-0.json");
        let (receiver, address) = match network {
            Some(network) => start_in(network, &arguments, &file),
            None => {
                let receiver = start_ours(&arguments, &file, None);
                let address = receiver.address;
                (receiver.process, address)
            }
        };
        let running = Running::Ours { receiver: Some(receiver), arguments };
        Some(Self::new(running, address, folder, Some(own), Tail::new(file)))
    }

    fn new(running: Running, address: SocketAddr, folder: PathBuf, own: Option<Folder>, tail: Tail) -> Self {
        let (deliveries, strangers) = (Vec::new(), Vec::new());
        let connections = BTreeMap::new();
        let shortest = u64::MAX;
        Self {
            running,
            address,
            folder,
            _own_folder: own,
            tail,
            files: 1,
            deliveries,
            strangers,
            shortest,
            connections,
        }
    }

    /// The folder with what clients need for TLS.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let Running::Ours { receiver, .. } = &mut self.running else { panic!("an rsyslog is not killed") };
        receiver.take().expect("one runs").kill();
    }

    /// Starts another one in place of one that was killed, with a file of its own.
    pub fn restart(&mut self, round: usize) {
        self.collect(round);
        let file = self.folder.join(format!("kept-{}.json", self.files));
        self.files += 1;
        self.tail = Tail::new(file.clone());
        let Running::Ours { receiver, arguments } = &mut self.running else { panic!("an rsyslog is not killed") };
        *receiver = Some(start_ours(arguments, &file, Some(self.address)).process);
    }

    /// How many logs are missing of those below these numbers, one for each shard.
    pub fn missing_below(&self, numbers: &[u64]) -> u64 {
        let kept = self.deliveries.iter().filter(|delivery| delivery.number < numbers[delivery.stream]);
        let kept: BTreeSet<(usize, u64)> = kept.map(|delivery| (delivery.stream, delivery.number)).collect();
        numbers.iter().sum::<u64>() - kept.len() as u64
    }

    /// Reads what is new in its file; it is marked with this round.
    pub fn collect(&mut self, round: usize) {
        for line in self.tail.lines() {
            match id(&line) {
                Some((stream, number, bytes, from)) => {
                    self.shortest = self.shortest.min(bytes);
                    let next = self.connections.len();
                    let connection = from.map(|from| *self.connections.entry(from).or_insert(next));
                    self.deliveries.push(Delivery { stream, number, round, connection });
                }
                None => self.strangers.push(line),
            }
        }
    }
}

fn start_ours(arguments: &[String], file: &Path, at: Option<SocketAddr>) -> Receiver {
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.extend(["--output", file.to_str().unwrap()]);
    let listen = at.map(|at| at.to_string());
    all.extend(listen.iter().flat_map(|at| ["--listen", at]));
    Receiver::start(&all)
}

fn start_in(network: &Network, arguments: &[String], file: &Path) -> (Process, SocketAddr) {
    let mut command = network.command(env!("CARGO_BIN_EXE_sls-syslog"));
    command.arg("receiver").args(arguments).arg("--output").arg(file);
    command.arg("--listen").arg(SocketAddr::new(network.address(), 0).to_string());
    let mut process = Process::start("receiver", &mut command);
    let address = process.greeting()["listening"].as_str().unwrap().parse().unwrap();
    (process, address)
}

#[derive(Deserialize)]
struct Record {
    msg: String,
    /// The other end of the connection, where the receiver tells it.
    from: Option<String>,
}

/// Stream, number and length of a log of [`crate::hub::numbered_fields`] that is whole, and the connection it came on.
fn id(line: &str) -> Option<(usize, u64, u64, Option<String>)> {
    let record: Record = serde_json::from_str(line).ok()?;
    let value = |key: &str| {
        let (_, behind) = record.msg.split_once(&format!("||{key}="))?;
        Some(behind.split("||").next()?.to_owned())
    };
    // The last field is whole only if the message is.
    (value("status")?.len() == 3).then_some(())?;
    let (stream, number) = (value("stream")?.strip_prefix('s')?.parse().ok()?, value("n")?.parse().ok()?);
    Some((stream, number, record.msg.len() as u64, record.from))
}

/// Reads the whole lines of a file that grows.
struct Tail {
    file: PathBuf,
    read: u64,
}

impl Tail {
    fn new(file: PathBuf) -> Self {
        Self { file, read: 0 }
    }

    fn lines(&mut self) -> Vec<String> {
        let mut text = Vec::new();
        if let Ok(mut file) = std::fs::File::open(&self.file) {
            file.seek(SeekFrom::Start(self.read)).unwrap();
            file.read_to_end(&mut text).unwrap();
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        String::from_utf8_lossy(&text[..whole]).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_only_when_it_is_whole() {
        let whole = r#"{"msg":"||__topic__=t||stream=s2||n=17||url=x||status=204"}"#;
        assert_eq!(id(whole).map(|(stream, number, ..)| (stream, number)), Some((2, 17)));
        for cut in [r#"{"msg":"||stream=s2||n=17||url=x||status=20"}"#, r#"{"msg":"||stream=s2||n=1"}"#, r#"{"msg":"#] {
            assert_eq!(id(cut), None, "{cut}");
        }
    }

    #[test]
    fn lines_are_read_once_and_only_when_they_are_whole() {
        let folder = Folder::new("tail");
        let file = folder.path().join("lines");
        let mut tail = Tail::new(file.clone());
        assert!(tail.lines().is_empty());
        std::fs::write(&file, "one\ntw").unwrap();
        assert_eq!(tail.lines(), ["one"]);
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail.lines(), ["two", "three"]);
        assert!(tail.lines().is_empty());
    }
}
