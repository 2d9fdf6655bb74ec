//! Drawing: a view on a screen of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};
use unicode_width::UnicodeWidthStr as _;

use super::state::{Focus, View};
use super::workers::{Worker, signed_bytes};
use crate::render::{sanitize, units};

/// Columns of a number, and of the line of RSS over time.
const NUMBER: usize = 11;
const PID: usize = 12;
const HISTORY: usize = 16;
/// From this width on there is room for what the processes receive.
const WIDE: u16 = 100;
/// The table of processes takes at most this part of the screen.
const MOST_OF_SCREEN: u16 = 3;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HELP: [&str; 14] = [
    "q, Ctrl-C    end",
    "up, down     move; j and k, page up and down, home and end too",
    "tab          between processes and call paths",
    "enter        on a process: its lines alone; on a line: the paths to it",
    "esc          back",
    "a            call paths of all processes again",
    "l            next ledger: heap, resident, mapping",
    "v            next number: surviving bytes, bytes allocated, ...",
    "s            sort processes: tree, RSS, growth, live, alloc/s",
    "p, space     pause; what happens meanwhile is recorded all the same",
    "w            write the profile to a file; the trace goes on",
    "",
    "/min is the change of RSS over the last half minute; live is what was",
    "allocated since the start and is still there.   Any key closes this.",
];

impl View {
    /// Draws the whole screen.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let workers = u16::try_from(self.shown.workers.len()).unwrap_or(u16::MAX).saturating_add(1);
        let most = (area.height / MOST_OF_SCREEN).max(3);
        let [head, table, title, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(workers.min(most)),
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(Paragraph::new(self.head(head.width)), head);
        frame.render_widget(Paragraph::new(self.workers(table)), table);
        frame.render_widget(Paragraph::new(self.title(title.width)), title);
        let body_lines = if self.choice.place.is_some() { self.paths(body) } else { self.places(body) };
        frame.render_widget(Paragraph::new(body_lines), body);
        frame.render_widget(Paragraph::new(self.foot(foot.width)), foot);
        if self.help {
            help(frame, area);
        }
    }

    fn head(&self, width: u16) -> Line<'static> {
        let running = self.shown.workers.iter().filter(|worker| worker.running);
        let (count, rss) = running.fold((0, 0u64), |(count, rss), worker| (count + 1, rss.saturating_add(worker.rss)));
        let cost = format!("cost {}.{} %", self.shown.cost / 10, self.shown.cost % 10);
        let dropped = match self.shown.dropped {
            0 => String::new(),
            lost => format!("  {} DROPPED", units::count(lost)),
        };
        let paused = if self.paused { "  PAUSED" } else { "" };
        let figures = format!(
            "  {}  {}  RSS {}  {cost}{dropped}{paused}",
            clock(self.shown.at_ms),
            units::counted(count, "process"),
            units::bytes(rss),
        );
        let room = usize::from(width).saturating_sub(figures.width() + 8);
        let title = sanitize::name(&self.title, room.max(8));
        let text = fit(&format!("pyalloc {title}{figures}"), usize::from(width));
        Line::styled(text, self.style(Style::new().add_modifier(Modifier::REVERSED)))
    }

    fn workers(&self, area: Rect) -> Vec<Line<'static>> {
        let width = usize::from(area.width);
        let traffic = area.width >= WIDE;
        let received = if traffic { format!("{:>NUMBER$}", "recv/s") } else { String::new() };
        let header = format!(
            "  {:<PID$}{:>NUMBER$}{:>NUMBER$}{:>NUMBER$}{:>NUMBER$}{received}  {:<HISTORY$} what",
            "pid", "RSS", "/min", "live", "alloc/s", "RSS over time"
        );
        let mut lines = vec![Line::styled(fit(&header, width), self.style(Style::new().add_modifier(Modifier::BOLD)))];
        let rows = usize::from(area.height).saturating_sub(1);
        let first = self.worker.saturating_sub(rows.saturating_sub(1));
        for (index, worker) in self.shown.workers.iter().enumerate().skip(first).take(rows) {
            let selected = index == self.worker && self.focus == Focus::Workers;
            let text = fit(&row(worker, selected, traffic), width);
            lines.push(Line::styled(text, self.row_style(selected, worker.running)));
        }
        lines
    }

    fn title(&self, width: u16) -> Line<'static> {
        let of = match self.choice.process.and_then(|index| self.worker_of(index)) {
            Some(worker) => format!("process {}", worker.pid),
            None => "all processes".to_owned(),
        };
        let what = self.choice.value.words();
        let text = match &self.choice.place {
            Some(place) => format!("paths to {place}, {what}, {of}   (esc: back)"),
            None => format!(
                "{} ledger: {what}, {of}: {} in {}",
                self.choice.ledger.name(),
                self.number(self.shown.sum),
                units::counted(self.shown.places.len() as u64, "line"),
            ),
        };
        let text = format!("{:-<1$}", format!("- {} ", sanitize::visible(&text)), usize::from(width));
        Line::styled(fit(&text, usize::from(width)), self.style(Style::new().add_modifier(Modifier::BOLD)))
    }

    fn worker_of(&self, index: u32) -> Option<&Worker> {
        self.shown.workers.iter().find(|worker| worker.index == index)
    }

    fn places(&self, area: Rect) -> Vec<Line<'static>> {
        if self.shown.places.is_empty() {
            return vec![Line::raw("  nothing yet")];
        }
        let rows = usize::from(area.height);
        let first = self.place.saturating_sub(rows.saturating_sub(1));
        let shown = self.shown.places.iter().enumerate().skip(first).take(rows);
        let line = |(index, place): (usize, &crate::render::live::Place)| {
            let selected = index == self.place && self.focus == Focus::Places;
            let growth = match self.shown.growth.get(&place.name) {
                Some(growth) if self.choice.value.is_bytes() => {
                    format!("{}/s", signed_bytes(*growth)).replace("flat/s", "flat")
                }
                _ => String::new(),
            };
            let text = format!(
                "{} {:>NUMBER$}{:>9}{:>14}  {}",
                mark(selected),
                self.number(place.value),
                units::share(place.value, self.shown.sum),
                growth,
                place.name
            );
            Line::styled(fit(&text, usize::from(area.width)), self.row_style(selected, place.own))
        };
        shown.map(line).collect()
    }

    fn paths(&self, area: Rect) -> Vec<Line<'static>> {
        let width = usize::from(area.width);
        let mut lines = Vec::new();
        for (value, frames) in &self.shown.paths {
            let head = format!("  {} {}", self.number(*value), units::share(*value, self.shown.sum));
            lines.push(Line::styled(fit(&head, width), self.style(Style::new().add_modifier(Modifier::BOLD))));
            for (depth, (name, own)) in frames.iter().enumerate() {
                let text = format!("    {}{name}", " ".repeat(depth.min(20)));
                lines.push(Line::styled(fit(&text, width), self.row_style(false, *own)));
            }
            lines.push(Line::raw(""));
        }
        if lines.is_empty() {
            lines.push(Line::raw("  not there any more (esc: back)"));
        }
        lines.into_iter().skip(self.scroll).take(usize::from(area.height)).collect()
    }

    fn foot(&self, width: u16) -> Line<'static> {
        let text = match self.message.as_str() {
            "" => format!(
                " q end  p {}  s sort: {}  l ledger  v number  enter in  esc back  w write  ? help",
                if self.paused { "go on" } else { "pause" },
                self.choice.sort.name()
            ),
            message => format!(" {}", sanitize::visible(message)),
        };
        Line::styled(fit(&text, usize::from(width)), self.style(Style::new().add_modifier(Modifier::REVERSED)))
    }

    fn number(&self, value: u64) -> String {
        if self.choice.value.is_bytes() { units::bytes(value) } else { units::count(value) }
    }

    /// Library code and processes that ended are faint, what is selected stands out; without colour too.
    fn row_style(&self, selected: bool, strong: bool) -> Style {
        match (selected, strong) {
            (true, _) => self.style(Style::new().add_modifier(Modifier::REVERSED)),
            (false, true) => self.style(Style::new()),
            (false, false) if self.colour => Style::new().fg(Color::DarkGray),
            (false, false) => Style::new().add_modifier(Modifier::DIM),
        }
    }

    fn style(&self, style: Style) -> Style {
        style
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let width = area.width.min(76);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let mut lines = vec![Line::raw("")];
    lines.extend(HELP.iter().map(|line| Line::from(vec![Span::raw("  "), Span::raw(*line)])));
    frame.render_widget(Clear, place);
    let block = ratatui::widgets::Block::bordered().title(" keys ");
    lines.remove(0);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

fn row(worker: &Worker, selected: bool, traffic: bool) -> String {
    let pid = format!("{}{}", " ".repeat(worker.depth.min(4)), worker.pid);
    let received = match (traffic, worker.received) {
        (false, _) => String::new(),
        (true, None) => format!("{:>NUMBER$}", "-"),
        (true, Some(received)) => format!("{:>NUMBER$}", units::bytes(received)),
    };
    let slope = if worker.running { signed_bytes(worker.slope) } else { "ended".to_owned() };
    format!(
        "{} {pid:<PID$}{:>NUMBER$}{slope:>NUMBER$}{:>NUMBER$}{:>NUMBER$}{received}  {:<HISTORY$} {}",
        mark(selected),
        units::bytes(worker.rss),
        units::bytes(worker.live),
        units::bytes(worker.rate),
        history(&worker.history),
        worker.command
    )
}

fn mark(selected: bool) -> char {
    if selected { '>' } else { ' ' }
}

/// RSS as a line of bars from the lowest reading to the highest; one that hardly changed is low and even.
fn history(readings: &[u64]) -> String {
    let per = readings.len().div_ceil(HISTORY).max(1);
    let points: Vec<u64> = readings.chunks(per).map(|chunk| chunk.iter().copied().max().unwrap_or(0)).collect();
    let (low, high) = (points.iter().copied().min().unwrap_or(0), points.iter().copied().max().unwrap_or(0));
    // Below a part in fifty nobody would call it a change.
    let range = (high - low).max(high / 50).max(1);
    let bar = |point: &u64| BARS[usize::try_from((point - low) * 7 / range).unwrap_or(0).min(7)];
    points.iter().map(bar).collect()
}

/// "00:01:23"
fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Exactly as wide as the screen: what is longer is cut.
fn fit(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let columns = unicode_width::UnicodeWidthChar::width(letter).unwrap_or(0);
        if used + columns > width {
            break;
        }
        used += columns;
        out.push(letter);
    }
    out.extend(std::iter::repeat_n(' ', width - used));
    out
}
