//! The text report, in the order in which a person asks: who, what grew, which code, which payloads, how sure.

mod growth;
mod paths;
mod payloads;
mod process;
mod quality;

use super::page::Page;
use super::path::{NAME_COLUMNS, Names};
use super::{Options, RenderError};
use crate::profile::Profile;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let names = Names::new(profile, NAME_COLUMNS);
    let mut page = Page::new(options.width, options.colour);
    process::write(&mut page, profile);
    growth::write(&mut page, profile);
    for value in options.values() {
        paths::write(&mut page, profile, &names, options, value)?;
    }
    payloads::write(&mut page, profile, &names, options.top);
    quality::write(&mut page, profile);
    Ok(page.finish())
}
