//! Patterns for tests and functions: `*` for any text, `?` for one letter.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// As it is written.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// True if it matches `file::name`, one of its ends after a slash, or the name alone.
    pub fn matches(&self, id: &str) -> bool {
        let name = id.split_once("::").map(|(_, name)| name);
        let file_end = id.find("::").unwrap_or(id.len());
        let ends = id[..file_end].match_indices('/').map(|(at, _)| &id[at + 1..]);
        std::iter::once(id).chain(name).chain(ends).any(|text| glob(self.0.as_bytes(), text.as_bytes()))
    }
}

/// In time proportional to the product of both lengths at worst.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let check = |pattern: &str, id: &str, expected: bool| {
            assert_eq!(Pattern::new(pattern).matches(id), expected, "{pattern} {id}");
        };
        check("tests/test_api.py::*", "tests/test_api.py::TestA::test_new", true);
        check("tests/test_api.py::*", "/home/me/shop/tests/test_api.py::test_new", true);
        check("test_new", "tests/test_api.py::test_new", true);
        check("test_ne", "tests/test_api.py::test_new", false);
        check("test_?ew", "tests/test_api.py::test_new", true);
        check("api.py::*", "tests/test_api.py::test_new", false);
        check("*", "x", true);
        check("", "x", false);
        check(&"*a".repeat(40), &"a".repeat(2000).replace("aa", "ab"), false);
    }
}
