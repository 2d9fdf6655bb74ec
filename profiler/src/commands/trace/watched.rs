//! A recording that is shown while it goes on: nothing is written unless the user asks for it.

use std::time::Instant;

use super::end::End;
use super::live::{Happened, Live, happened};
use super::record::Recording;
use crate::exit::Failure;
use crate::output;
use crate::profile::file;
use crate::render::sanitize;
use crate::tui::Ask;

impl Recording {
    /// From now on it is shown; the copy of the profile that is written every few seconds is not.
    pub fn show_on(&mut self, live: Live) {
        self.live = Some(live);
    }

    /// Acts on a key, or draws the screen anew; the end if it was asked for.
    pub(super) fn show(&mut self, happened: Happened) -> Result<Option<End>, Failure> {
        let Some(live) = &mut self.live else { return Ok(None) };
        match happened {
            Happened::Gone => return Ok(Some(End::Interrupted)),
            Happened::Key(key) => match live.key(key, self.recorder.profile())? {
                Ask::Nothing => {}
                Ask::Quit => return Ok(Some(End::Interrupted)),
                Ask::Save => self.save()?,
            },
            Happened::Due => self.refresh()?,
        }
        Ok(None)
    }

    fn refresh(&mut self) -> Result<(), Failure> {
        if let Some(live) = self.live.as_mut().filter(|live| live.is_paused()) {
            // The profile is that of the screen: a key may show more of it.
            live.rest();
            return Ok(());
        }
        let began = Instant::now();
        self.read_processes()?;
        let profile = self.recorder.snapshot(&self.kernel, false).map_err(Failure::cannot_observe)?;
        self.live.as_mut().map_or(Ok(()), |live| live.take(profile, began))
    }

    /// Writes the profile as it is now, and says where.
    fn save(&mut self) -> Result<(), Failure> {
        let profile = self.recorder.snapshot(&self.kernel, false).map_err(Failure::cannot_observe)?;
        let said = match file::write(&self.path, profile, output::sudo_owner()) {
            Ok(()) => format!("written to {}", sanitize::visible(&self.path.display().to_string())),
            // It can be tried again.
            Err(error) => format!("not written: {error}"),
        };
        self.live.as_mut().map_or(Ok(()), |live| live.say(said))
    }

    /// The last process has ended: what it left stays on the screen until the user has seen enough.
    pub(super) async fn linger(&mut self) -> Result<(), Failure> {
        self.refresh()?;
        if let Some(live) = &mut self.live {
            live.say("every process has ended   q: end   w: write the profile".to_owned())?;
        }
        loop {
            let happened = happened(&mut self.live).await;
            if !matches!(happened, Happened::Due) && self.show(happened)?.is_some() {
                return Ok(());
            }
            if let (Happened::Due, Some(live)) = (happened, &mut self.live) {
                live.rest();
            }
        }
    }

    /// Lets the processes go; the terminal is as it was before.
    pub fn close(mut self) {
        self.live = None;
        self.tree.forget_all(&mut self.kernel);
        self.kernel.detach();
    }
}
