//! Memory lost in native code: blocks survive, and Python's objects do not grow along; or objects survive that nothing
//! refers to.

use crate::diagnose::facts::Facts;
use crate::diagnose::facts::objects::ObjectFacts;
use crate::diagnose::thresholds::{LEAST_GROWTH, NATIVE_SHARE, PART};
use crate::diagnose::words::{list, percent, rate, time, whole};
use crate::profile::FrameKind;
use crate::profile::verdict::{Confidence, Culprit, Finding, Pattern};
use crate::render::units::{bytes, counted};

/// Judges what is live and not yet explained.
pub fn judge(facts: &Facts<'_>, left: u64) -> Option<Finding> {
    let growing = facts.growing();
    let objects = facts.objects_of(&growing)?;
    if left == 0 || (left as f64) < facts.live() as f64 * PART || objects.seconds <= 0.0 {
        return None;
    }
    let lost = objects.lost_share();
    let python = objects.gained_in(facts.seconds()).map(|gained| whole(gained * growing.len().max(1) as f64));
    let beside = left.saturating_sub(python.unwrap_or(left));
    let hides = objects.may_hide(facts.surviving.objects);
    let is_native = !hides && beside as f64 >= left as f64 * PART && beside >= LEAST_GROWTH;
    if !is_native && lost < PART {
        return None;
    }
    // The larger part is told; where it is most of all, it is all.
    let (is_native, bytes_lost) = match whole(left as f64 * lost) {
        references if is_native && beside >= references => (true, beside),
        references => (false, references),
    };
    let bytes_lost = if bytes_lost as f64 >= left as f64 * (1.0 - NATIVE_SHARE) { left } else { bytes_lost };
    let base = facts.culprit.clone().unwrap_or_default();
    let suspects = suspects(facts, &base);
    let who = if suspects.is_empty() { "native code".to_owned() } else { list(&suspects) };
    let what = if is_native { "memory" } else { "references to objects" };
    let near = if base.code.is_empty() { String::new() } else { format!(", allocated under {}", base.code) };
    Some(Finding {
        pattern: Pattern::NativeLeak,
        sentence: format!("{} by {}: {who} loses {what}{near}", facts.who_grows(), rate(facts.rate())),
        bytes: bytes_lost,
        confidence: if suspects.len() == 1 { Confidence::High } else { Confidence::Medium },
        to_be_surer: surer(facts, &suspects),
        evidence: evidence(facts, objects, is_native, bytes_lost),
        culprit: Culprit {
            pids: facts.pids_growing(),
            holder: format!("{who}: nothing in Python refers to it"),
            ..base
        },
        next_steps: steps(&suspects),
        not_to_do: "do not look for a reference in Python, and do not call gc.collect(): nothing there holds it"
            .to_owned(),
    })
}

/// The extensions that the code at fault may be: those of the package that allocates; else all that are loaded, if few.
fn suspects(facts: &Facts<'_>, culprit: &Culprit) -> Vec<String> {
    const FEW: usize = 3;
    let growing = facts.growing();
    let loaded: Vec<&str> = facts
        .profile
        .evidence
        .extensions
        .iter()
        .filter(|extension| growing.iter().any(|process| process.index == extension.process))
        .map(|extension| extension.path.as_str())
        .collect();
    let package = package_of(&culprit.file);
    let mut suspects: Vec<String> = loaded
        .iter()
        .filter(|path| package.is_some_and(|package| owner(path) == package))
        .map(|path| named(path))
        .collect();
    if suspects.is_empty() {
        suspects = loaded.iter().map(|path| named(path)).collect();
    }
    suspects.sort();
    suspects.dedup();
    if suspects.len() > FEW { Vec::new() } else { suspects }
}

/// The package that a file below site-packages belongs to.
fn package_of(file: &str) -> Option<&str> {
    let (_, below) = file.split_once("/site-packages/").or_else(|| file.split_once("/dist-packages/"))?;
    Some(owner(below))
}

fn owner(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

/// `regex/_regex.cpython-38-x86_64-linux-gnu.so` as "the extension regex._regex".
fn named(path: &str) -> String {
    let stem = path.split(".cpython-").next().unwrap_or(path);
    let stem = stem.split(".abi3").next().unwrap_or(stem).trim_end_matches(".so");
    format!("the extension {}", stem.replace('/', "."))
}

fn evidence(facts: &Facts<'_>, objects: &ObjectFacts, is_native: bool, left: u64) -> Vec<String> {
    let mut evidence = Vec::new();
    if is_native {
        evidence.push(format!(
            "{} survive in {}, and all of Python's objects together gained {} in {}",
            bytes(left),
            counted(facts.surviving.objects, "block"),
            bytes(objects.python_bytes.max(0).unsigned_abs()),
            time(objects.seconds)
        ));
    } else {
        evidence.push(format!(
            "of a sample of the surviving objects {} (by bytes) have no object that refers to them",
            percent(objects.lost_share())
        ));
    }
    let lines = facts.surviving.lines(facts.profile, 2);
    for (frame, space) in lines {
        if let Some(frame) = facts.profile.frame(frame).filter(|frame| frame.kind != FrameKind::Marker) {
            evidence.push(format!("{} survive from {}", bytes(space), facts.names.code(frame)));
        }
    }
    let extensions = facts.profile.evidence.extensions.len() as u64;
    if extensions > 0 {
        let are = if extensions == 1 { "is" } else { "are" };
        evidence.push(format!("{} of installed packages {are} loaded", counted(extensions, "shared object")));
    }
    evidence
}

fn surer(facts: &Facts<'_>, suspects: &[String]) -> String {
    if facts.profile.trace.native || suspects.len() == 1 {
        String::new()
    } else {
        "`pyalloc trace --native` names the C function that allocates".to_owned()
    }
}

fn steps(suspects: &[String]) -> Vec<String> {
    let upgrade = match suspects {
        [] => {
            "find the extension that the code above calls; upgrade it, and look in its changelog for a leak".to_owned()
        }
        some => format!("upgrade {}; look in its changelog for a leak in what the code above calls", list(some)),
    };
    vec![upgrade, "until then, recycle workers (max_requests), or do without that call".to_owned()]
}
