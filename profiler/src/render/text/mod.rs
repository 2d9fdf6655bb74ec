//! The text report, in the order in which a person asks: who, what grew, which code, which payloads, how sure.

mod allocators;
mod filling;
mod growth;
mod inherited;
mod objects;
mod paths;
mod payloads;
mod process;
mod quality;
mod resident;
pub(super) mod sentences;
mod sides;
mod tree;
mod without_probes;

pub(super) use resident::{name as part_name, unshared_by_cause};
pub(super) use tree::state;

use super::diagnosis;
use super::page::Page;
use super::path::{NAME_COLUMNS, Names};
use super::{Options, RenderError};
use crate::profile::Profile;
use crate::profile::tree::Tree;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let names = Names::new(profile, NAME_COLUMNS);
    let mut page = Page::new(options.width, options.colour);
    let tree = Tree::new(profile);
    process::write(&mut page, profile, options, &tree);
    growth::write(&mut page, profile, &tree);
    resident::write(&mut page, profile, &names, options);
    if options.per_process {
        paths::write_each(&mut page, profile, &names, options)?;
    } else {
        paths::write(&mut page, profile, &names, options)?;
    }
    paths::write_killed(&mut page, profile, &names, options, &tree);
    payloads::write(&mut page, profile, &names, options.top);
    objects::write(&mut page, profile);
    quality::write(&mut page, profile);
    let diagnosis = diagnosis::text::render(profile, options);
    let gap = if diagnosis.is_empty() { "" } else { "\n" };
    Ok(diagnosis + gap + &page.finish())
}
