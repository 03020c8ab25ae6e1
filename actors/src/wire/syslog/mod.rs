//! Syslog: priorities, RFC 5424 headers, framings, and the strict parser that the receiver and the tests use.

pub mod framing;
pub mod gap;
pub mod parse;
pub mod rfc5424;
