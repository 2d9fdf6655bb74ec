//! Keys, from the terminal.

use std::thread;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Keys that are waiting: nobody types faster than a screen is drawn.
const WAITING: usize = 64;

/// What was pressed, or happened to the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter.
    Letter(char),
    /// The arrows, or their letters j and k.
    Up,
    /// See [`Key::Up`].
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first row.
    Home,
    /// To the last row.
    End,
    /// Into what is selected.
    Enter,
    /// Back out.
    Back,
    /// To the other table.
    Tab,
    /// Ctrl-C.
    Interrupt,
    /// The terminal has another size.
    Resized,
}

/// The keys as they come.
pub struct Keys(Receiver<Key>);

impl Keys {
    /// Listens, on a thread of its own that ends with the program: a read of the terminal cannot be taken back.
    pub fn listen() -> Self {
        let (sender, receiver) = channel(WAITING);
        thread::spawn(move || forward(&sender));
        Self(receiver)
    }

    /// The next key; `None` once the terminal has gone.
    pub async fn next(&mut self) -> Option<Key> {
        self.0.recv().await
    }
}

fn forward(sender: &Sender<Key>) {
    while let Ok(event) = event::read() {
        if let Some(key) = meaning(&event)
            && sender.blocking_send(key).is_err()
        {
            return;
        }
    }
}

fn meaning(event: &Event) -> Option<Key> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(*key),
        Event::Resize(..) => Some(Key::Resized),
        _ => None,
    }
}

fn of_key(key: KeyEvent) -> Option<Key> {
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char('j') | KeyCode::Down => Key::Down,
        KeyCode::Char('k') | KeyCode::Up => Key::Up,
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter | KeyCode::Right => Key::Enter,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => Key::Back,
        KeyCode::Tab | KeyCode::BackTab => Key::Tab,
        _ => return None,
    })
}
