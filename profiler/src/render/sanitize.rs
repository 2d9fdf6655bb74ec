//! Texts from the target are hostile: names, paths and command lines may hold escape codes, or letters that
//! reorder a line. They are made visible, and over-long ones lose their middle.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Replaces every character that is not seen, or that changes how others are seen, by its number: `\u{1b}`; ends of
/// lines and tabs as programmers write them: `\n`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_hidden(letter) => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// As [`visible`], at most `columns` wide: of a longer text the middle is left out.
pub fn name(text: &str, columns: usize) -> String {
    let short = ends(text, 2 * columns);
    let text = visible(&short);
    if text.width() <= columns {
        return text.into_owned();
    }
    let room = columns.saturating_sub(MARK.len());
    let tail_room = room / 2;
    let head = taken(text.chars(), room - tail_room);
    let tail: String = taken(text.chars().rev(), tail_room).chars().rev().collect();
    format!("{head}{MARK}{tail}")
}

const MARK: &str = "[...]";

/// The first and the last letters of a text that is far too long: accents take no column, so a text of them
/// would have no end, and a text of a megabyte is not worth reading through.
fn ends(text: &str, letters: usize) -> Cow<'_, str> {
    if text.len() <= 8 * letters {
        return Cow::Borrowed(text);
    }
    let head: String = text.chars().take(letters).collect();
    let tail_from = text.char_indices().rev().take(letters).last().map_or(0, |(at, _)| at);
    Cow::Owned(format!("{head}{MARK}{}", &text[tail_from..]))
}

fn taken(letters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    letters
        .take_while(|letter| {
            used += letter.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// Controls; marks that set the direction of text; what takes no room; line separators; what XML forbids.
pub(super) fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text in HTML and XML, in attributes too.
pub fn xml(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text;
    }
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    Cow::Owned(escaped.replace('\'', "&#39;"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_codes_and_direction_marks_are_seen() {
        assert_eq!(visible("a\x1b[31mb"), "a\\u{1b}[31mb");
        assert_eq!(visible("a\u{202e}b\u{2066}\n\r\t"), "a\\u{202e}b\\u{2066}\\n\\r\\t");
        assert_eq!(visible("größe_名前"), "größe_名前");
    }

    #[test]
    fn a_text_is_no_markup() {
        assert_eq!(xml("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(xml("</title><b a='\"'>&"), "&lt;/title&gt;&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }

    #[test]
    fn a_long_name_keeps_its_ends() {
        assert_eq!(name("abcdefghijklmnopqrstuvwxyz", 15), "abcde[...]vwxyz");
        assert_eq!(name("short", 15), "short");
        assert!(name(&"名".repeat(1 << 20), 40).width() <= 40);
        assert!(name(&"\u{301}".repeat(1 << 20), 40).len() < 1000, "accents have no width of their own");
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>(), columns in 10_usize..80) {
            let name = name(&text, columns);
            prop_assert!(!name.contains(is_hidden));
            prop_assert!(name.width() <= columns);
        }
    }
}
