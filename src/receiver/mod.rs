//! The subcommand `receiver`: takes syslog over UDP, TCP, TLS or RELP and prints it, counts it, or judges it.
//!
//! The first line on standard output says where it listens, the last one what came, both as JSON. `--check FILE` judges
//! files instead.

pub mod audit;
pub mod check;
pub mod origin;
pub mod output;
pub mod ranges;
pub mod relp;
pub mod serve;
pub mod tls;

use std::io::{self, BufWriter, Stdout, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_rt::signal::unix::{SignalKind, signal};
use clap::ValueEnum;
use serde::Serialize;
use sls_syslog_actors::config::Framing;

use crate::exit;
use crate::terminal::print;
use check::{Checker, Keys, Verdict};
use output::{Output, OutputFormat};
use relp::RelpFaults;
use serve::{Limits, Options, Running, Sink, Taken, Totals, Transport};

/// What `--help` says of `--check`.
pub const CHECK_HELP: &str = "\
What --check judges:
  Origin stamps (destination.origin of the forwarder): for each shard what is
  missing, repeated or reordered, and what gap records name. With FILE in any
  file that any receiver has written, one event a line: syslog, JSON, CSV;
  rotated files in their order. Without FILE in what comes in.
  The ids of generated logs (loghub --generate): the same by stream and number.
  What comes in also has to be strict RFC 5424 or RFC 3164, and in order.
  Memory: some 300 bytes for each log group that is not whole, 30 for each hole
  between groups, nothing for the rest.
Exit code of --check: 0 if nothing is missing, 1 if something is, or if nothing
could be judged in a file. Examples:
  sls-syslog receiver --check /var/log/siem/events.log.1 /var/log/siem/events.log
  zcat events.json.gz | sls-syslog receiver --check -";

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct ReceiverArgs {
    /// Address and port; port 0 takes a free one, and the first line printed tells which
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5514")]
    listen: SocketAddr,
    /// How messages come
    #[arg(long, value_enum, default_value_t = Protocol::Tcp)]
    protocol: Protocol,
    /// How messages are told apart in a stream; auto takes any, as the start of each connection says
    #[arg(long, value_enum, default_value_t = FramingArg::Auto)]
    framing: FramingArg,
    /// What is done with a message
    #[arg(long, value_enum, default_value_t = Mode::Count)]
    mode: Mode,
    /// Judges what comes in, as --mode check; with FILE nothing is received, and the files are judged (- is standard input)
    #[arg(long, value_name = "FILE", num_args = 0.., conflicts_with = "mode")]
    check: Option<Vec<PathBuf>>,
    /// check of files: prints the verdict as JSON
    #[arg(long, requires = "check")]
    json: bool,
    /// Ends after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Also writes every message to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of that file
    #[arg(long, value_enum, default_value_t = OutputFormat::Json, requires = "output")]
    output_format: OutputFormat,
    /// Prints no line a second while messages come
    #[arg(long)]
    quiet: bool,
    /// relp: answers 500 to the N-th message, once
    #[arg(long, value_name = "N")]
    relp_refuse: Option<u64>,
    /// relp: answers 500 to the first N messages, as if the disk were full
    #[arg(long, value_name = "N", default_value_t = 0)]
    relp_refuse_first: u64,
    /// relp: answers 500 to each message of more than this many bytes
    #[arg(long, value_name = "BYTES")]
    relp_refuse_longer: Option<usize>,
    /// relp: ends every session after N messages
    #[arg(long, value_name = "N")]
    relp_serverclose_after: Option<u64>,
    /// Certificate chain for tls, PEM; without it one is made for localhost
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Asks for a client certificate that one of these authorities has signed, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// Makes an authority, a server and a client certificate here, with their keys, unless they are there; tls and
    /// relp+tls then use them and ask for the client's, every other protocol ends at once
    #[arg(long, value_name = "FOLDER", conflicts_with = "cert")]
    make_certs: Option<PathBuf>,
    /// A further name or address for the server certificate that --make-certs makes; repeatable
    #[arg(long, value_name = "NAME", requires = "make_certs")]
    cert_name: Vec<String>,
    /// check: separator of the key=value pairs
    #[arg(long, value_name = "TEXT", default_value = "||")]
    sep: String,
    /// check: key of a generated log's stream
    #[arg(long, value_name = "KEY", default_value = "stream")]
    stream_key: String,
    /// check: key of a generated log's number in its stream
    #[arg(long, value_name = "KEY", default_value = "n")]
    number_key: String,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Longest message in bytes; a longer one ends its connection
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().message_bytes)]
    max_message_bytes: usize,
    /// Bytes of unfinished messages, over all connections
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().memory_bytes)]
    max_memory_bytes: usize,
    /// Seconds of silence after which a connection is closed; 0 never closes one
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle.as_secs())]
    idle: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Udp,
    Tcp,
    Tls,
    /// Every message is answered once it is taken; with --output, once it is in the file
    Relp,
    /// The same inside TLS
    #[value(name = "relp+tls")]
    #[serde(rename = "relp+tls")]
    RelpTls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FramingArg {
    Auto,
    Lf,
    Nul,
    OctetCounting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Prints every message, control characters escaped
    Print,
    /// Counts messages and bytes, as fast as it can
    Count,
    /// Judges: strict RFC 5424 or RFC 3164, and by origin stamps and ids of generated logs what is missing, doubled or out of order
    Check,
}

/// Where the receiver listens: the first line.
#[derive(Serialize)]
struct Listening {
    listening: SocketAddr,
    protocol: Protocol,
}

/// What came: the last line.
#[derive(Serialize)]
struct Summary {
    messages: u64,
    message_bytes: u64,
    bytes: u64,
    connections: u64,
    refused_connections: u64,
    troubled_connections: u64,
    seconds: f64,
    #[serde(flatten)]
    verdict: Option<Verdict>,
}

/// Runs it to its end.
pub fn run(args: ReceiverArgs) -> ExitCode {
    match receive(&args) {
        Ok(holds) => exit::code(if holds { exit::OK } else { exit::FAILED }),
        Err(what) => {
            eprintln!("error: {what}");
            exit::code(exit::FAILED)
        }
    }
}

/// Answers whether what came was as it should be.
fn receive(args: &ReceiverArgs) -> Result<bool, String> {
    let keys = Keys { sep: args.sep.clone(), stream: args.stream_key.clone(), number: args.number_key.clone() };
    if let Some(files) = args.check.as_deref().filter(|files| !files.is_empty()) {
        return check_files(files, keys, args);
    }
    if args.json {
        return Err("--json needs files to check; what is received is always summed up in JSON".to_owned());
    }
    if let Some(folder) = &args.make_certs {
        let made = tls::make_into(folder, &args.cert_name)?;
        if !matches!(args.protocol, Protocol::Tls | Protocol::RelpTls) {
            print(&certificates(folder, made));
            return Ok(true);
        }
    }
    let transport = match args.protocol {
        Protocol::Udp => Transport::Udp,
        Protocol::Tcp | Protocol::Relp => Transport::Tcp,
        Protocol::Tls | Protocol::RelpTls => {
            let identity = match (&args.cert, &args.key) {
                (Some(cert), Some(key)) => tls::from_files(cert, key, args.client_ca.as_deref())?,
                _ => match &args.make_certs {
                    Some(folder) => tls::from_folder(folder)?,
                    None => tls::self_made()?,
                },
            };
            Transport::Tls(tls::server_config(&identity)?)
        }
    };
    let options = Options {
        listen: args.listen,
        transport,
        framing: match args.framing {
            FramingArg::Auto => None,
            FramingArg::Lf => Some(Framing::Lf),
            FramingArg::Nul => Some(Framing::Nul),
            FramingArg::OctetCounting => Some(Framing::OctetCounting),
        },
        relp: match args.protocol {
            Protocol::Relp | Protocol::RelpTls => Some(RelpFaults {
                refuse: args.relp_refuse,
                refuse_first: args.relp_refuse_first,
                refuse_longer: args.relp_refuse_longer,
                serverclose_after: args.relp_serverclose_after,
            }),
            _ if args.relp_refuse.or(args.relp_serverclose_after).is_some()
                || args.relp_refuse_longer.is_some()
                || args.relp_refuse_first > 0 =>
            {
                return Err("the options that begin with --relp- need --protocol relp or relp+tls".to_owned());
            }
            Protocol::Udp | Protocol::Tcp | Protocol::Tls => None,
        },
        limits: Limits {
            connections: args.max_connections,
            message_bytes: args.max_message_bytes,
            memory_bytes: args.max_memory_bytes,
            idle: Duration::from_secs(args.idle),
            ..Limits::default()
        },
    };
    let checker = (args.mode == Mode::Check || args.check.is_some()).then(|| Arc::new(Mutex::new(Checker::new(keys))));
    let output = args.output.as_ref().map(|path| {
        Output::create(path, args.output_format).map_err(|e| format!("cannot write {}: {e}", path.display()))
    });
    let report = Report {
        print: (args.mode == Mode::Print).then(|| BufWriter::with_capacity(1 << 16, io::stdout())),
        output: output.transpose()?,
        checker: checker.clone(),
        left: args.count.unwrap_or(u64::MAX),
    };
    let running =
        serve::serve(options, Box::new(report)).map_err(|e| format!("cannot listen on {}: {e}", args.listen))?;
    print_line(&Listening { listening: running.address(), protocol: args.protocol });

    let begin = Instant::now();
    let system = actix_rt::System::new();
    system.block_on(until_end(&running, args.quiet)).map_err(|e| format!("cannot wait for signals: {e}"))?;
    let totals = running.totals().clone();
    running.stop();

    let verdict = checker.map(|checker| checker.lock().unwrap_or_else(PoisonError::into_inner).verdict());
    let holds = verdict.as_ref().is_none_or(Verdict::holds);
    if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.origin.is_some() && !args.quiet) {
        eprintln!("{}", audit::Report(verdict));
    }
    print_line(&summary(&totals, begin.elapsed(), verdict));
    Ok(holds)
}

/// Judges files instead of receiving.
fn check_files(files: &[PathBuf], keys: Keys, args: &ReceiverArgs) -> Result<bool, String> {
    let mut checker = Checker::new(keys);
    audit::read_files(files, args.max_message_bytes, &mut checker)?;
    let verdict = checker.verdict();
    if args.json {
        print_line(&verdict);
    } else {
        // As with `print_line`: whoever reads may have gone.
        let _ = writeln!(io::stdout(), "{}", audit::Report(&verdict));
    }
    Ok(audit::is_complete(&verdict))
}

/// What is in a folder of certificates, and how both sides use it.
fn certificates(folder: &Path, made: bool) -> String {
    let folder = folder.display();
    let there = if made { "Made" } else { "Nothing made, since they are there" };
    format!(
        "\
{there}, in {folder}:
  ca.pem, server.pem, client.pem, and their keys, readable by you alone

A receiver that asks for the client certificate:
  sls-syslog receiver --protocol tls --make-certs {folder} --mode print

The settings of a forwarder that shows it:
  [destination]
  protocol = \"tls\"
  cert_path = \"{folder}/ca.pem\"
  tls.client_cert = \"{folder}/client.pem\"
  tls.client_key = \"{folder}/client-key.pem\"
"
    )
}

fn summary(totals: &Totals, took: Duration, verdict: Option<Verdict>) -> Summary {
    Summary {
        messages: totals.messages.load(Ordering::Relaxed),
        message_bytes: totals.message_bytes.load(Ordering::Relaxed),
        bytes: totals.bytes.load(Ordering::Relaxed),
        connections: totals.connections.load(Ordering::Relaxed),
        refused_connections: totals.refused.load(Ordering::Relaxed),
        troubled_connections: totals.troubles.load(Ordering::Relaxed),
        seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        verdict,
    }
}

/// Waits for SIGINT, SIGTERM or the last message, and writes one line a second to standard error while messages come.
async fn until_end(running: &Running, quiet: bool) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (mut messages, mut bytes, mut at) = (0, 0, Instant::now());
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = running.ended() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let totals = running.totals();
        let (now, then) = (Instant::now(), at);
        let (new_messages, new_bytes) = (totals.messages.load(Ordering::Relaxed), totals.bytes.load(Ordering::Relaxed));
        if !quiet && new_messages > messages {
            let seconds = (now - then).as_secs_f64();
            eprintln!(
                "{new_messages} messages, {:.0} messages/s, {:.1} MB/s, {} connections open",
                (new_messages - messages) as f64 / seconds,
                (new_bytes - bytes) as f64 / 1e6 / seconds,
                totals.open.load(Ordering::Relaxed),
            );
        }
        (messages, bytes, at) = (new_messages, new_bytes, now);
    }
}

fn print_line(value: &impl Serialize) {
    let line = serde_json::to_string(value).unwrap_or_default();
    // Whoever started us may have closed the pipe; that is no reason to fail.
    let _ = writeln!(io::stdout(), "{line}");
}

/// What is done with each message.
struct Report {
    print: Option<BufWriter<Stdout>>,
    output: Option<Output>,
    checker: Option<Arc<Mutex<Checker>>>,
    /// Messages until the end.
    left: u64,
}

impl Sink for Report {
    fn message(&mut self, from: SocketAddr, message: &[u8]) -> Taken {
        if self.left == 0 {
            return Taken::No;
        }
        self.left -= 1;
        if let Some(checker) = &self.checker {
            checker.lock().unwrap_or_else(PoisonError::into_inner).message(message);
        }
        if let Some(output) = &mut self.output
            && let Err(e) = output.write(from, message)
        {
            eprintln!("error: cannot write the output: {e}");
            // Nor anything behind it.
            self.left = 0;
            return Taken::No;
        }
        if let Some(print) = &mut self.print {
            let _ = print_escaped(print, message);
        }
        if self.left == 0 { Taken::AsLast } else { Taken::Yes }
    }

    fn trouble(&mut self, from: SocketAddr, what: &str) {
        eprintln!("{from}: {what}");
    }

    fn pause(&mut self) {
        if let Some(print) = &mut self.print {
            let _ = print.flush();
        }
        if let Some(output) = &mut self.output {
            let _ = output.flush();
        }
    }

    fn settle(&mut self) -> ControlFlow<()> {
        match self.output.as_mut().map_or(Ok(()), Output::flush) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                eprintln!("error: cannot write the output: {e}");
                ControlFlow::Break(())
            }
        }
    }
}

/// Foreign text reaches a terminal without its control characters.
pub fn print_escaped(out: &mut impl Write, message: &[u8]) -> io::Result<()> {
    for chunk in message.utf8_chunks() {
        let mut text = chunk.valid();
        while let Some(at) = text.find(char::is_control) {
            let (plain, rest) = text.split_at(at);
            let mut characters = rest.chars();
            let control = characters.next().unwrap_or_default();
            write!(out, "{plain}{}", control.escape_default())?;
            text = characters.as_str();
        }
        out.write_all(text.as_bytes())?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut out = Vec::new();
        print_escaped(&mut out, b"a\x1b[31m\nb\xff\xc3\xa9\x07").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{1b}[31m\\nb\\xff\u{e9}\\u{7}\n");
    }
}
