//! Real receivers and clients, where `tests/run` has installed them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::certs::{Authority, Validity};
use crate::harness::{Folder, Process, wait_until_bound_udp, wait_until_listening};

/// What a real receiver made of one message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Received {
    /// Facility, as a number.
    pub facility: String,
    /// Severity, as a number.
    pub severity: String,
    /// TIMESTAMP.
    pub timestamp: String,
    /// HOSTNAME.
    pub hostname: String,
    /// APP-NAME.
    pub app_name: String,
    /// PROCID, empty for `-`.
    pub procid: String,
    /// MSGID, empty for `-`.
    pub msgid: String,
    /// STRUCTURED-DATA, empty for `-`.
    pub structured_data: String,
    /// MSG.
    pub msg: String,
}

/// The value of a variable that `tests/run` sets; without it the test that asks has nothing to show.
pub fn peer(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set; tests/run installs the real peers and runs this");
    }
    path
}

/// Certificates of a receiver and of its client, in a folder: ca.pem, server.pem, client.pem, and keys.
pub fn write_certificates(folder: &Path) {
    let authority = Authority::new("test authority").unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    authority.issue(&["localhost", "127.0.0.1"], Validity::Now).unwrap().write(folder, "server").unwrap();
    authority.issue(&["client"], Validity::Now).unwrap().write(folder, "client").unwrap();
}

/// A real syslog daemon that writes what it receives into its folder.
pub struct Daemon {
    _process: Process,
    /// Certificates are here.
    pub folder: Folder,
    /// Where it listens, on loopback.
    pub port: u16,
    received: fn(&Path) -> Vec<Received>,
}

impl Daemon {
    /// All that it has received so far.
    pub fn received(&self) -> Vec<Received> {
        (self.received)(self.folder.path())
    }
}

/// How rsyslogd listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `imudp`.
    Udp,
    /// `imtcp`, which takes either framing.
    Tcp,
    /// `imtcp` inside TLS, with a client certificate.
    Tls,
    /// `imrelp`.
    Relp,
    /// `imrelp` inside TLS, with a client certificate.
    RelpTls,
}

/// rsyslogd, if it is installed.
pub fn rsyslog(input: Input, port: u16) -> Option<Daemon> {
    let program = peer("SLS_SYSLOG_TEST_RSYSLOGD")?;
    let folder = Folder::new("rsyslog");
    write_certificates(folder.path());
    // As its documentation says, imrelp's ruleset is one for the whole module.
    let relp = format!(
        "module(load=\"imrelp\" ruleset=\"received\")\ninput(type=\"imrelp\" address=\"127.0.0.1\" port=\"{port}\" \
         maxDataSize=\"2m\""
    );
    let listen = format!("address=\"127.0.0.1\" port=\"{port}\" ruleset=\"received\"");
    let input_text = match input {
        Input::Udp => format!("module(load=\"imudp\")\ninput(type=\"imudp\" {listen} rcvbufSize=\"8m\")"),
        Input::Tcp => format!("module(load=\"imtcp\")\ninput(type=\"imtcp\" {listen})"),
        Input::Tls => format!(
            "module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" \
             streamDriver.authMode=\"x509/certvalid\")\ninput(type=\"imtcp\" {listen})"
        ),
        Input::Relp => format!("{relp})"),
        Input::RelpTls => format!(
            "{relp} tls=\"on\" tls.caCert=\"@DIR@/ca.pem\" tls.myCert=\"@DIR@/server.pem\" \
             tls.myPrivKey=\"@DIR@/server-key.pem\" tls.authMode=\"certvalid\")"
        ),
    };
    let config = include_str!("../peers/rsyslog.conf").replace("@INPUT@", &input_text);
    let file = write_config(&folder, &config);
    let process = Process::start(
        "rsyslogd",
        Command::new(program).arg("-n").arg("-f").arg(file).arg("-i").arg(folder.path().join("pid")),
    );
    match input {
        Input::Udp => wait_until_bound_udp(port),
        _ => wait_until_listening(port),
    }
    Some(Daemon { _process: process, folder, port, received: read_json_lines })
}

/// syslog-ng's `syslog()`, which counts octets, if it is installed: over TCP, or TLS with a client certificate. It ends a
/// connection on which it is sent a message of more than `longest` bytes.
pub fn syslog_ng(tls: bool, longest: usize, port: u16) -> Option<Daemon> {
    let transport = match tls {
        true => {
            "transport(\"tls\") tls(cert-file(\"@DIR@/server.pem\") key-file(\"@DIR@/server-key.pem\") \
             ca-file(\"@DIR@/ca.pem\") peer-verify(required-trusted))"
        }
        false => "transport(\"tcp\")",
    };
    start_syslog_ng("syslog", transport, longest, port)
}

/// syslog-ng's `network()` over TCP, which reads lines of RFC 3164, if it is installed.
pub fn syslog_ng_lines(port: u16) -> Option<Daemon> {
    start_syslog_ng("network", "transport(\"tcp\")", 2 << 20, port)
}

fn start_syslog_ng(driver: &str, transport: &str, longest: usize, port: u16) -> Option<Daemon> {
    let root = peer("SLS_SYSLOG_TEST_SYSLOG_NG")?;
    let folder = Folder::new("syslog-ng");
    write_certificates(folder.path());
    let config = include_str!("../peers/syslog-ng.conf")
        .replace("@DRIVER@", driver)
        .replace("@PORT@", &port.to_string())
        .replace("@LONGEST@", &longest.to_string())
        .replace("@TRANSPORT@", transport);
    let file = write_config(&folder, &config);
    let (library, modules) = (folder_of(&root, "libsyslog-ng-"), folder_of(&root, "libafsocket.so"));
    let mut command = Command::new(root.join("usr/sbin/syslog-ng"));
    command.env("LD_LIBRARY_PATH", library).arg(format!("--module-path={}", modules.display()));
    command.args(["-F", "--no-caps", "-f"]).arg(file);
    for (option, name) in [("-R", "persist"), ("-c", "control"), ("-p", "pid")] {
        command.arg(option).arg(folder.path().join(name));
    }
    let process = Process::start("syslog-ng", &mut command);
    wait_until_listening(port);
    Some(Daemon { _process: process, folder, port, received: read_tab_records })
}

fn write_config(folder: &Folder, text: &str) -> PathBuf {
    let file = folder.path().join("daemon.conf");
    std::fs::write(&file, text.replace("@DIR@", folder.path().to_str().unwrap())).unwrap();
    file
}

fn folder_of(root: &Path, name: &str) -> PathBuf {
    let mut open = vec![root.join("usr/lib")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if path.file_name().unwrap().to_str().unwrap().starts_with(name) {
                return folder;
            }
        }
    }
    panic!("{name} is not below {}", root.display());
}

fn read_json_lines(folder: &Path) -> Vec<Received> {
    let text = std::fs::read_to_string(folder.join("received.json")).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let nil = |field: String| if field == "-" { String::new() } else { field };
    let read = |line: &str| {
        let read: Received = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        Received {
            procid: nil(read.procid),
            msgid: nil(read.msgid),
            structured_data: nil(read.structured_data),
            ..read
        }
    };
    whole.lines().map(read).collect()
}

fn read_tab_records(folder: &Path) -> Vec<Received> {
    let text = std::fs::read_to_string(folder.join("received.txt")).unwrap_or_default();
    let mut records: Vec<_> = text.split("\t<END>\n").collect();
    records.pop(); // What is not finished, or nothing.
    let read = |record: &&str| {
        let fields: Vec<_> = record.splitn(9, '\t').map(str::to_owned).collect();
        let [facility, severity, timestamp, hostname, app_name, procid, msgid, structured_data, msg] =
            <[String; 9]>::try_from(fields).unwrap_or_else(|fields| panic!("{fields:?}"));
        Received { facility, severity, timestamp, hostname, app_name, procid, msgid, structured_data, msg }
    };
    records.iter().map(read).collect()
}

/// The ids of generated logs in a file that the test receiver has written as JSON, in the order of arrival.
pub fn delivered_ids(file: &Path) -> Vec<(String, u64)> {
    #[derive(Deserialize)]
    struct Record {
        msg: String,
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let read = |line: &str| {
        let record: Record = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let value = |key: &str| {
            let (_, behind) = record.msg.split_once(&format!("||{key}="))?;
            Some(behind.split("||").next()?.to_owned())
        };
        Some((value("stream")?, value("n")?.parse().ok()?))
    };
    whole.lines().filter_map(read).collect()
}
