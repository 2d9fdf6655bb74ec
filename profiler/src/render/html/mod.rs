//! One page for a browser: everything that a report has, in a file of its own that needs no network and runs no code
//! but ours.
//!
//! The page's style and script stand in it as they are; the data is an island of JSON in which no letter can end the
//! island. The script writes texts as texts, never as markup, and the policy in the head allows nothing but this style
//! and this script, by their hashes.

mod data;
mod flame;
mod island;
mod objects;
mod paths;
mod policy;
mod processes;
mod readings;
mod verdict;

use super::{Options, RenderError, sanitize};
use crate::profile::Profile;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: [&str; 6] = [
    include_str!("script/common.js"),
    include_str!("script/chart.js"),
    include_str!("script/flame.js"),
    include_str!("script/tables.js"),
    include_str!("script/verdict.js"),
    include_str!("script/page.js"),
];

/// Most bytes of a page: what mail servers let pass, and what a browser opens at once.
const MOST_BYTES: usize = 5_000_000;

/// Renders the profile.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<String, RenderError> {
    let mut nodes = flame::MOST_NODES;
    loop {
        let page = page(profile, options, nodes)?;
        if page.len() < MOST_BYTES || nodes < 100 {
            return Ok(page);
        }
        nodes /= 2;
    }
}

fn page(profile: &Profile, options: &Options, most_nodes: usize) -> Result<String, RenderError> {
    let data = data::Data::new(profile, options, most_nodes)?;
    let island = island::json(&data)?;
    let script = SCRIPT.concat();
    // One pass from the left: what is filled in is never looked at again.
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + script.len() + island.len() + 512);
    let mut rest = PAGE;
    while let Some(at) = rest.find("{{") {
        let (before, from) = rest.split_at(at);
        let end = from.find("}}").map_or(from.len(), |end| end + 2);
        page.push_str(before);
        match &from[..end] {
            "{{policy}}" => page.push_str(&policy::policy(STYLE, &script)),
            "{{title}}" => page.push_str(&sanitize::xml(&data.title)),
            "{{style}}" => page.push_str(STYLE),
            "{{script}}" => page.push_str(&script),
            "{{data}}" => page.push_str(&island),
            other => page.push_str(other),
        }
        rest = &from[end..];
    }
    page.push_str(rest);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cannot_end_their_elements() {
        for part in SCRIPT.iter().chain([&STYLE]) {
            assert!(!part.to_lowercase().contains("</s"), "a closing tag inside ends the element");
            assert!(!part.contains("<!--"));
        }
        let places = ["{{policy}}", "{{title}}", "{{style}}", "{{script}}", "{{data}}"];
        assert!(places.iter().all(|place| PAGE.matches(place).count() == 1));
        assert_eq!(PAGE.matches("{{").count(), places.len());
    }

    #[test]
    fn the_script_writes_no_markup_and_asks_no_network() {
        let script = SCRIPT.concat();
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "Function(",
            "fetch(",
            "XMLHttp",
            "import(",
            "http:",
            "https:",
            "WebSocket",
            "localStorage",
        ] {
            assert!(!script.replace("http://www.w3.org/2000/svg", "").contains(forbidden), "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!PAGE.contains("src=") && !PAGE.contains("href=\"http"));
    }
}
