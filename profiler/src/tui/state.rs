//! What the user has chosen, and what a key changes of it.

use super::input::Key;
use super::shown::Shown;
use super::workers::Sort;
use crate::profile::Profile;
use crate::render::{Ledger, Value};

/// What the user wants of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
    /// The profile, in a file; the trace goes on.
    Save,
}

/// Which table the arrows move in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The processes.
    Workers,
    /// The places in the code.
    #[default]
    Places,
}

/// What is shown of the profile.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The ledger.
    pub ledger: Ledger,
    /// The number.
    pub value: Value,
    /// One process only.
    pub process: Option<u32>,
    /// The order of the processes.
    pub sort: Sort,
    /// The place that was gone into.
    pub place: Option<String>,
}

/// The live view.
pub struct View {
    pub(super) title: String,
    pub(super) choice: Choice,
    pub(super) focus: Focus,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) colour: bool,
    pub(super) shown: Shown,
    /// Rows selected in the tables.
    pub(super) worker: usize,
    pub(super) place: usize,
    /// First line shown of the call paths.
    pub(super) scroll: usize,
    /// A line for the user, until the next key.
    pub(super) message: String,
}

/// Rows that a page key moves by.
const PAGE: usize = 10;

impl View {
    /// Of a heap that is traced, or of pages alone.
    pub fn new(title: String, without_heap: bool, colour: bool) -> Self {
        let ledger = if without_heap { Ledger::Resident } else { Ledger::Heap };
        let choice = Choice { ledger, value: ledger.first_value(), process: None, sort: Sort::Tree, place: None };
        Self {
            title,
            choice,
            focus: Focus::Places,
            paused: false,
            help: false,
            colour,
            shown: Shown::default(),
            worker: 0,
            place: 0,
            scroll: 0,
            message: String::new(),
        }
    }

    /// Takes the profile as it is now, unless it is paused.
    pub fn take(&mut self, profile: &Profile) {
        if !self.paused {
            self.look_at(profile);
        }
    }

    /// Whether it stays as it is.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes it in any case: another choice was made.
    pub fn look_at(&mut self, profile: &Profile) {
        let chosen = self.shown.workers.get(self.worker).map(|worker| worker.index);
        self.shown = Shown::of(profile, &self.choice, &self.shown);
        // Workers come and go and change places: the selection stays with its process.
        let same = self.shown.workers.iter().position(|worker| Some(worker.index) == chosen);
        self.worker = same.unwrap_or(self.worker.min(self.shown.workers.len().saturating_sub(1)));
        self.place = self.place.min(self.shown.places.len().saturating_sub(1));
    }

    /// Says something in the last line.
    pub fn say(&mut self, message: String) {
        self.message = message;
    }

    /// A key was pressed.
    pub fn key(&mut self, key: Key) -> Ask {
        self.message.clear();
        if self.help && key != Key::Interrupt {
            self.help = false;
            return Ask::Nothing;
        }
        match key {
            Key::Interrupt | Key::Letter('q') => return Ask::Quit,
            Key::Letter('w') => return Ask::Save,
            Key::Letter('?' | 'h') => self.help = true,
            Key::Letter('p' | ' ') => self.paused = !self.paused,
            Key::Letter('s') => self.choice.sort = self.choice.sort.next(),
            Key::Letter('l') => self.show(self.choice.ledger.next(), None),
            Key::Letter('v') => self.show(self.choice.ledger, Some(self.choice.ledger.value_after(self.choice.value))),
            Key::Letter('a') => self.of_process(None),
            Key::Tab => self.focus = if self.focus == Focus::Places { Focus::Workers } else { Focus::Places },
            Key::Enter => self.enter(),
            Key::Back => self.back(),
            Key::Up => self.move_by(|at| at.saturating_sub(1)),
            Key::Down => self.move_by(|at| at + 1),
            Key::PageUp => self.move_by(|at| at.saturating_sub(PAGE)),
            Key::PageDown => self.move_by(|at| at + PAGE),
            Key::Home => self.move_by(|_| 0),
            Key::End => self.move_by(|_| usize::MAX),
            Key::Letter(_) | Key::Resized => {}
        }
        Ask::Nothing
    }

    fn show(&mut self, ledger: Ledger, value: Option<Value>) {
        self.choice.ledger = ledger;
        self.choice.value = value.unwrap_or_else(|| ledger.first_value());
        self.choice.place = None;
        self.place = 0;
        // Another ledger's numbers are no reading before.
        self.shown.places.clear();
        self.shown.growth.clear();
    }

    fn of_process(&mut self, process: Option<u32>) {
        if process != self.choice.process {
            self.choice.process = process;
            self.show(self.choice.ledger, Some(self.choice.value));
        }
    }

    fn enter(&mut self) {
        match self.focus {
            Focus::Workers => {
                self.of_process(self.shown.workers.get(self.worker).map(|worker| worker.index));
                self.focus = Focus::Places;
            }
            Focus::Places => {
                self.choice.place = self.shown.places.get(self.place).map(|place| place.name.clone());
                self.scroll = 0;
            }
        }
    }

    fn back(&mut self) {
        if self.choice.place.take().is_none() {
            self.of_process(None);
        }
    }

    fn move_by(&mut self, to: impl Fn(usize) -> usize) {
        let within = |at: usize, rows: usize| at.min(rows.saturating_sub(1));
        if self.choice.place.is_some() {
            let lines = self.shown.paths.iter().map(|(_, frames)| frames.len() + 2).sum();
            self.scroll = within(to(self.scroll), lines);
        } else if self.focus == Focus::Workers {
            self.worker = within(to(self.worker), self.shown.workers.len());
        } else {
            self.place = within(to(self.place), self.shown.places.len());
        }
    }
}
