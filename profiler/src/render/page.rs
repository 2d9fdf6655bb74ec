//! The page of a text report: headings, facts and wrapped lines, of a given width.

use unicode_width::UnicodeWidthStr as _;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Columns of a fact's name.
const NAME_COLUMNS: usize = 16;

/// A piece of a line that is not broken.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The text; already visible.
    pub text: String,
    /// Shown faintly where there is colour.
    pub dim: bool,
}

/// A page that is being written.
pub(super) struct Page {
    text: String,
    width: usize,
    colour: bool,
}

impl Page {
    pub(super) fn new(width: usize, colour: bool) -> Self {
        Self { text: String::new(), width, colour }
    }

    /// Columns to the right of `column`.
    pub(super) fn room(&self, column: usize) -> usize {
        self.width.saturating_sub(column)
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// A heading, after an empty line.
    pub(super) fn heading(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.styled(text, BOLD);
        self.text.push('\n');
    }

    /// `  name            text`, wrapped under the text.
    pub(super) fn fact(&mut self, name: &str, text: &str) {
        let first = format!("  {name:<NAME_COLUMNS$}");
        self.pieces(&first, 2 + NAME_COLUMNS, &words(text));
    }

    /// A sentence, indented and wrapped.
    pub(super) fn sentence(&mut self, text: &str) {
        self.pieces("  ", 2, &words(text));
    }

    /// A line that is not wrapped: a row of a table.
    pub(super) fn row(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// Pieces joined by blanks, after `first`; the lines that follow are indented by `hanging` columns.
    pub(super) fn pieces(&mut self, first: &str, hanging: usize, pieces: &[Piece]) {
        self.text.push_str(first);
        let mut column = first.width();
        let mut at_start = true;
        for piece in pieces {
            let width = piece.text.width();
            if !at_start && column + 1 + width > self.width {
                self.text.push('\n');
                self.text.push_str(&" ".repeat(hanging));
                (column, at_start) = (hanging, true);
            }
            if !at_start {
                self.text.push(' ');
                column += 1;
            }
            if piece.dim {
                self.styled(&piece.text, DIM)
            } else {
                self.text.push_str(&piece.text)
            }
            column += width;
            at_start = false;
        }
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        self.text.push('\n');
    }

    fn styled(&mut self, text: &str, style: &str) {
        if self.colour {
            self.text.extend([style, text, PLAIN]);
        } else {
            self.text.push_str(text);
        }
    }
}

/// The words of a sentence, each a piece; a number stays with its unit.
pub(super) fn words(text: &str) -> Vec<Piece> {
    const UNITS: [&str; 12] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "%", "ns", "ms", "s", "min"];
    let mut pieces: Vec<Piece> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let is_unit = UNITS.contains(&word.trim_end_matches([',', ';', ':', '.', ')']));
        match pieces.last_mut().filter(|last| is_unit && last.text.ends_with(|c: char| c.is_ascii_digit())) {
            Some(number) => number.text.extend([" ", word]),
            // A no-break space keeps words together, and is a plain one on the page.
            None => pieces.push(Piece { text: word.replace('\u{a0}', " "), dim: false }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_under_their_text() {
        let mut page = Page::new(40, false);
        page.heading("Title");
        page.fact("name", "one two three four five six seven");
        assert_eq!(page.finish(), "Title\n  name            one two three four\n                  five six seven\n");
    }

    #[test]
    fn colour_takes_no_room() {
        let mut page = Page::new(9, true);
        let piece = |text: &str| Piece { text: text.to_owned(), dim: true };
        page.pieces("", 2, &[piece("aaaa"), piece("bbbb"), piece("cccc")]);
        let expected = "\x1b[2maaaa\x1b[0m \x1b[2mbbbb\x1b[0m\n  \x1b[2mcccc\x1b[0m\n";
        assert_eq!(page.finish(), expected);
    }
}
