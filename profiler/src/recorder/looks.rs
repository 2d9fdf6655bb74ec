//! Looks at the objects of traced processes, on a thread of its own: the ring is read meanwhile.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use procfs::Current as _;

use super::Recorder;
use crate::objects::{Options, Subject};
use crate::process::Identity;
use crate::process::bounded::Budget;
use crate::profile::evidence::Evidence;
use crate::profile::objects::ObjectLook;

/// Processes looked at: the largest.
const PROCESSES: usize = 8;
/// From the end of a round to the next, at least.
const EVERY: Duration = Duration::from_secs(10);
/// A round takes one part in this many of the time, at most.
const SHARE: u32 = 50;
/// What a round may take in all: the last one keeps the end of the trace waiting.
const ROUND: Duration = Duration::from_secs(20);
/// Of the memory that the machine has left, a look copies one part in this many at most.
const MEMORY_SHARE: u64 = 8;

/// A look that is wanted.
struct Wanted {
    /// Index into the profile's processes.
    process: u32,
    /// Changes when the process executes another program.
    slot: u32,
    identity: Identity,
    /// When the time for the round is over.
    deadline: Instant,
}

/// What became of it: nothing, if the process has gone meanwhile.
struct Found {
    process: u32,
    /// When it began.
    began: Instant,
    look: Option<ObjectLook>,
}

/// Looks at objects, in rounds.
pub struct Looks {
    wanted: Sender<Wanted>,
    found: Receiver<Found>,
    /// Looks of the round under way that have not come back.
    left: usize,
    began: Instant,
    next: Instant,
    told_of_many: bool,
}

impl Looks {
    /// Starts the thread; nothing is looked at yet.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn start() -> io::Result<Self> {
        let (wanted, asked) = mpsc::channel();
        let (told, found) = mpsc::channel();
        thread::Builder::new().name("pyalloc-objects".to_owned()).spawn(move || work(&asked, &told))?;
        let now = Instant::now();
        Ok(Self { wanted, found, left: 0, began: now, next: now, told_of_many: false })
    }

    /// Takes what has come, and asks for the next round when it is time; tells whether one has ended. Never waits.
    pub fn go_on(&mut self, recorder: &mut Recorder) -> bool {
        let before = self.left;
        while let Ok(found) = self.found.try_recv() {
            self.take(recorder, found);
        }
        let ended = before > 0 && self.left == 0;
        if self.left == 0 && Instant::now() >= self.next {
            self.ask(recorder);
        }
        ended
    }

    /// Looks for the last time, after the round under way, and waits for it.
    pub fn finish(mut self, recorder: &mut Recorder) {
        self.wait(recorder);
        if self.left == 0 {
            self.ask(recorder);
            self.wait(recorder);
        }
        if self.left > 0 {
            recorder.evidence.notes.push("the last look at the objects of a process did not end in time".to_owned());
        }
    }

    fn wait(&mut self, recorder: &mut Recorder) {
        let deadline = Instant::now() + ROUND + ROUND;
        while self.left > 0 {
            match self.found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(found) => self.take(recorder, found),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn ask(&mut self, recorder: &mut Recorder) {
        let (chosen, left_out) = chosen(recorder);
        if left_out > 0 && !std::mem::replace(&mut self.told_of_many, true) {
            recorder.evidence.notes.push(format!(
                "objects were looked at in the {PROCESSES} largest processes; {left_out} others were left out"
            ));
        }
        self.began = Instant::now();
        let deadline = self.began + ROUND;
        for (process, slot, identity) in chosen {
            if self.wanted.send(Wanted { process, slot, identity, deadline }).is_ok() {
                self.left += 1;
            }
        }
    }

    fn take(&mut self, recorder: &mut Recorder, found: Found) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.next = Instant::now() + EVERY.max(self.began.elapsed() * SHARE);
        }
        if let Some(look) = found.look {
            let at = found.began.saturating_duration_since(recorder.started).as_millis();
            let at_ms = u64::try_from(at).unwrap_or(u64::MAX);
            keep(&mut recorder.evidence, ObjectLook { process: found.process, at_ms, ..look });
        }
    }
}

/// The processes to look at: those that were looked at before, then the largest; and how many others there are.
fn chosen(recorder: &Recorder) -> (Vec<(u32, u32, Identity)>, usize) {
    let mut all = Vec::new();
    for (process, traced) in (0..).zip(&recorder.processes) {
        if traced.is_running() && traced.layout.is_some() {
            let known = recorder.evidence.looks.iter().any(|look| look.process == process);
            all.push((!known, std::cmp::Reverse(traced.info.rss_end), (process, traced.slot, traced.identity())));
        }
    }
    all.sort_by_key(|&(new, size, (process, ..))| (new, size, process));
    let left_out = all.len().saturating_sub(PROCESSES);
    (all.into_iter().take(PROCESSES).map(|(_, _, found)| found).collect(), left_out)
}

/// Keeps a look: of each process the first and the last, which tell growth. One that failed takes no other's place.
fn keep(evidence: &mut Evidence, look: ObjectLook) {
    let of_process: Vec<usize> =
        (0..evidence.looks.len()).filter(|&index| evidence.looks[index].process == look.process).collect();
    match of_process.as_slice() {
        [.., _] if look.not_available.is_some() => return,
        [_, .., last] => drop(evidence.looks.remove(*last)),
        _ => {}
    }
    evidence.looks.push(look);
}

/// What a look may cost, with so much time left for the round.
fn options(deadline: Instant) -> Options {
    let most = Options::default().budget;
    let left = deadline.saturating_duration_since(Instant::now());
    let room = procfs::Meminfo::current().ok().and_then(|memory| memory.mem_available);
    let bytes = room.map_or(most.bytes, |room| most.bytes.min(room / MEMORY_SHARE));
    Options { budget: Budget { bytes, time: most.time.min(left) }, ..Options::default() }
}

/// The thread: until nobody asks any more.
fn work(asked: &Receiver<Wanted>, told: &Sender<Found>) {
    let mut subjects: HashMap<u32, Result<Subject, String>> = HashMap::new();
    for wanted in asked {
        let began = Instant::now();
        let identity = wanted.identity;
        let subject = subjects.entry(wanted.slot).or_insert_with(|| Subject::open(identity.pid));
        let look = match subject {
            Ok(subject) => subject.look(&options(wanted.deadline)),
            Err(reason) => Err(reason.clone()),
        };
        let look = look.unwrap_or_else(|reason| ObjectLook { not_available: Some(reason), ..ObjectLook::default() });
        // What was read of one that ended meanwhile is not what it held.
        let is_there = Identity::of(identity.pid).is_ok_and(|now| now == identity);
        let found = Found { process: wanted.process, began, look: is_there.then_some(look) };
        if told.send(found).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(process: u32, at_ms: u64) -> ObjectLook {
        ObjectLook { process, at_ms, ..ObjectLook::default() }
    }

    #[test]
    fn of_each_process_the_first_look_and_the_last_are_kept() {
        let mut evidence = Evidence::default();
        for at_ms in [10, 20, 30] {
            keep(&mut evidence, look(0, at_ms));
            keep(&mut evidence, look(1, at_ms + 1));
        }
        let failed = ObjectLook { not_available: Some("gone".to_owned()), ..look(0, 40) };
        keep(&mut evidence, failed);
        let kept: Vec<_> = evidence.looks.iter().map(|look| (look.process, look.at_ms)).collect();
        assert_eq!(kept, [(0, 10), (1, 11), (0, 30), (1, 31)]);
    }
}
