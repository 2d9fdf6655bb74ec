//! Text in Markdown that stays text: a name may hold anything.

use crate::render::sanitize;

/// Code in a line or in a cell of a table.
///
/// In HTML's form, because in a code span of Markdown nothing can be escaped, and `|` ends a cell even there.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Text in a line or in a cell.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in sanitize::visible(text).chars() {
        match letter {
            // What Markdown or GitHub gives a meaning, by its number: links, mentions, references, emphasis, tables.
            '&' | '<' | '>' | '"' | '\'' | '`' | '*' | '_' | '|' | '[' | ']' | '(' | ')' | '\\' | '!' | '#' | '@'
            | '~' | '$' | ':' | '{' | '}' | '=' | '+' | '^' => {
                out.push_str(&format!("&#{};", u32::from(letter)));
            }
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_a_meaning() {
        assert_eq!(escaped("a|b`c` <b> @me"), "a&#124;b&#96;c&#96; &#60;b&#62; &#64;me");
        assert_eq!(code("x\n\x1b"), "<code>x&#92;n&#92;u&#123;1b&#125;</code>");
    }
}
