//! Messages written to a file: one JSON object a line, or the bytes as they came behind their length.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;
use sls_syslog_actors::wire::syslog::parse::{Message, parse};
use sls_syslog_actors::wire::syslog::rfc3164;

/// Form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// One object a line, with the header fields apart
    Json,
    /// Length in decimal, a space, and the message's bytes; again and again
    Raw,
}

/// A file that messages are written to.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<File>,
    format: OutputFormat,
}

#[derive(Serialize)]
struct Record<'a> {
    from: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    facility: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<u8>,
    timestamp: Option<&'a str>,
    hostname: Option<&'a str>,
    app_name: Option<&'a str>,
    procid: Option<&'a str>,
    msgid: Option<&'a str>,
    structured_data: Option<&'a str>,
    /// MSG, or all of a message that is malformed.
    msg: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
}

/// Text, or base64 where it is not UTF-8.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Utf8(&'a str),
    Other { base64: String },
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text),
            Err(_) => Self::Other { base64: data_encoding::BASE64.encode(bytes) },
        }
    }
}

/// What either standard says; RFC 3164 has fewer fields.
fn read(message: &[u8]) -> Result<Message<'_>, String> {
    parse(message).or_else(|error| match rfc3164::parse(message) {
        Ok(old) => Ok(Message {
            facility: old.facility,
            severity: old.severity,
            timestamp: Some(old.timestamp),
            time: None,
            hostname: Some(old.hostname),
            app_name: Some(old.tag),
            procid: old.procid,
            msgid: None,
            structured_data: None,
            msg: Some(old.msg),
        }),
        Err(error) if rfc3164::is_meant(message) => Err(error.to_string()),
        Err(_) => Err(error.to_string()),
    })
}

impl Output {
    /// Makes the file, or empties it.
    pub fn create(path: &Path, format: OutputFormat) -> io::Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(1 << 16, File::create(path)?), format })
    }

    /// Writes one message.
    pub fn write(&mut self, from: SocketAddr, message: &[u8]) -> io::Result<()> {
        if self.format == OutputFormat::Raw {
            write!(self.file, "{} ", message.len())?;
            return self.file.write_all(message);
        }
        let record = match read(message) {
            Ok(parsed) => Record {
                from,
                facility: Some(parsed.facility),
                severity: Some(parsed.severity),
                timestamp: parsed.timestamp,
                hostname: parsed.hostname,
                app_name: parsed.app_name,
                procid: parsed.procid,
                msgid: parsed.msgid,
                structured_data: parsed.structured_data,
                msg: parsed.msg.map(Text::of),
                malformed: None,
            },
            Err(e) => Record {
                from,
                facility: None,
                severity: None,
                timestamp: None,
                hostname: None,
                app_name: None,
                procid: None,
                msgid: None,
                structured_data: None,
                msg: Some(Text::of(message)),
                malformed: Some(e),
            },
        };
        serde_json::to_writer(&mut self.file, &record)?;
        self.file.write_all(b"\n")
    }

    /// Makes what was written visible to others.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
