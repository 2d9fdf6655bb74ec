//! A difference as one page that needs no network: the numbers, the picture, both tables.

use std::fmt::Write as _;

use super::{Compared, chain, flamegraph, names, words};
use crate::compare::diff::{Change, Diff, Kind};
use crate::render::sanitize::xml;
use crate::render::{Options, RenderError};

const STYLE: &str = include_str!("diff.css");

/// Renders.
pub(super) fn render(diff: &Diff, compared: &Compared<'_>, options: &Options) -> Result<String, RenderError> {
    let number = |value| words::number(value, compared, diff.per_second);
    let title = format!("{}: {}", words::what(compared), words::delta(&diff.total, compared, diff.per_second));
    let growth = words::growth(diff.total.before.value as f64, diff.total.after.value as f64);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title} {growth}</h1>\n<dl>\n<dt>before</dt><dd>{} <code>{}</code></dd>\n<dt>after</dt><dd>{} \
         <code>{}</code></dd>\n<dt>functions</dt><dd>{}</dd>\n</dl>\n",
        number(diff.total.before.value),
        xml(compared.before),
        number(diff.total.after.value),
        xml(compared.after),
        words::kinds(diff),
        title = xml(&title),
    );
    out.push_str("<ul>\n");
    for note in words::notes(diff) {
        // Writing to a String does not fail.
        let _ = writeln!(out, "<li>{}</li>", xml(&note));
    }
    out.push_str("</ul>\n<h2>Picture</h2>\n");
    let _ = writeln!(
        out,
        "<iframe title=\"differential flamegraph\" sandbox=\"allow-scripts\" src=\"data:image/svg+xml,{}\"></iframe>",
        in_url(&flamegraph::render(diff, compared)?)
    );
    out.push_str("<h2>Functions</h2>\n");
    let functions = diff.functions.iter().map(|function| {
        let name = names::code(&diff.merged, function.code, function.line);
        (&function.change, name, chain::text(&diff.merged, function.heaviest, function.code))
    });
    table(&mut out, diff, compared, options, functions);
    out.push_str("<h2>Call paths</h2>\n");
    let named = diff.merged.named();
    let paths = diff.paths.iter().map(|(path, change)| {
        let code = named.get(*path as usize).copied().flatten();
        (change, names::code(&diff.merged, code, 0), chain::text(&diff.merged, *path, code))
    });
    table(&mut out, diff, compared, options, paths);
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

fn table<'d>(
    out: &mut String,
    diff: &Diff,
    compared: &Compared<'_>,
    options: &Options,
    rows: impl Iterator<Item = (&'d Change, String, String)>,
) {
    let number = |value| words::number(value, compared, diff.per_second);
    out.push_str("<table>\n<thead><tr><th>change</th><th></th><th>code</th><th>before</th><th>after</th></tr></thead>\n<tbody>\n");
    let changed = rows.filter(|(change, ..)| change.kind() != Kind::Same);
    for (change, name, chain) in changed.take(options.top) {
        let _ = writeln!(
            out,
            "<tr class=\"{kind}\"><td>{}</td><td>{kind}</td><td><code>{}</code><small>{}</small></td><td>{}</td><td>{}</td></tr>",
            words::delta(change, compared, diff.per_second),
            xml(&name),
            xml(&chain),
            number(change.before.value),
            number(change.after.value),
            kind = words::kind(change),
        );
    }
    out.push_str("</tbody>\n</table>\n");
}

/// A picture inside an attribute, as part of a URL.
fn in_url(svg: &str) -> String {
    let mut out = String::with_capacity(svg.len() + svg.len() / 4);
    for letter in svg.chars() {
        match letter {
            '%' | '#' | '"' | '\'' | '<' | '>' | '&' | '\n' | '\r' | '\t' => {
                let _ = write!(out, "%{:02X}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out
}
