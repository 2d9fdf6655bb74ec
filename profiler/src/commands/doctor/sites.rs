//! The table of sites: where each probe stands, and what a hit costs.

use std::io::{self, Write};

use profiler_common::probe::Register;

use super::check::printable;
use crate::kernel::plan::{ProbePlan, ProbePoint};

const HEADER: [&str; 8] = ["function", "file", "offset", "instruction", "arguments", "pushed", "return", "a hit is"];

/// Writes one line for each probe.
pub(super) fn write(plan: &ProbePlan, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(plan.points.iter().map(row));
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "  {}", line.trim_end())?;
    }
    Ok(())
}

fn row(point: &ProbePoint) -> [String; HEADER.len()] {
    let site = point.placement.site();
    let registers = site.arguments();
    let arguments = registers.iter().take(usize::from(point.function.arguments()));
    let file = point.image_path.file_name().unwrap_or_default().to_string_lossy();
    [
        printable(&point.name),
        printable(&file),
        format!("+{}", site.distance()),
        point.instruction.clone(),
        arguments.map(|register| name(*register)).collect::<Vec<_>>().join(" "),
        site.pushed().to_string(),
        if point.wants_return() { "yes" } else { "no" }.to_owned(),
        site.class().expected_cost().to_owned(),
    ]
}

fn name(register: Register) -> String {
    format!("{register:?}").to_lowercase()
}
