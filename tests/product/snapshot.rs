//! What the user reads, held against what is kept in `snapshots/`. `SLS_SYSLOG_BLESS=1` writes it anew, to be read
//! before it is committed.

use std::path::Path;

/// Columns that every line keeps to.
pub const WIDTH: usize = 80;

/// Compares `text`, in which what differs from run to run has been replaced by something of the same length.
#[track_caller]
pub fn is_as_kept(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/product/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("SLS_SYSLOG_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert!(kept == text, "{name} differs from {}:\n{}", file.display(), difference(&kept, text));
}

fn difference(kept: &str, text: &str) -> String {
    let (mut kept, mut text) = (kept.lines(), text.lines());
    let mut out = String::new();
    loop {
        match (kept.next(), text.next()) {
            (None, None) => return out,
            (Some(old), Some(new)) if old == new => out += &format!("  {old}\n"),
            (old, new) => {
                old.iter().for_each(|line| out += &format!("- {line}\n"));
                new.iter().for_each(|line| out += &format!("+ {line}\n"));
            }
        }
    }
}

/// Replaces moments, cursors, fingerprints and request ids.
pub fn steady(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || "+/=:-".contains(c) {
            word.push(c);
            continue;
        }
        out += &steady_word(&word);
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn steady_word(word: &str) -> String {
    const MOMENT: &str = "0000-00-00T00:00:00Z";
    let digits_at = |pattern: &str| {
        word.len() == pattern.len()
            && word.chars().zip(pattern.chars()).all(|(c, p)| if p == '0' { c.is_ascii_digit() } else { c == p })
    };
    let hex = |length: usize| word.len() == length && word.bytes().all(|b| b.is_ascii_hexdigit());
    if digits_at(MOMENT) {
        "YYYY-MM-DDThh:mm:ssZ".to_owned()
    } else if word.len() == 28 && word.ends_with('=') {
        format!("{:=<28}", "CURSOR")
    } else if hex(64) {
        format!("{:0<64}", "SHA256")
    } else if hex(24) {
        format!("{:0<24}", "REQUEST")
    } else {
        word.to_owned()
    }
}

/// No line is longer than a terminal is wide, and nothing steers one.
#[track_caller]
pub fn fits_a_terminal(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        assert!(!line.contains(|c: char| c.is_control()), "control characters: {line:?}");
    }
}
