//! `--by`: what stands for a frame: a line, its function, its file, its module; or the types of the objects instead of
//! call paths.

use crate::profile::builder::{ProfileBuilder, Readings};
use crate::profile::objects::ObjectLook;
use crate::profile::path_timeline::PathTimeline;
use crate::profile::{BlockRow, Frame, FrameId, FrameKind, Profile, StackId};
use crate::render::RenderError;
use crate::render::path::{COARSE, Names};

/// Longest name of a file or module, in columns: this is data, so names are kept.
const NAME_COLUMNS: usize = 4096;

/// What stands for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// A line of a function: as recorded.
    #[default]
    Line,
    /// A function, whatever the line.
    Function,
    /// A file; a run of its frames is one.
    File,
    /// A module, as an import would name it; a run of its frames is one.
    Module,
    /// The objects by their type, at the last look at each process, instead of call paths.
    Type,
}

/// The profile with coarser frames.
pub(super) fn coarsen(profile: Profile, by: By) -> Result<Profile, RenderError> {
    if matches!(by, By::Line | By::Type) {
        return Ok(profile);
    }
    let mut builder = ProfileBuilder::new();
    let frames = frames(&profile, by, &mut builder);
    let mut stacks: Vec<StackId> = Vec::with_capacity(profile.stacks.len());
    for row in 0..profile.stacks.len() {
        let path = profile.frame_ids(u32::try_from(row).unwrap_or(u32::MAX));
        let mut path: Vec<FrameId> = path.filter_map(|id| frames.get(id as usize).copied()).collect();
        path.reverse();
        if by != By::Function {
            path.dedup();
        }
        stacks.push(builder.stack(&path));
    }
    Ok(moved(profile, builder, &stacks))
}

/// The new frame of each.
fn frames(profile: &Profile, by: By, builder: &mut ProfileBuilder) -> Vec<FrameId> {
    let names = Names::new(profile, NAME_COLUMNS);
    let new = |frame: &Frame| match (by, frame.kind) {
        (_, FrameKind::Marker) => builder.marker(profile.text(frame.function)),
        (By::File, kind) => builder.frame(kind, &names.file(frame), COARSE[0], 0, 0),
        (By::Module, kind) => builder.frame(kind, &names.module(frame), COARSE[1], 0, 0),
        (_, kind) => builder.frame(
            kind,
            profile.text(frame.function),
            profile.text(frame.file),
            frame.first_line,
            frame.first_line,
        ),
    };
    profile.frames.iter().map(new).collect()
}

/// The rows with their new stacks; rows that have become the same are added up where they are shown.
fn moved(profile: Profile, mut builder: ProfileBuilder, stacks: &[StackId]) -> Profile {
    let new = |stack: StackId| stacks.get(stack as usize).copied().unwrap_or(ProfileBuilder::ROOT);
    let Profile { mut blocks, mut pools, mut mappings, mut resident, mut unshared, .. } = profile;
    let Profile { mut estimates, mut path_timeline, .. } = profile;
    blocks.iter_mut().for_each(|row| row.stack = new(row.stack));
    pools.iter_mut().for_each(|row| row.stack = new(row.stack));
    mappings.iter_mut().for_each(|row| row.stack = new(row.stack));
    unshared.iter_mut().for_each(|row| row.stack = new(row.stack));
    estimates.iter_mut().for_each(|row| row.stack = new(row.stack));
    for row in &mut resident {
        row.stack = new(row.stack);
        row.allocated_by = row.allocated_by.map(new);
    }
    path_timeline.paths.iter_mut().for_each(|row| row.stack = new(row.stack));
    builder.snapshot(Readings {
        trace: profile.trace,
        processes: profile.processes,
        blocks,
        pools,
        mappings,
        resident,
        unshared,
        estimates,
        timeline: profile.timeline,
        path_timeline,
        evidence: profile.evidence,
        quality: profile.quality,
    });
    Profile { left_out: profile.left_out, ..builder.into_profile() }
}

/// The profile with a row for each type in place of the call paths.
pub(super) fn types(profile: Profile) -> Result<Profile, RenderError> {
    let processes = (0..).take(profile.processes.len());
    let last: Vec<&ObjectLook> =
        processes.filter_map(|process| profile.evidence.looks_at(process).next_back()).collect();
    if last.is_empty() {
        return Err(RenderError::NoTypes);
    }
    let mut builder = ProfileBuilder::new();
    let mut blocks = Vec::new();
    for look in &last {
        for row in &look.types {
            // Builtins have no module.
            let kind = if row.name.contains('.') { FrameKind::Own } else { FrameKind::Stdlib };
            let frame = builder.frame(kind, &row.name, COARSE[2], 0, 0);
            let (stack, process) = (builder.stack(&[frame]), look.process);
            let (inuse_objects, inuse_space) = (row.objects, row.space);
            blocks.push(BlockRow { process, stack, inuse_objects, inuse_space, ..BlockRow::default() });
        }
    }
    let partial = if last.iter().any(|look| look.partial) { "; not all objects were seen" } else { "" };
    let note = format!(
        "shows all objects of {} process(es) by type, as last looked at, those from before the trace too{partial}",
        last.len()
    );
    let mut left_out = profile.left_out.clone();
    left_out.push(note);
    let empty = Profile {
        blocks,
        pools: Vec::new(),
        mappings: Vec::new(),
        resident: Vec::new(),
        unshared: Vec::new(),
        estimates: Vec::new(),
        path_timeline: PathTimeline::default(),
        ..profile
    };
    let stacks: Vec<StackId> = (0..).take(builder.profile().stacks.len()).collect();
    Ok(Profile { left_out, ..moved(empty, builder, &stacks) })
}
