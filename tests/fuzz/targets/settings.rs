//! Settings, from whatever a file, the environment and flags say: they are refused with words, or they work; and no
//! secret is ever in what is printed.
//!
//! The input is a settings file, of YAML if it begins with [`YAML`]. Lines that begin with `env ` or `set ` are variables
//! and `--set` flags instead.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use sls_syslog_actors::wire::format::{RenderSettings, Renderer};

use crate::settings::{Layers, World, load_from, show};

const SECRET: &str = "k7Qz-secret-9wXv";
const YAML: &str = "# yaml\n";

/// Runs it.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Whoever writes the secret himself into another key gets it printed; and files that never end are for others.
    if text.contains(SECRET) || text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let (mut environment, mut set, mut file) = (Vec::<(OsString, OsString)>::new(), Vec::new(), String::new());
    for line in text.lines() {
        if let Some((name, value)) = line.strip_prefix("env ").and_then(|line| line.split_once('=')) {
            environment.push((name.into(), value.into()));
        } else if let Some(flag) = line.strip_prefix("set ") {
            set.push(flag.to_owned());
        } else {
            file.push_str(line);
            file.push('\n');
        }
    }
    for name in ["SLS_AK_KEY", "SLS_SECURITY_TOKEN", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"] {
        environment.push((name.into(), SECRET.into()));
    }
    let path = &file_of_settings(if file.starts_with(YAML) { "yaml" } else { "toml" });
    std::fs::write(path, file).expect("the temporary folder takes a file");
    let layers = Layers { config: Some(path.clone()), set, named: Vec::new() };
    let world = World { environment, usual_file: PathBuf::from("/nonexistent"), is_root: false };
    let (merged, outcome) = load_from(&layers, &world);
    let settings = outcome.as_ref().ok();
    let mut told = format!("{}{}", show::render(&merged, settings), show::render_json(&merged, settings));
    match &outcome {
        Ok(settings) => {
            assert!(settings.forwarder.validate().is_ok());
            drop(Renderer::new(RenderSettings::from(&settings.forwarder.destination)));
            settings.notes.iter().for_each(|note| super::assert_printable(note, 2000));
            told.push_str(&format!("{settings:?}"));
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                super::assert_printable(&problem.to_string(), 2000);
                told.push_str(&format!("{problem}{problem:?}"));
            }
        }
    }
    assert!(!told.contains(SECRET), "a secret is told: {told}");
}

/// One of each format for the process, written anew each time, which only we can read.
fn file_of_settings(format: &str) -> PathBuf {
    static NAME: OnceLock<PathBuf> = OnceLock::new();
    let name = NAME.get_or_init(|| {
        let name = std::env::temp_dir().join(format!("sls-syslog-fuzz-settings-{}", std::process::id()));
        for format in ["toml", "yaml"] {
            let path = name.with_extension(format);
            std::fs::write(&path, "").expect("the temporary folder takes a file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("the file is ours");
        }
        name
    });
    name.with_extension(format)
}
