//! The picture as it is seen: whole at 80 columns and 24 lines, and what is left of it in less.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use sls_syslog_actors::config::Confirmation;
use sls_syslog_actors::counters::CountersSnapshot;
use sls_syslog_actors::model::ids::ShardId;

use super::*;

fn scene() -> Scene {
    let mut counters = CountersSnapshot::default();
    (counters.raw_bytes, counters.commits, counters.messages_resent) = (61_400_000, 12, 1_234);
    (counters.connections_opened, counters.connections_cut) = (9, 7);
    let shard = |shard, holder, groups, behind| ShardRow { shard, holder, groups, behind };
    Scene {
        way: "LogHub http://127.0.0.1:40001 -> TLS 1.3 -> receiver 127.0.0.1:40002".to_owned(),
        elapsed: Duration::from_millis(3_250),
        wanted: 200_000,
        delivered: 123_456,
        duplicates: 7,
        waiting: 20_000,
        rates: (0..100).map(|at| at * 500).collect(),
        lags: (0..100).map(|at| 100_000 - at * 808).collect(),
        status: Some(ForwarderStatus {
            phase: Phase::Member,
            shards: vec![ShardId(0), ShardId(1)],
            confirmation: Confirmation::TcpAcked,
            receiver: ReceiverState::Ready,
            lag_s: Some(2),
            counters,
        }),
        shards: vec![shard(0, Holder::Forwarder, 500, 0), shard(1, Holder::Forwarder, 1_500, 700)],
        connections: vec![
            ConnectionRow { number: 8, written: 40_000_000, confirmed: 39_990_000 },
            ConnectionRow { number: 9, written: 2_000_000, confirmed: 1_000_000 },
        ],
        ..Scene::default()
    }
}

fn chaos() -> Scene {
    let mut scene = scene();
    scene.shards.push(ShardRow { shard: 2, holder: Holder::Thief, groups: 100, behind: 100 });
    scene.shards.extend((3..9).map(|shard| ShardRow { shard, holder: Holder::Nobody, groups: 10, behind: 5 }));
    scene.status.as_mut().unwrap().counters.panics = 3;
    scene.status.as_mut().unwrap().receiver = ReceiverState::Down { why: "connection refused".to_owned() };
    scene.connections.clear();
    scene.faults = vec![("cut", 4), ("killed", 2), ("stolen", 1), ("split", 2), ("spoilt", 5), ("panic", 6)];
    scene.events = (1..6).map(|at| format!("{at:>6}.0 s  killed  the receiver; it is back in 1.2 s")).collect();
    scene.log = Some((2, "Nov 28 14:02:33.123 CRIT something that takes more columns than there are".to_owned()));
    scene
}

fn seen(scene: &Scene, style: Style, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, scene, style)).unwrap();
    terminal
}

/// The characters, without the blanks at the ends of lines.
fn characters(scene: &Scene, width: u16, height: u16) -> String {
    let terminal = seen(scene, Style::Plain, width, height);
    let cells = terminal.backend().buffer().content();
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    cells.chunks(usize::from(width)).map(|cells| format!("{}\n", row(cells).trim_end())).collect()
}

/// Compares with what is kept beside this file; `SLS_SYSLOG_BLESS=1` writes it anew, to be read before it is committed.
#[track_caller]
fn is_as_kept(name: &str, drawn: &str) {
    let file = format!("{}/src/demo/picture/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SLS_SYSLOG_BLESS").is_some() {
        std::fs::write(&file, drawn).unwrap();
    }
    assert!(drawn == std::fs::read_to_string(&file).unwrap(), "{name} differs:\n{drawn}");
}

#[test]
fn it_is_whole_on_80_columns_and_24_lines() {
    is_as_kept("calm-80x24", &characters(&scene(), 80, 24));
}

#[test]
fn faults_events_and_the_log_have_their_place() {
    is_as_kept("chaos-80x24", &characters(&chaos(), 80, 24));
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    is_as_kept("chaos-44x12", &characters(&chaos(), 44, 12));
}

/// From no room at all to more than there is to show.
#[test]
fn no_size_is_too_small() {
    for scene in [Scene::default(), scene(), chaos()] {
        for width in [1, 2, 9, 10, 11, 37, 38, 39, 40, 60, 200] {
            for height in [1, 2, 3, 5, 9, 13, 19, 20, 60] {
                seen(&scene, Style::Coloured, width, height);
            }
        }
    }
}

/// Only the terminal's own colours that can be read on any ground, and no ground of ours; none where they are unwanted.
#[test]
fn colours_assume_no_ground() {
    let looks = |style| {
        let terminal = seen(&chaos(), style, 80, 24);
        let cells = terminal.backend().buffer().content().to_vec();
        assert!(cells.iter().all(|cell| cell.bg == Color::Reset));
        let mut looks: Vec<_> = cells.iter().map(|cell| (cell.fg, cell.modifier)).collect();
        looks.sort_by_key(|look| format!("{look:?}"));
        looks.dedup();
        looks
    };
    assert_eq!(looks(Style::Plain), [(Color::Reset, Modifier::empty())]);
    assert_eq!(
        looks(Style::Coloured),
        [
            (Color::Green, Modifier::empty()),
            (Color::Magenta, Modifier::BOLD),
            (Color::Red, Modifier::BOLD),
            (Color::Reset, Modifier::BOLD),
            (Color::Reset, Modifier::empty()),
        ]
    );
}

#[test]
fn a_bar_is_full_only_when_nothing_is_left() {
    assert_eq!(bar(0, 0, 4).0, "████");
    assert_eq!(bar(999, 1000, 4), ("███".to_owned(), "░".to_owned()));
    assert_eq!(bar(5, 4, 2).0, "██");
    assert_eq!(grouped(1_234_567), "1 234 567");
    assert_eq!(grouped(999), "999");
}
