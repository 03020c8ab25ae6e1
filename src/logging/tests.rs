//! What reaches the screen, what never does.

use std::sync::{Condvar, Mutex};
use std::time::Instant;

use slog::{crit, debug, error, info, warn};

use crate::settings::LogFileSettings;

use super::*;

/// A stderr that can be read, and stopped.
#[derive(Clone, Default)]
struct Screen(Arc<(Mutex<State>, Condvar)>);

/// What was written, and whether writing stands still.
type State = (Vec<u8>, bool);

impl Screen {
    fn stop(&self, stopped: bool) {
        self.0.0.lock().expect("no panic").1 = stopped;
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().expect("no panic").0.clone()).expect("text")
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = changed.wait_while(state.lock().expect("no panic"), |state| state.1).expect("no panic");
        state.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_are_json_objects_with_fixed_keys_and_foreign_text_escaped() {
    let screen = Screen::default();
    let (logger, guard) = start_quiet(Level::Info, json(screen.clone()));
    info!(logger, "shard held"; "shard" => 3, "text" => "a\u{1b}[2J\nb");
    debug!(logger, "for us");
    drop(guard);
    let text = screen.text();
    let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one object");
    assert_eq!((&line["level"], &line["msg"], &line["shard"]), (&"INFO".into(), &"shard held".into(), &3.into()));
    assert!(line["ts"].is_string());
    assert!(!text.contains('\u{1b}') && text.lines().count() == 1, "{text:?}");
}

#[test]
fn control_characters_reach_no_terminal() {
    let screen = Screen::default();
    let format = slog_term::FullFormat::new(Escaping(slog_term::PlainDecorator::new(screen.clone()))).build();
    let (logger, guard) = start_quiet(Level::Info, format);
    info!(logger, "said {}", "\u{1b}[2J"; "text" => "a\u{1b}[2J\nb");
    drop(guard);
    let text = screen.text();
    assert!(!text.contains('\u{1b}') && text.lines().count() == 1, "{text:?}");
}

/// A stderr that is stuck costs chatter, never a warning or an error, and does not stop the callers.
#[test]
fn a_stuck_stderr_drops_no_warning() {
    let screen = Screen::default();
    screen.stop(true);
    let (logger, guard) = start_quiet(Level::Info, json(screen.clone()));
    for _ in 0..2 * QUEUE {
        info!(logger, "chatter");
    }
    crit!(logger, "gap");
    error!(logger, "gap");
    screen.stop(false);
    drop(guard);
    let text = screen.text();
    assert_eq!(text.matches("\"gap\"").count(), 2);
    let chatter = text.matches("\"chatter\"").count();
    assert!((1..2 * QUEUE).contains(&chatter), "{chatter}");
    let dropped = text.lines().find(|line| line.contains("were dropped")).expect("a notice");
    let notice: serde_json::Value = serde_json::from_str(dropped).expect("an object");
    assert_eq!(notice["dropped"], 2 * QUEUE - chatter);
}

/// A stderr that nobody reads at all delays nobody, not even with warnings, and not the end of the process either. Gaps
/// find room when nothing else does.
#[test]
fn a_stderr_that_nobody_reads_delays_neither_the_callers_nor_the_end() {
    let screen = Screen::default();
    screen.stop(true);
    let (logger, guard) = start_quiet(Level::Info, json(screen.clone()));
    for _ in 0..2 * QUEUE {
        warn!(logger, "grave");
    }
    for _ in 0..FOR_GAPS / 2 {
        error!(logger, "logs are missing"; "code" => Code::Gap.as_str());
    }
    let began = Instant::now();
    drop(guard);
    assert!(began.elapsed() < 2 * FLUSH_LIMIT, "{:?}", began.elapsed());
    screen.stop(false);
    let written = || screen.text().matches("logs are missing").count();
    while written() < FOR_GAPS / 2 {
        assert!(began.elapsed() < 12 * FLUSH_LIMIT, "{} gaps were written", written());
        std::thread::yield_now();
    }
}

/// Requests, with secrets in head and body, at the chattiest level.
#[test]
fn no_library_prints_a_secret_even_at_trace() {
    let screen = Screen::default();
    let (logger, guard) = start_quiet(Level::Trace, json(screen.clone()));
    take_libraries_and_panics(Level::Trace, &logger);
    log::debug!(target: "some_library", "a library speaks");
    log::trace!(target: "some_library", "MARKER in a library's trace");
    log::debug!(target: "h2::codec", "MARKER in a frame");
    actix_rt::System::new().block_on(talk());
    info!(logger, "we speak");
    let panicked = std::thread::Builder::new().name("doomed".into()).spawn(|| panic!("as\u{1b} planned"));
    panicked.expect("a thread").join().expect_err("it panics");
    // Whoever fails after us speaks for himself.
    drop(std::panic::take_hook());
    drop(guard);
    let text = screen.text();
    assert!(text.contains("a library speaks") && text.contains("we speak"), "{text}");
    assert!(text.contains("\"library\":\"some_library\""), "{text}");
    let panic = text.lines().find(|line| line.contains("planned")).expect("a panic is a line of the log");
    let panic: serde_json::Value = serde_json::from_str(panic).expect("an object");
    assert_eq!(
        (&panic["code"], &panic["thread"], &panic["level"]),
        (&"panic".into(), &"doomed".into(), &"ERRO".into())
    );
    assert!(!text.contains("MARKER"), "{text}");
}

async fn talk() {
    use actix_web::{App, HttpServer, web};
    let server = HttpServer::new(|| App::new().default_service(web::to(|body: web::Bytes| async { body })))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .expect("a free port");
    let url = format!("http://{}/MARKER", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    let request = awc::Client::default()
        .post(url)
        .insert_header(("Authorization", "LOG MARKER:MARKER"))
        .insert_header(("x-acs-security-token", "MARKER"));
    let mut reply = request.send_body("MARKER").await.expect("a reply");
    assert_eq!(reply.body().await.expect("its body"), "MARKER");
    handle.stop(false).await;
}

/// Without taking the libraries' records, which only one test of a process can.
fn start_quiet<D: Drain<Ok = ()> + Send + 'static>(level: Level, format: D) -> (Logger, LogGuard) {
    let (logger, flush) = queue(level, "stderr", format);
    (logger, LogGuard(vec![flush]))
}

#[test]
fn lines_about_gaps_outlast_a_full_disk() {
    let path = std::env::temp_dir().join(format!("sls-syslog-full-{}.log", std::process::id()));
    std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
    let settings = LogFileSettings { path: path.clone(), max_bytes: None, files: 1 };
    let (line, reopen) = (Line::default(), Reopen::default());
    let file = RotatingFile::open(settings).expect("there is such a device");
    let log = ToFile::new(json(line.clone()), line, file, reopen.clone(), Logger::root(slog::Discard, o!()));
    let say = |text: &str, code: &str| {
        let (values, text) = (o!().into(), format_args!("{text}"));
        let _ = log.log(&slog::record!(Level::Info, "", &text, slog::b!("code" => code)), &values);
    };
    say("of no use", "other");
    say("logs are missing", Code::Gap.as_str());
    std::fs::remove_file(&path).expect("the link");
    reopen.ask();
    say("all is well", "other");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::remove_file(&path).expect("the file");
    let told = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("an object")["msg"].clone();
    let told: Vec<_> = text.lines().map(told).collect();
    assert_eq!((&told[0], &told[2], told.len()), (&"logs are missing".into(), &"all is well".into(), 3), "{text}");
    assert!(told[1].as_str().expect("text").contains("were dropped"), "{text}");
}
