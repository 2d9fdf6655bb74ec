//! Whose code a file is, from its path alone.

use std::sync::LazyLock;

use regex::Regex;

use crate::profile::FrameKind;

/// Where installed packages lie, in any scheme: Debian's is dist-packages; zip applications and eggs carry theirs.
/// So do the scripts that installers write for them: `bin/gunicorn`.
const PACKAGES: &str = r"(^|/)(site-packages|dist-packages)/|\.(egg|pyz|pyzw|whl)/|(^|/)bin/[^/.]+$";

/// `lib/python3.11/` or `lib64/python3.13t/` under any prefix; `python311.zip`; modules frozen into the program.
const STDLIB: &str = r"(^|/)lib(64)?/python3\.\d+[a-z]*/|(^|/)python3\d+\.zip/|^<frozen [^>]*>$";

/// The kind of the code in a file, by the path that the interpreter has for it (`co_filename`).
///
/// Texts without a file (`<string>`, `<stdin>`) are the user's own.
pub fn classify(file: &str) -> FrameKind {
    static PATTERNS: LazyLock<Option<[Regex; 2]>> =
        LazyLock::new(|| Some([Regex::new(PACKAGES).ok()?, Regex::new(STDLIB).ok()?]));
    match PATTERNS.as_ref() {
        Some([packages, _]) if packages.is_match(file) => FrameKind::Package,
        Some([_, stdlib]) if stdlib.is_match(file) => FrameKind::Stdlib,
        _ => FrameKind::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_whose_code_a_file_is() {
        let cases = [
            (FrameKind::Own, "/srv/app/main.py"),
            (FrameKind::Own, "app/views.py"),
            (FrameKind::Own, "<string>"),
            (FrameKind::Own, "<stdin>"),
            (FrameKind::Own, "/home/me/python3.11/app.py"),
            (FrameKind::Own, "/srv/site-packages-mirror/sync.py"),
            (FrameKind::Own, ""),
            (FrameKind::Stdlib, "/usr/lib/python3.11/json/decoder.py"),
            (FrameKind::Stdlib, "/home/me/.pyenv/versions/3.13.0/lib/python3.13/threading.py"),
            (FrameKind::Stdlib, "/opt/py/lib64/python3.13t/asyncio/events.py"),
            (FrameKind::Stdlib, "/usr/lib/python311.zip/json/__init__.py"),
            (FrameKind::Stdlib, "<frozen importlib._bootstrap>"),
            (FrameKind::Package, "/usr/lib/python3/dist-packages/apt/cache.py"),
            (FrameKind::Package, "/srv/venv/lib/python3.11/site-packages/flask/app.py"),
            (FrameKind::Package, "/home/me/.local/lib/python3.12/site-packages/x.py"),
            (FrameKind::Package, "/srv/eggs/Zope-5.egg/Zope/app.py"),
            (FrameKind::Package, "/srv/tool.pyz/tool/__main__.py"),
            (FrameKind::Package, "lib/site-packages/x.py"),
            (FrameKind::Package, "/srv/venv/bin/gunicorn"),
            (FrameKind::Own, "/srv/app/bin/serve.py"),
        ];
        for (kind, file) in cases {
            assert_eq!(classify(file), kind, "{file}");
        }
    }
}
