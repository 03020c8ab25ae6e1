//! The live picture: facts in, characters out. It fits 80 columns and 24 lines, and leaves out what has no room in less.
//!
//! Colours are the terminal's own, chosen to be read on dark and on light ground, and nothing is told by them alone.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line, Span};
use ratatui::widgets::Sparkline;
use sls_syslog_actors::messages::{ForwarderStatus, Phase, ReceiverState};

use super::outside::ConnectionRow;
use crate::terminal::{Mark, Style};

/// All that is drawn.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    /// From where, how and to where.
    pub(super) way: String,
    /// Since the start.
    pub(super) elapsed: Duration,
    /// Logs that there will be.
    pub(super) wanted: u64,
    /// Different logs that the receiver has read.
    pub(super) delivered: u64,
    /// Deliveries beyond the first.
    pub(super) duplicates: u64,
    /// Logs that LogHub holds and the receiver has not read.
    pub(super) waiting: u64,
    /// Logs delivered each second, newest last.
    pub(super) rates: Vec<u64>,
    /// Logs waiting, newest last.
    pub(super) lags: Vec<u64>,
    /// What the forwarder says of itself.
    pub(super) status: Option<ForwarderStatus>,
    /// The shards.
    pub(super) shards: Vec<ShardRow>,
    /// Connections that are open.
    pub(super) connections: Vec<ConnectionRow>,
    /// What was done to it, and how often.
    pub(super) faults: Vec<(&'static str, u64)>,
    /// What happened, newest last.
    pub(super) events: Vec<String>,
    /// Lines in the log, and the last of them.
    pub(super) log: Option<(usize, String)>,
}

/// A shard as its consumer group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardRow {
    pub(super) shard: u32,
    pub(super) holder: Holder,
    /// Log groups received.
    pub(super) groups: u64,
    /// Log groups behind the checkpoint.
    pub(super) behind: u64,
}

/// Who holds a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Forwarder,
    Nobody,
    Thief,
    /// It was split, and is read to its end.
    Over,
}

impl Holder {
    fn named(self) -> (&'static str, Option<Mark>) {
        match self {
            Self::Forwarder => ("held", Some(Mark::Good)),
            Self::Nobody => ("free", Some(Mark::Notable)),
            Self::Thief => ("stolen", Some(Mark::Bad)),
            Self::Over => ("over", None),
        }
    }
}

/// Columns of what stands before a plot or a bar.
const LABEL: u16 = 10;
/// Columns of what stands behind it.
const FIGURES: u16 = 28;

/// Draws the scene over the whole frame.
pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene, style: Style) {
    let roomy = frame.area().height >= 20;
    let mut page = Page { left: frame.area(), frame, style };
    let seconds = scene.elapsed.as_secs_f64();
    let title = vec![page.text(Mark::Heading, "sls-syslog demo"), format!("  {seconds:.1} s, q ends it").into()];
    page.line(title);
    page.line(vec![scene.way.clone().into()]);
    page.blank(roomy);
    page.delivered(scene);
    let plot_height = if roomy { 2 } else { 1 };
    let rate = scene.rates.last().copied().unwrap_or(0);
    page.plot("rate", &scene.rates, &format!("{} logs/s", grouped(rate)), plot_height);
    let lag = scene.status.as_ref().and_then(|status| status.lag_s).map_or(String::new(), |lag| format!(", {lag} s"));
    page.plot("lag", &scene.lags, &format!("{} logs{lag}", grouped(scene.waiting)), plot_height);
    page.so_far(scene);
    // From the bottom up; the shards take what is left.
    if let Some((lines, last)) = &scene.log {
        let (lines, last) = (page.text(Mark::Bad, &format!("log, {lines} lines")), format!(": {last}"));
        page.bottom_lines(vec![vec![lines, last.into()]]);
    }
    page.faults(scene, roomy);
    page.connections(scene, roomy);
    page.blank(roomy);
    page.shards(&scene.shards);
}

/// What is left of the frame.
struct Page<'a, 'b> {
    frame: &'a mut Frame<'b>,
    left: Rect,
    style: Style,
}

impl Page<'_, '_> {
    // ---- parts -----------------------------------------------------------------------------------------------------

    fn delivered(&mut self, scene: &Scene) {
        let figures = format!("{} of {}", grouped(scene.delivered), grouped(scene.wanted));
        let Some((area, width)) = self.labelled("delivered", &figures, 1) else { return };
        let (done, rest) = bar(scene.delivered, scene.wanted, width);
        let done = self.text(Mark::Good, &done);
        self.put(area, vec![done, rest.into()]);
    }

    /// A plot of the newest values, as many as have room.
    fn plot(&mut self, label: &str, values: &[u64], figures: &str, height: u16) {
        let Some((area, width)) = self.labelled(label, figures, height) else { return };
        let newest = &values[values.len().saturating_sub(usize::from(width))..];
        let most = newest.iter().copied().max().unwrap_or(0).max(1);
        self.frame.render_widget(Sparkline::default().data(newest).max(most), area);
    }

    fn so_far(&mut self, scene: &Scene) {
        let what = match &scene.status {
            None => "the forwarder is starting".to_owned(),
            Some(status) => {
                let counters = &status.counters;
                let mut what = format!(
                    "{} MB raw, {} commits, {} resent, {} duplicates",
                    counters.raw_bytes / 1_000_000,
                    counters.commits,
                    grouped(counters.messages_resent),
                    grouped(scene.duplicates)
                );
                if counters.panics > 0 {
                    what += &format!(", {} panics", counters.panics);
                }
                what
            }
        };
        self.line(vec![format!("{:<1$}{what}", "so far", usize::from(LABEL)).into()]);
    }

    /// The receiver in a line, then its connections in one each, at the bottom.
    fn connections(&mut self, scene: &Scene, roomy: bool) {
        let mut lines = Vec::new();
        lines.extend(roomy.then(Vec::new));
        let mut receiver = vec![format!("{:<1$}", "receiver", usize::from(LABEL)).into()];
        match &scene.status {
            None => receiver.push("not asked for yet".into()),
            Some(status) => {
                match (&status.receiver, status.phase) {
                    (ReceiverState::Ready, _) => receiver.push(self.text(Mark::Good, "ready")),
                    (ReceiverState::Idle, Phase::Joining) => receiver.push("not asked for yet".into()),
                    (ReceiverState::Idle, _) => receiver.push("connecting".into()),
                    (ReceiverState::Down { why }, _) => receiver.push(self.text(Mark::Bad, &format!("down: {why}"))),
                }
                let counters = &status.counters;
                let confirmed = status.confirmation.as_str();
                let (opened, cut) = (counters.connections_opened, counters.connections_cut);
                if !matches!(status.receiver, ReceiverState::Down { .. }) {
                    receiver.push(format!(", confirmed by {confirmed}; connections opened {opened}, cut {cut}").into());
                }
            }
        }
        lines.push(receiver);
        for row in scene.connections.iter().take(3) {
            let head = format!("  connection {:>3}  {:>7} written, ", row.number, megabytes(row.written));
            let (done, rest) = bar(row.confirmed, row.written, 12);
            let done = self.text(Mark::Good, &done);
            lines.push(vec![
                head.into(),
                format!("{:>7} confirmed  ", megabytes(row.confirmed)).into(),
                done,
                rest.into(),
            ]);
        }
        self.bottom_lines(lines);
    }

    /// What was done, and what happened last, at the bottom.
    fn faults(&mut self, scene: &Scene, roomy: bool) {
        if scene.events.is_empty() && scene.faults.is_empty() {
            return;
        }
        let made: Vec<_> = scene.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let mut lines: Vec<Vec<Span<'static>>> =
            vec![vec![format!("{:<1$}{2}", "faults", usize::from(LABEL), made.join(", ")).into()]];
        let newest = &scene.events[scene.events.len().saturating_sub(if roomy { 3 } else { 1 })..];
        lines.extend(newest.iter().map(|event| vec![event.clone().into()]));
        self.bottom_lines(lines);
    }

    fn shards(&mut self, shards: &[ShardRow]) {
        if shards.is_empty() || self.left.height < 2 {
            return;
        }
        let width = self.left.width.saturating_sub(18 + FIGURES);
        let behind = format!("{:<18}{:<2$}  log groups behind", "shards", "committed", usize::from(width));
        let heading = self.text(Mark::Heading, &behind);
        self.line(vec![heading]);
        let room = usize::from(self.left.height);
        let shown = if shards.len() > room { room - 1 } else { shards.len() };
        for row in &shards[..shown] {
            let (name, mark) = row.holder.named();
            let name = format!("{name:<7}");
            let name = mark.map_or_else(|| name.clone().into(), |mark| self.text(mark, &name));
            let (done, rest) = bar(row.groups.saturating_sub(row.behind), row.groups, width);
            let done = self.text(Mark::Good, &done);
            let figures = format!("  {} of {}", grouped(row.behind), grouped(row.groups));
            self.line(vec![
                format!("  {:>6}  ", row.shard).into(),
                name,
                " ".into(),
                done,
                rest.into(),
                figures.into(),
            ]);
        }
        if shown < shards.len() {
            let behind = shards[shown..].iter().map(|row| row.behind).sum();
            self.line(vec![format!("  and {} more, {} behind", shards.len() - shown, grouped(behind)).into()]);
        }
    }

    // ---- pieces ----------------------------------------------------------------------------------------------------

    fn text(&self, mark: Mark, text: &str) -> Span<'static> {
        let look = Look::default();
        let look = match (self.style, mark) {
            (Style::Plain, _) => look,
            (Style::Coloured, Mark::Good) => look.fg(Color::Green),
            (Style::Coloured, Mark::Notable) => look.fg(Color::Magenta).add_modifier(Modifier::BOLD),
            (Style::Coloured, Mark::Bad) => look.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Style::Coloured, Mark::Heading) => look.add_modifier(Modifier::BOLD),
        };
        Span::styled(text.to_owned(), look)
    }

    fn put(&mut self, area: Rect, spans: Vec<Span<'static>>) {
        self.frame.render_widget(Line::from(spans), area);
    }

    /// The next rows from the top, if there are so many.
    fn top(&mut self, rows: u16) -> Option<Rect> {
        let rest = self.left.height.checked_sub(rows)?;
        let area = Rect { height: rows, ..self.left };
        self.left = Rect { y: self.left.y + rows, height: rest, ..self.left };
        Some(area)
    }

    fn line(&mut self, spans: Vec<Span<'static>>) {
        if let Some(area) = self.top(1) {
            self.put(area, spans);
        }
    }

    fn blank(&mut self, wanted: bool) {
        if wanted {
            self.top(1);
        }
    }

    /// Lines at the bottom, the first ones where there is not room for all.
    fn bottom_lines(&mut self, lines: Vec<Vec<Span<'static>>>) {
        let rows = self.left.height.min(u16::try_from(lines.len()).unwrap_or(u16::MAX));
        self.left.height -= rows;
        let mut area = Rect { y: self.left.y + self.left.height, height: 1, ..self.left };
        for line in lines.into_iter().take(usize::from(rows)) {
            self.put(area, line);
            area.y += 1;
        }
    }

    /// A label before and figures behind; answers what is left between them, and its width.
    fn labelled(&mut self, label: &str, figures: &str, height: u16) -> Option<(Rect, u16)> {
        let area = self.top(height)?;
        let width = area.width.saturating_sub(LABEL + FIGURES);
        // Where a bar has no room, the figures have.
        let behind = if width > 0 { LABEL + width + 2 } else { LABEL };
        let last = Rect { y: area.y + height - 1, height: 1, ..area };
        self.put(last, vec![label.to_owned().into()]);
        let figures_at = Rect { x: area.x + behind.min(area.width), width: area.width.saturating_sub(behind), ..last };
        self.put(figures_at, vec![figures.to_owned().into()]);
        Some((Rect { x: area.x + LABEL.min(area.width), width, ..area }, width))
    }
}

/// So much of so much, as a bar so many columns wide: what is done, and the rest.
fn bar(done: u64, of: u64, width: u16) -> (String, String) {
    let width = usize::from(width);
    // Full only when nothing is left.
    let full = if done >= of { width } else { (u128::from(done) * width as u128 / u128::from(of)) as usize };
    ("█".repeat(full), "░".repeat(width - full))
}

/// Digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
