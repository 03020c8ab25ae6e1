//! What is wrong with a PEM file, without a word of what is in it: the reader's own errors quote the line that they
//! stumble over, and in a key whose line breaks were lost that line is the key (rule U2).

use rustls::pki_types::pem::Error;

/// The error as it may be shown and logged.
pub fn problem(error: &Error) -> String {
    let what = match error {
        Error::MissingSectionEnd { .. } => "a -----BEGIN line without its -----END line",
        Error::IllegalSectionStart { .. } => {
            "a -----BEGIN line that does not end in -----; were its line breaks lost or written as \\n?"
        }
        Error::Base64Decode(_) => "what is between the -----BEGIN and the -----END line is not base64",
        Error::NoItemsFound => "nothing of the kind is in it",
        Error::SectionTooLarge => "it is too large",
        Error::Io(error) => return error.to_string(),
        _ => "it is not PEM",
    };
    what.to_owned()
}
