//! What is fed with bytes that nobody would send on purpose. Each target is a plain function that panics when a promise
//! is broken, so that libFuzzer (`bins/`) and the replay of the corpora (`main.rs`) run the very same code.

pub mod certificates;
mod expected;
pub mod formats;
pub mod json_replies;
pub mod loghub_body;
pub mod receiver_framing;
pub mod receiver_relp;
pub mod relp_client;
pub mod settings;
mod stream;

/// A target: any bytes are fine.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const ALL: &[(&str, Target)] = &[
    ("certificates", certificates::run),
    ("formats", formats::run),
    ("json_replies", json_replies::run),
    ("loghub_body", loghub_body::run),
    ("receiver_framing", receiver_framing::run),
    ("receiver_relp", receiver_relp::run),
    ("relp_client", relp_client::run),
    ("settings", settings::run),
];

/// Text for people: nothing in it may steer a terminal or break a line, and its length is bounded.
#[track_caller]
fn assert_printable(text: &str, max: usize) {
    assert!(!text.contains(char::is_control), "control characters for a terminal: {text:?}");
    assert!(text.len() <= max, "{} bytes of text, where {max} are enough: {text:?}", text.len());
}
