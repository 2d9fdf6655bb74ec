//! How long a recording takes; who sits at the terminal may make it longer while it runs.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use crate::render::units;

/// Added at each press of Enter.
const STEP: Duration = Duration::from_secs(30);

/// The time that a recording is given.
pub struct Window {
    length: Option<Duration>,
    began: Instant,
    lines: Option<UnboundedReceiver<()>>,
}

impl Window {
    /// Of a fixed length; without one to the end of the process.
    pub fn of(length: Option<Duration>) -> Self {
        Self { length, began: Instant::now(), lines: None }
    }

    /// One that grows by 30 seconds at each press of Enter, where standard input is a terminal.
    pub fn growing(length: Duration) -> Self {
        Self { lines: io::stdin().is_terminal().then(listen).flatten(), ..Self::of(Some(length)) }
    }

    /// The time runs from now on.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Returns when the time is over (`None`), or has been made longer, with what to say of it. May be dropped and
    /// asked again.
    pub async fn change(&mut self) -> Option<String> {
        tokio::select! {
            () = over(self.began, self.length) => None,
            line = next(&mut self.lines) => Some(self.lengthen(line)),
        }
    }

    fn lengthen(&mut self, line: Option<()>) -> String {
        if line.is_none() {
            self.lines = None;
            return "no more input: the time stays as it is".to_owned();
        }
        let length = self.length.unwrap_or_default() + STEP;
        self.length = Some(length);
        format!("30 s more: until {}", time(length))
    }

    /// For the line of progress: "34 s of 60 s (Enter: 30 s more), ".
    pub fn note(&self) -> String {
        let Some(length) = self.length.filter(|_| self.lines.is_some()) else { return String::new() };
        format!("{} of {} (Enter: 30 s more), ", time(self.began.elapsed()), time(length))
    }
}

async fn over(began: Instant, length: Option<Duration>) {
    match length {
        Some(length) => sleep_until(began + length).await,
        None => std::future::pending().await,
    }
}

async fn next(lines: &mut Option<UnboundedReceiver<()>>) -> Option<()> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        _ => units::time_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// A thread of its own reads lines: a terminal hands out nothing less, and no read of it can be called off.
fn listen() -> Option<UnboundedReceiver<()>> {
    let (told, lines) = unbounded_channel();
    let read = move || {
        // In the background a read would stop us; with this signal blocked it fails instead.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTTIN);
        if signals.thread_block().is_err() {
            return;
        }
        for line in io::stdin().lock().lines() {
            if line.is_err() || told.send(()).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("pyalloc-keys".to_owned()).spawn(read).ok().map(|_| lines)
}
