//! The sls-syslog process.
fn main() {}
