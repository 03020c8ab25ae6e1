//! Syslog: RFC 5424 headers, framings, RELP, and the strict parser that the receiver and the tests use.

pub mod framing;
pub mod gap;
pub mod parse;
pub mod relp;
pub mod rfc5424;
