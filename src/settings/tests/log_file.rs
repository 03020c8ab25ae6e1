//! The log's file.

use super::*;
use crate::settings::LogFileSettings;

#[test]
fn a_log_file_is_as_large_and_as_many_as_in_the_sample() {
    let settings = Case { set: &["log.file=/var/log/sls-{pid}.log"], ..Case::default() }.settings();
    let path = format!("/var/log/sls-{}.log", std::process::id()).into();
    assert_eq!(settings.log.file, Some(LogFileSettings { path, max_bytes: Some(100 << 20), files: 5 }));
    let unlimited = Case { set: &["log.file=a.log", "log.max_bytes=none"], ..Case::default() }.settings();
    assert_eq!(unlimited.log.file.map(|file| file.max_bytes), Some(None));
    for off in ["log.file=", "log.file=None"] {
        assert_eq!(Case { set: &[off], ..Case::default() }.settings().log.file, None);
    }
}

#[test]
fn what_is_wrong_with_a_log_file_is_said() {
    for (set, refusal) in [
        (
            "log.file=a-{date}.log",
            "log.file = a-{date}.log (flag --set log.file): has braces round something else than pid; {pid} is all that \
             is replaced",
        ),
        (
            "log.max_bytes=4095",
            "log.max_bytes = 4095 (flag --set log.max_bytes): is less than 4KiB, so that a line might not fit",
        ),
        ("log.files=0", "log.files = 0 (flag --set log.files): is not a whole number from 1 to 1000"),
        ("log.fil=a", "log.fil (flag --set log.fil): is not a key; did you mean log.file?"),
    ] {
        assert_eq!(Case { set: &[set], ..Case::default() }.load().expect_err(set), [refusal]);
    }
}

#[test]
fn what_does_nothing_without_a_log_file_is_noted() {
    let notes = |set: &[&str]| Case { set, ..Case::default() }.settings().notes;
    let alone = notes(&["log.max_bytes=1MiB", "log.files=3"]);
    for key in ["log.max_bytes", "log.files"] {
        let note = format!("{key} (flag --set {key}) has no effect without log.file");
        assert!(alone.contains(&note), "{alone:?}");
    }
    let unlimited = notes(&["log.file=a", "log.max_bytes=none", "log.files=3"]);
    let note = "log.files (flag --set log.files) has no effect with log.max_bytes = none";
    assert!(unlimited.iter().any(|told| told == note), "{unlimited:?}");
}
