//! Foreign text, made safe to show.

/// Escapes what a peer said, so that it can neither break a line, steer a terminal nor reorder what is displayed, and
/// cuts it to at most `max` bytes (an ellipsis included) at a character border.
pub fn escape_foreign(text: &str, max: usize) -> String {
    const ELLIPSIS: char = '…';
    let mut shown = String::with_capacity(text.len().min(max));
    // Where to cut if the next characters do not fit: the last border that leaves room for the ellipsis.
    let mut cut = 0;
    for c in text.chars() {
        if is_harmless(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
        if shown.len() > max {
            shown.truncate(cut);
            if max >= ELLIPSIS.len_utf8() {
                shown.push(ELLIPSIS);
            }
            return shown;
        }
        if shown.len() + ELLIPSIS.len_utf8() <= max {
            cut = shown.len();
        }
    }
    shown
}

/// Whether a character shows as itself: neither control nor format character (which include the bidirectional
/// overrides), line separator, tag or private use. A backslash is doubled, so that an escape cannot be forged.
fn is_harmless(c: char) -> bool {
    match c {
        '\\' => false,
        ' '..='~' => true,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => false,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => false,
        '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}' => false,
        _ => !c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_never_pass() {
        assert_eq!(escape_foreign("a\nb\r\u{1b}[31m\u{202e}x\u{9b}\0", 200), r"a\nb\r\u{1b}[31m\u{202e}x\u{9b}\u{0}");
        assert_eq!(escape_foreign(r"no \n here", 200), r"no \\n here");
        assert_eq!(escape_foreign("日志 ü 'x' \"y\"", 200), "日志 ü 'x' \"y\"");
    }

    #[test]
    fn cut_text_is_within_its_limit_and_says_that_it_was_cut() {
        assert_eq!(escape_foreign("abcdef", 6), "abcdef");
        assert_eq!(escape_foreign("abcdefg", 6), "abc…");
        assert_eq!(escape_foreign("日志日志", 9), "日志…");
        assert_eq!(escape_foreign("abc", 2), "");
        for max in 0..40 {
            assert!(escape_foreign("a\u{1b}日\\é\n…", max).len() <= max);
        }
    }

    #[test]
    fn an_escape_is_never_cut_in_half() {
        assert_eq!(escape_foreign("ab\u{1b}\u{1b}", 12), r"ab\u{1b}…");
    }
}
