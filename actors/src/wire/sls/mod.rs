//! The SLS (LogHub) protocol: requests, signatures, replies, errors, compressed bodies and the protobuf inside them.

pub mod error;
pub mod log_group;
pub mod reply;
