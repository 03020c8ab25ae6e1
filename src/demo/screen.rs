//! The terminal while the picture is on it, and what else would have been printed meanwhile.
//!
//! Dropping a [`Screen`] makes the terminal whole again, however the demo ends: the picture's own page is left, the
//! cursor shown, and keys are lines again. What the log said in the meantime is printed then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::terminal::{self as mode, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::crossterm::{cursor, execute};

use super::picture;
use super::view::Told;
use crate::exit;
use crate::run::Signals;
use crate::terminal::{Style, can_redraw};

/// Time between two pictures.
const TICK: Duration = Duration::from_millis(100);

/// A terminal that shows nothing but the picture.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    style: Style,
}

impl Screen {
    /// Takes the terminal over; `None` where there is none that could be drawn on and read from.
    pub(super) fn enter() -> Option<Self> {
        if !can_redraw() || !io::stdin().is_terminal() {
            return None;
        }
        mode::enable_raw_mode().ok()?;
        let entered = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match entered {
            Ok(terminal) => Some(Self { terminal, style: Style::of_stdout() }),
            Err(_) => {
                leave();
                None
            }
        }
    }

    /// Draws once.
    pub(super) fn draw(&mut self, told: &RefCell<Told>) {
        let scene = told.borrow_mut().scene();
        // A terminal that is gone does not change what is proven.
        let _ = self.terminal.draw(|frame| picture::draw(frame, &scene, self.style));
    }

    /// Draws until somebody wants the demo to end.
    pub(super) async fn show(&mut self, told: &RefCell<Told>, signals: &mut Signals) -> Stopped {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                stopped = signals.next() => return stopped,
            }
            if is_end_wanted() {
                return ("a key", exit::INTERRUPTED);
            }
            self.draw(told);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Who stopped it, and the exit code for that.
pub(super) type Stopped = (&'static str, u8);

fn leave() {
    // Each for itself: what can be made whole is.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = mode::disable_raw_mode();
}

/// Whether q or Ctrl-C was pressed: it is no signal while keys are read one by one.
fn is_end_wanted() -> bool {
    while event::poll(Duration::ZERO).unwrap_or(false) {
        if let Ok(Event::Key(key)) = event::read() {
            let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || key.code == KeyCode::Char('q') {
                return true;
            }
        }
    }
    false
}

/// The log's lines while there is a picture in their place; dropped last, it prints them.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    whole: VecDeque<String>,
    /// Lines that were, with those that are not kept any more.
    count: usize,
    begun: Vec<u8>,
}

/// Lines that are kept.
const KEPT: usize = 1000;

impl Held {
    /// How many lines there were, and the last one.
    pub(super) fn last(&self) -> Option<(usize, String)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.whole.back().map(|last| (lines.count, last.clone()))
    }

    /// Prints what was held back.
    pub(super) fn release(&self) {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let mut out = io::stderr().lock();
        if lines.count > lines.whole.len() {
            let _ = writeln!(out, "({} older lines of the log were not kept)", lines.count - lines.whole.len());
        }
        for line in lines.whole {
            let _ = writeln!(out, "{line}");
        }
    }
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            lines.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut lines.begun);
                if lines.whole.len() == KEPT {
                    lines.whole.pop_front();
                }
                lines.whole.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                lines.count += 1;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const ON_A_TERMINAL: &str = "SLS_SYSLOG_TEST_ON_A_TERMINAL";
    const LOG: &str = "Nov 28 14:02:33.123 WARN something";

    /// This very test is run once more on a terminal that util-linux's `script` makes; there it takes it over and panics.
    #[test]
    fn a_panic_leaves_the_terminal_whole() {
        if std::env::var_os(ON_A_TERMINAL).is_some() {
            let mut held = Held::default();
            let out = crate::demo::Output { screen: Screen::enter(), guard: None, held: held.clone() };
            assert!(out.screen.is_some(), "no terminal");
            writeln!(held, "{LOG}").unwrap();
            panic!("in the middle of the picture");
        }
        let program = std::env::current_exe().unwrap();
        let test = concat!(module_path!(), "::a_panic_leaves_the_terminal_whole");
        let test = test.split_once("::").unwrap().1;
        let line = format!("stty rows 24 cols 80; {} --exact {test} --nocapture; stty -a", program.display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env(ON_A_TERMINAL, "1").stdin(Stdio::null());
        let output = script.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        let (before, after) = shown.split_once("\x1b[?1049l").unwrap_or_else(|| panic!("not left: {shown:?}"));
        assert!(before.contains("\x1b[?1049h") && before.contains("\x1b[?25l"), "{shown:?}");
        assert!(after.contains("\x1b[?25h") && after.contains(LOG) && !before.contains(LOG), "{shown:?}");
        for mode in ["icanon", "echo", "isig"] {
            assert!(after.split_whitespace().any(|word| word == mode), "no {mode}: {after}");
        }
    }

    #[test]
    fn the_log_is_kept_in_lines_and_the_oldest_are_counted() {
        let mut held = Held::default();
        assert_eq!(held.last(), None);
        held.write_all(b"one\ntw").unwrap();
        assert_eq!(held.last(), Some((1, "one".to_owned())));
        held.write_all(b"o\n").unwrap();
        assert_eq!(held.last(), Some((2, "two".to_owned())));
        for _ in 0..KEPT {
            held.write_all(b"more\n").unwrap();
        }
        let lines = held.lines.lock().unwrap();
        assert_eq!((lines.count, lines.whole.len()), (KEPT + 2, KEPT));
    }
}
