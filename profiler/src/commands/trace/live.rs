//! A recording that somebody watches: the screen, the keys, and when it is drawn again.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::exit::Failure;
use crate::profile::Profile;
use crate::terminal;
use crate::tui::{Ask, Key, Keys, View};

/// How often the screen is made anew.
const EVERY: Duration = Duration::from_secs(1);
/// Making it takes one part in this many of the time, at most.
const SHARE: u32 = 150;

/// What there is to do.
#[derive(Clone, Copy, Debug)]
pub enum Happened {
    /// It is time to look at the profile again.
    Due,
    /// A key.
    Key(Key),
    /// The terminal has gone.
    Gone,
}

/// A screen. The terminal is as it was before once this is dropped.
pub struct Live {
    terminal: ratatui::DefaultTerminal,
    view: View,
    keys: Keys,
    due: Instant,
}

impl Live {
    /// Takes the terminal; `title` says what is watched.
    pub fn start(title: String, without_heap: bool) -> Result<Self, Failure> {
        let terminal =
            ratatui::try_init().map_err(|error| Failure::usage(format!("cannot draw on this terminal: {error}")))?;
        let colour = terminal::options(terminal::Stream::Output).colour;
        let view = View::new(title, without_heap, colour);
        Ok(Self { terminal, view, keys: Keys::listen(), due: Instant::now() })
    }

    async fn happened(&mut self) -> Happened {
        tokio::select! {
            key = self.keys.next() => key.map_or(Happened::Gone, Happened::Key),
            () = sleep_until(self.due.into()) => Happened::Due,
        }
    }

    /// A key was pressed: what is wanted of the recording. Draws what it changed.
    pub fn key(&mut self, key: Key, profile: &Profile) -> Result<Ask, Failure> {
        let ask = self.view.key(key);
        self.view.look_at(profile);
        self.draw()?;
        Ok(ask)
    }

    /// Whether the user wants to see what was there, and no new profile.
    pub fn is_paused(&self) -> bool {
        self.view.is_paused()
    }

    /// Shows a new profile; `began` is when its making began.
    pub fn take(&mut self, profile: &Profile, began: Instant) -> Result<(), Failure> {
        self.view.take(profile);
        self.draw()?;
        self.due = Instant::now() + EVERY.max(began.elapsed() * SHARE);
        Ok(())
    }

    /// Nothing is due before the next second.
    pub fn rest(&mut self) {
        self.due = Instant::now() + EVERY;
    }

    /// Says something in the last line.
    pub fn say(&mut self, message: String) -> Result<(), Failure> {
        self.view.say(message);
        self.draw()
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let drawn = self.terminal.draw(|frame| self.view.draw(frame));
        drawn.map(|_| ()).map_err(|error| Failure::usage(format!("cannot draw on this terminal: {error}")))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What happens next; never anything where nobody watches. May be dropped and asked again.
pub async fn happened(live: &mut Option<Live>) -> Happened {
    match live {
        Some(live) => live.happened().await,
        None => std::future::pending().await,
    }
}
