//! Checks a profile that came from a file: every id points into its table, and stacks form a tree.

use super::{FrameId, MAX_DEPTH, Profile, ResidentRow, StackId, StringId};

/// What is wrong with a profile, in words for the error message; `Ok` means every lookup by id succeeds.
pub(super) fn validate(profile: &Profile) -> Result<(), String> {
    check_frames(profile)?;
    check_stacks(profile)?;
    check_processes(profile)?;
    check_rows(profile)?;
    check_series(profile)
}

/// A circle of parents is no error: [`super::tree`] cuts it.
fn check_processes(profile: &Profile) -> Result<(), String> {
    let known = |parent: u32| (parent as usize) < profile.processes.len();
    match profile.processes.iter().position(|process| process.parent.is_some_and(|parent| !known(parent))) {
        Some(row) => Err(format!("process {row} names a parent that is not there")),
        None => Ok(()),
    }
}

fn check_series(profile: &Profile) -> Result<(), String> {
    let moments = profile.path_timeline.at_ms.len();
    let complain = |row: usize, what: &str| Err(format!("path series {row} {what}"));
    for (row, series) in profile.path_timeline.paths.iter().enumerate() {
        if series.process as usize >= profile.processes.len() || series.stack as usize >= profile.stacks.len() {
            return complain(row, "names a process or a stack that is not there");
        }
        let end = (series.first as usize).saturating_add(series.live.len());
        if end > moments || series.live.len() != series.allocated.len() {
            return complain(row, "does not fit its moments");
        }
    }
    Ok(())
}

fn check_frames(profile: &Profile) -> Result<(), String> {
    let known = |id: StringId| (id as usize) < profile.strings.len();
    match profile.frames.iter().position(|frame| !known(frame.function) || !known(frame.file)) {
        Some(row) => Err(format!("frame {row} names a string that is not there")),
        None => Ok(()),
    }
}

fn check_stacks(profile: &Profile) -> Result<(), String> {
    let mut depths: Vec<u16> = Vec::with_capacity(profile.stacks.len());
    for (row, node) in profile.stacks.iter().enumerate() {
        if row == 0 {
            if node.parent != 0 {
                return Err("the first stack is not the root".to_owned());
            }
            depths.push(0);
            continue;
        }
        let Some(&parent_depth) = depths.get(node.parent as usize) else {
            return Err(format!("stack {row} stands before its caller"));
        };
        if !frame_exists(profile, node.frame) {
            return Err(format!("stack {row} names a frame that is not there"));
        }
        if usize::from(parent_depth) >= MAX_DEPTH {
            return Err(format!("stack {row} is deeper than {MAX_DEPTH} frames"));
        }
        depths.push(parent_depth + 1);
    }
    Ok(())
}

fn frame_exists(profile: &Profile, frame: FrameId) -> bool {
    (frame as usize) < profile.frames.len()
}

fn check_rows(profile: &Profile) -> Result<(), String> {
    let process_exists = |process: u32| (process as usize) < profile.processes.len();
    let fits = |process: u32, stack: StackId| process_exists(process) && (stack as usize) < profile.stacks.len();
    let complain = |table: &str, row: Option<usize>| match row {
        Some(row) => Err(format!("{table} {row} names a process or a stack that is not there")),
        None => Ok(()),
    };
    complain("block row", profile.blocks.iter().position(|row| !fits(row.process, row.stack)))?;
    complain("pool row", profile.pools.iter().position(|row| !fits(row.process, row.stack)))?;
    complain("mapping row", profile.mappings.iter().position(|row| !fits(row.process, row.stack)))?;
    let resident = |row: &ResidentRow| {
        fits(row.process, row.stack) && row.allocated_by.is_none_or(|stack| fits(row.process, stack))
    };
    complain("resident row", profile.resident.iter().position(|row| !resident(row)))?;
    complain("unshared row", profile.unshared.iter().position(|row| !fits(row.process, row.stack)))?;
    complain("estimate", profile.estimates.iter().position(|row| !fits(row.process, row.stack)))?;
    complain("timeline point", profile.timeline.iter().position(|point| !process_exists(point.process)))?;
    let evidence = &profile.evidence;
    complain("reading", evidence.readings.iter().position(|reading| !process_exists(reading.process)))?;
    complain("look", evidence.looks.iter().position(|look| !process_exists(look.process)))
}

#[cfg(test)]
mod tests {
    use super::super::{BlockRow, EstimateRow, Process, StackNode};
    use super::*;
    use crate::profile::builder::sample;
    use crate::profile::evidence::Reading;
    use crate::profile::objects::ObjectLook;

    fn check(change: impl FnOnce(&mut Profile), expected: &str) {
        let mut profile = sample();
        assert_eq!(validate(&profile), Ok(()));
        change(&mut profile);
        assert_eq!(validate(&profile), Err(expected.to_owned()));
    }

    #[test]
    fn every_id_is_checked() {
        let nowhere = |what: &str| format!("{what} 0 names a process or a stack that is not there");
        check(|p| p.evidence.readings = vec![Reading { process: 9, ..Reading::default() }], &nowhere("reading"));
        check(|p| p.evidence.looks = vec![ObjectLook { process: 9, ..ObjectLook::default() }], &nowhere("look"));
        check(|p| p.frames[1].file = 99, "frame 1 names a string that is not there");
        check(|p| p.frames[0].function = u32::MAX, "frame 0 names a string that is not there");
        check(|p| p.stacks[0].parent = 1, "the first stack is not the root");
        check(|p| p.stacks[2].parent = 2, "stack 2 stands before its caller");
        check(|p| p.stacks[1].frame = 99, "stack 1 names a frame that is not there");
        check(|p| p.processes[0].parent = Some(1), "process 0 names a parent that is not there");
        check(|p| p.blocks[0].stack = 99, "block row 0 names a process or a stack that is not there");
        check(|p| p.pools[0].process = 1, "pool row 0 names a process or a stack that is not there");
        check(|p| p.mappings[0].stack = 99, "mapping row 0 names a process or a stack that is not there");
        check(|p| p.resident[0].stack = 99, "resident row 0 names a process or a stack that is not there");
        check(|p| p.resident[0].allocated_by = Some(99), "resident row 0 names a process or a stack that is not there");
        check(|p| p.unshared[0].process = 1, "unshared row 0 names a process or a stack that is not there");
        check(|p| p.path_timeline.paths[0].stack = 99, "path series 0 names a process or a stack that is not there");
        check(|p| p.path_timeline.paths[0].first = 2, "path series 0 does not fit its moments");
        check(|p| p.path_timeline.paths[0].allocated.clear(), "path series 0 does not fit its moments");
        check(|p| p.estimates = vec![EstimateRow { stack: 99, ..EstimateRow::default() }], &nowhere("estimate"));
        check(|p| p.timeline[0].process = 7, "timeline point 0 names a process or a stack that is not there");
    }

    #[test]
    fn a_tree_deeper_than_a_walk_is_refused() {
        let mut profile = sample();
        for _ in 0..=MAX_DEPTH {
            let parent = profile.stacks.len() as u32 - 1;
            profile.stacks.push(StackNode { parent, frame: 0 });
        }
        assert!(validate(&profile).unwrap_err().contains("deeper than 1024 frames"));
    }

    #[test]
    fn an_empty_profile_is_valid_and_a_row_without_stacks_is_not() {
        let mut profile = Profile { processes: vec![Process::default()], ..Profile::default() };
        assert_eq!(validate(&profile), Ok(()));
        profile.blocks.push(BlockRow::default());
        assert!(validate(&profile).is_err());
    }
}
