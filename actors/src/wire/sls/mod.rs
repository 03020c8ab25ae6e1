//! The SLS (LogHub) protocol: requests, signatures, replies, errors, compressed bodies and the protobuf inside them.

pub mod body;
pub mod error;
pub mod known_keys;
pub mod log_group;
pub mod proto;
pub mod query;
pub mod reply;
pub mod request;
pub mod sign;
