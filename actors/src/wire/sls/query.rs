//! Names and values in URLs: how they are written, and how a received query is read.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but `A–Z a–z 0–9 - _ . ~`, which is also what signature V4 asks for.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes everything but letters, digits and `-_.~`, in upper-case hexadecimal; a space becomes `%20`.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Writes decoded parameters as a query, in the order given; every parameter keeps its `=`.
pub fn encode_query<N: AsRef<str>, V: AsRef<str>>(parameters: &[(N, V)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(name.as_ref(), ESCAPED));
        query.push('=');
        query.extend(utf8_percent_encode(value.as_ref(), ESCAPED));
    }
    query
}

/// Reads a received query as a form: `+` is a space, `%XX` a byte, an escape that is none stays as it is, and bytes
/// that are not UTF-8 become U+FFFD.
pub fn decode_query(raw: &str) -> Vec<(String, String)> {
    raw.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(name), decode_form(value))
        })
        .collect()
}

/// Decodes one name or value of a form.
fn decode_form(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Decodes a percent-encoded path segment; a `+` stays a plus.
pub fn decode_segment(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_the_one_that_signature_v4_prescribes() {
        assert_eq!(
            encode(r"123abc!@#$%^&*()-=_+ ~|\/`"),
            "123abc%21%40%23%24%25%5E%26%2A%28%29-%3D_%2B%20~%7C%5C%2F%60"
        );
    }

    #[test]
    fn any_name_survives_the_way_through_a_query() {
        let sent = [("consumer", "host 1/α+%41&=?#\"<>"), ("type", "heartbeat"), ("empty", "")];
        let decoded = decode_query(&encode_query(&sent));
        let expected: Vec<_> = sent.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        assert_eq!(decoded, expected);
        assert_eq!(decode_segment(&encode("a+b c/%")), "a+b c/%");
    }

    #[test]
    fn foreign_spellings_of_a_query_are_read() {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            decode_query("consumer=host+1%2Fx&&type=a%20b&flag&odd=%zz%4"),
            [pair("consumer", "host 1/x"), pair("type", "a b"), pair("flag", ""), pair("odd", "%zz%4")]
        );
        assert_eq!(decode_query(""), []);
    }
}
