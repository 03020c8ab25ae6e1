//! Syslog: headers of RFC 5424 and RFC 3164, framings, RELP, and the strict parsers that the receiver and the tests use.

pub mod framing;
pub mod gap;
pub(crate) mod header;
pub mod parse;
pub mod relp;
pub mod rfc3164;
pub mod rfc5424;
