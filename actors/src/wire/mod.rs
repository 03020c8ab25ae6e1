//! Functions of bytes: what goes over the wire to SLS and to the SIEM.
//!
//! Nothing here does I/O, and every length that a peer declares is bounded before memory is taken for it.

pub mod dead_letter;
pub mod format;
pub mod sls;
pub mod syslog;
pub mod text;
