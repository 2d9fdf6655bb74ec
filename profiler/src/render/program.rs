//! What a process is, in few words, from its command line: `gunicorn app:app` and not the interpreter's path.

use super::sanitize;
use crate::profile::Process;

/// Widest name of a program, in columns.
const PROGRAM_COLUMNS: usize = 40;
/// Of a longer command line the rest is not looked at, in bytes.
const MOST_BYTES: usize = 4096;

/// `4711 gunicorn`: the process and its script; a title that the process gave itself is kept whole.
pub(super) fn named(process: &Process) -> String {
    format!("{} {}", process.pid, program(&process.command))
}

/// `gunicorn`, `gunicorn: worker [app:app]`, `multiprocessing.spawn`.
pub(super) fn program(command: &str) -> String {
    let (program, _) = split(command);
    or_unknown(sanitize::name(&program, PROGRAM_COLUMNS))
}

/// `gunicorn --threads 8 app:app`, at most `columns` wide.
pub(super) fn short(command: &str, columns: usize) -> String {
    let (program, arguments) = split(command);
    let short = if arguments.is_empty() { program } else { format!("{program} {arguments}") };
    or_unknown(sanitize::name(&short, columns))
}

fn or_unknown(name: String) -> String {
    if name.trim().is_empty() { "unknown command".to_owned() } else { name }
}

/// The program and its arguments.
fn split(command: &str) -> (String, String) {
    let end = (0..=command.len().min(MOST_BYTES)).rev().find(|at| command.is_char_boundary(*at)).unwrap_or(0);
    let command = command[..end].trim();
    let mut words = command.split(' ').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    if first.ends_with(':') {
        // A title that the process gave itself, as gunicorn, celery and nginx do.
        return (command.to_owned(), String::new());
    }
    let base = last_part(first);
    if !base.starts_with("python") {
        return (base.to_owned(), joined(words));
    }
    while let Some(word) = words.next() {
        match word {
            "-X" | "-W" | "--check-hash-based-pycs" => _ = words.next(),
            _ if word.starts_with("-X") || word.starts_with("-W") || word.starts_with("--") => (),
            _ if word.starts_with('-') && word.ends_with('m') => {
                return (words.next().unwrap_or(base).to_owned(), joined(words));
            }
            _ if word.starts_with('-') && word.ends_with('c') => return code(base, &joined(words)),
            _ if word.starts_with('-') && word.len() > 1 => (),
            script => return (last_part(script).to_owned(), joined(words)),
        }
    }
    (base.to_owned(), String::new())
}

/// `python -c CODE`: multiprocessing's helpers by their module.
fn code(base: &str, code: &str) -> (String, String) {
    let helper = code.strip_prefix("from multiprocessing.").and_then(|rest| rest.split(' ').next());
    match helper {
        Some(module) => (format!("multiprocessing.{module}"), String::new()),
        None => (format!("{base} -c"), code.to_owned()),
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_by_its_script() {
        let cases = [
            ("/v/bin/python /v/bin/gunicorn --threads 8 app:app", "gunicorn", "gunicorn --threads 8 app:app"),
            ("gunicorn: worker [app:app]", "gunicorn: worker [app:app]", "gunicorn: worker [app:app]"),
            ("[celeryd: celery@host:MainProcess] -c 4", "[celeryd: celery@host:MainProcess] -c 4", ""),
            ("/usr/bin/python3.11 -u -X dev -W error -m celery -A shop worker", "celery", "celery -A shop worker"),
            (
                "python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)",
                "multiprocessing.spawn",
                "",
            ),
            ("python3 -Ic print(1)", "python3 -c", "python3 -c print(1)"),
            ("python3", "python3", ""),
            ("python3 -m", "python3", ""),
            ("/bin/sleep 5", "sleep", "sleep 5"),
            ("", "unknown command", ""),
            ("/", "/", ""),
        ];
        for (command, expected, with_arguments) in cases {
            assert_eq!(program(command), expected, "{command}");
            let all = if with_arguments.is_empty() { expected } else { with_arguments };
            assert_eq!(short(command, 60), all, "{command}");
        }
    }

    #[test]
    fn a_hostile_command_line_is_short_and_seen() {
        assert_eq!(program("python \x1b[2J\n"), "\\u{1b}[2J");
        assert!(short(&"é ".repeat(1 << 20), 30).chars().count() <= 30);
    }
}
