//! What RFC 5424 asks of the fields of a header: their characters and lengths.

/// Longest HOSTNAME, in bytes.
pub const MAX_HOSTNAME: usize = 255;
/// Longest APP-NAME, in bytes.
pub const MAX_APP_NAME: usize = 48;
/// Longest MSGID, in bytes.
pub const MAX_MSGID: usize = 32;
/// Nanoseconds above this are no part of a second.
pub const MAX_NANOSECONDS: u32 = 999_999_999;

/// Makes a header field of any text: each character outside of 33 to 126 becomes `_`, what is too long is cut, and
/// nothing becomes `-`.
pub fn field(text: &str, max_len: usize) -> String {
    let field: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(max_len).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

/// Writes a PARAM-VALUE without its quotes: `"`, `\\` and `]` get a backslash (RFC 5424 6.3.3), and control characters,
/// which some receivers end a message at, become spaces.
pub fn write_param_value(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(if byte.is_ascii_control() { b' ' } else { byte });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_structured_data_are_escaped() {
        let mut value = Vec::new();
        write_param_value("a\"b\\c]d\ne\u{65e5}[=", &mut value);
        assert_eq!(value, "a\\\"b\\\\c\\]d e\u{65e5}[=".as_bytes());
    }

    #[test]
    fn header_fields_are_printable_ascii_of_bounded_length() {
        assert_eq!(field("my app/日志", MAX_APP_NAME), "my_app/__");
        assert_eq!(field("", MAX_APP_NAME), "-");
        assert_eq!(field("a\tb\u{7f}c~!", MAX_APP_NAME), "a_b_c~!");
        assert_eq!(field(&"日".repeat(300), MAX_HOSTNAME), "_".repeat(255));
        assert_eq!(field(&"x".repeat(49), MAX_APP_NAME).len(), 48);
    }
}
