//! The demo's live picture, on a terminal that util-linux's `script` makes: it is drawn there and nowhere else, and the
//! terminal is whole again afterwards, whatever ends the demo.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::harness::eventually;

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const CURSOR_SHOWN: &str = "\x1b[?25h";

/// A terminal of 80 columns and 24 lines on which the demo runs; it ends by telling the exit code and its own state.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn running(demo: &str, environment: &[(&str, &str)]) -> Self {
        let line = format!(
            "stty rows 24 cols 80; sh -c 'echo pid=$$; exec {} demo {demo}'; echo code=$?; stty -a",
            env!("CARGO_BIN_EXE_sls-syslog")
        );
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env_clear();
        command.envs([("PATH", std::env::var("PATH").unwrap_or_default()), ("TERM", "xterm".to_owned())]);
        command.envs(environment.iter().copied());
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let shown = Arc::clone(&shown);
            move || {
                let mut some = [0; 4096];
                while let Ok(n @ 1..) = output.read(&mut some) {
                    shown.lock().unwrap().extend_from_slice(&some[..n]);
                }
            }
        });
        Self { script, keys, shown, reader }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn shows(&self, text: &str) {
        eventually(text, || if self.shown().contains(text) { Ok(()) } else { Err(self.shown()) });
    }

    /// Of the demo itself.
    fn pid(&self) -> String {
        self.shows("pid=");
        eventually("the process id", || {
            let shown = self.shown();
            let digits = shown.split_once("pid=").and_then(|(_, rest)| rest.split_once('\r'));
            digits.map(|(digits, _)| digits.to_owned()).ok_or(shown)
        })
    }

    /// What was shown, from first to last.
    fn ended(mut self) -> String {
        eventually("the end", || self.script.try_wait().unwrap().map(drop).ok_or_else(|| self.shown()));
        self.reader.join().unwrap();
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap()
    }
}

/// What stands on the normal screen behind the picture, and that the terminal is as it was.
#[track_caller]
fn whole_again(shown: &str) -> &str {
    let (picture, after) = shown.split_once(LEFT).unwrap_or_else(|| panic!("never left: {shown:?}"));
    assert!(picture.contains(ENTERED), "never entered: {shown:?}");
    assert!(after.contains(CURSOR_SHOWN) && !after.contains(ENTERED), "{after:?}");
    for mode in ["icanon", "echo", "isig", "opost"] {
        assert!(after.split_whitespace().any(|word| word == mode), "no {mode}: {after}");
    }
    after
}

/// No ground of ours, and no colours but the terminal's own green, magenta and red.
#[track_caller]
fn assumes_no_ground(shown: &str) {
    let mut colours = 0;
    for (codes, _) in shown.split("\x1b[").skip(1).filter_map(|sequence| sequence.split_once('m')) {
        if !codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';') {
            continue;
        }
        let plain = codes.replace("38;5;1", "").replace("38;5;2", "").replace("38;5;5", "");
        colours += usize::from(plain != codes);
        let is_fine = |code: &str| matches!(code, "" | "0" | "1" | "22" | "39" | "49" | "59");
        assert!(plain.split(';').all(is_fine), "{codes:?}");
    }
    assert!(colours > 0, "no colour at all: {shown:?}");
}

#[test]
fn the_picture_makes_way_for_the_proof() {
    let terminal = Terminal::running("--logs 30000", &[]);
    terminal.shows("committed");
    let shown = terminal.ended();
    let after = whole_again(&shown);
    assert!(after.contains("it holds: ") && after.contains("code=0"), "{after}");
    for part in ["delivered", "rate", "lag", "receiver", "written"] {
        assert!(shown.split(LEFT).next().unwrap().contains(part), "no {part}");
    }
    assumes_no_ground(&shown);
}

#[test]
fn the_picture_stands_chaos() {
    let shown = Terminal::running("--chaos --seed 7 --logs 60000", &[("NO_COLOR", "1")]).ended();
    let after = whole_again(&shown);
    assert!(after.contains("it holds: ") && after.contains("code=0"), "{after}");
    let before = shown.split(LEFT).next().unwrap();
    assert!(before.contains("faults") && before.contains("killed"), "no faults");
    // NO_COLOR: no colour, and nothing bold.
    assert!(!shown.contains("\x1b[38;5;") && !shown.contains("\x1b[1m"), "colour");
}

#[test]
fn ctrl_c_and_q_end_the_picture() {
    for key in [&b"\x03"[..], b"q"] {
        let mut terminal = Terminal::running("--logs 5000000 --within 600", &[]);
        terminal.shows("q ends it");
        terminal.keys.write_all(key).unwrap();
        let shown = terminal.ended();
        let after = whole_again(&shown);
        assert!(after.contains("before the end: nothing is proven") && after.contains("code=130"), "{after}");
    }
}

#[test]
fn signals_end_the_picture() {
    for (signal, code) in [("TERM", "code=143"), ("INT", "code=130")] {
        let terminal = Terminal::running("--logs 5000000 --within 600", &[]);
        let pid = terminal.pid();
        terminal.shows("q ends it");
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let shown = terminal.ended();
        let after = whole_again(&shown);
        assert!(after.contains(&format!("stopped by SIG{signal} before the end")) && after.contains(code), "{after}");
    }
}

/// What the log says is held back until the picture is gone.
#[test]
fn the_log_does_not_break_the_picture() {
    let shown = Terminal::running("--logs 2000 --log-level info", &[]).ended();
    let after = whole_again(&shown);
    assert!(after.contains("INFO joined the consumer group"), "{after}");
    let picture = shown.split(LEFT).next().unwrap();
    assert!(picture.contains("log, ") && !picture.contains("\nNov"), "{picture:?}");
}

#[test]
fn a_terminal_that_cannot_be_drawn_on_and_plain_get_lines() {
    for (argument, environment) in [("--plain", ("TERM", "xterm")), ("", ("TERM", "dumb"))] {
        let shown = Terminal::running(&format!("--logs 2000 {argument}"), &[environment]).ended();
        assert!(!shown.contains('\x1b'), "{shown:?}");
        assert!(shown.contains("delivered     2000 of 2000") && shown.contains("it holds: "), "{shown}");
        for line in shown.lines().filter(|line| !line.contains(';')) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
