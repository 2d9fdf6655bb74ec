//! Data in a page: JSON that cannot end its element, whatever the texts in it are.

use std::fmt::Write as _;

use serde::Serialize;

use crate::render::{RenderError, sanitize};

/// The JSON of `data`, where every letter that HTML or a script could obey is written by its number.
pub(super) fn json(data: &impl Serialize) -> Result<String, RenderError> {
    let json = serde_json::to_string(data).map_err(|error| RenderError::Json(error.to_string()))?;
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for letter in json.chars() {
        // All of these stand in strings only.
        if matches!(letter, '<' | '>' | '&' | '\'') || sanitize::is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(letter);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_the_island_and_every_text_survives() {
        let hostile = ["</script>", "<!--", "]]>", "\u{2028}\u{2029}", "\u{202e}abc", "\x1b[2J", "'\"&", "\u{e0001}"];
        let island = json(&hostile).unwrap();
        assert!(!island.contains(['<', '>', '&', '\'']) && !island.contains(sanitize::is_hidden), "{island}");
        let read: Vec<String> = serde_json::from_str(&island).unwrap();
        assert_eq!(read, hostile);
    }
}
