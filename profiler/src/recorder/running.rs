//! How much CPU time a process has had since a moment.

use std::collections::VecDeque;
use std::time::Duration;

use nix::time::ClockId;

use super::verdict::LONGEST;
use crate::process::Pid;

/// The CPU time of one process at the moments at which it was looked at.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Moment on the monotonic clock, ns, and CPU time by then.
    looks: VecDeque<(u64, Duration)>,
}

impl Running {
    /// Looks; a process whose clock cannot be read seems to wait.
    pub(super) fn look(&mut self, pid: Pid, now_ns: u64) {
        if let Some(cpu) = cpu_time(pid) {
            self.note(now_ns, cpu);
        }
    }

    fn note(&mut self, now_ns: u64, cpu: Duration) {
        let too_old = now_ns.saturating_sub(u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX));
        while self.looks.front().is_some_and(|(at_ns, _)| *at_ns < too_old) {
            self.looks.pop_front();
        }
        self.looks.push_back((now_ns, cpu));
    }

    /// The CPU time between the first look after a moment and the last one: not more than there was.
    pub(super) fn since(&self, time_ns: u64) -> Duration {
        let from = self.looks.partition_point(|(at_ns, _)| *at_ns < time_ns);
        match (self.looks.get(from), self.looks.back()) {
            (Some((_, from)), Some((_, to))) => to.saturating_sub(*from),
            _ => Duration::ZERO,
        }
    }
}

fn cpu_time(pid: Pid) -> Option<Duration> {
    let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(pid.0.cast_signed())).ok()?;
    Some(clock.now().ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_the_first_look_after_a_moment() {
        let mut running = Running::default();
        assert_eq!(running.since(0), Duration::ZERO);
        let ms = Duration::from_millis;
        for (at_ns, cpu) in [(100, 10), (200, 15), (300, 40)] {
            running.note(at_ns, ms(cpu));
        }
        let since = [0, 100, 101, 300, 301].map(|moment| running.since(moment));
        assert_eq!(since, [ms(30), ms(30), ms(25), ms(0), ms(0)]);
        running.note(300 + 60_000_000_000, ms(50));
        assert_eq!((running.looks.len(), running.since(0)), (1, ms(0)));
    }

    #[test]
    fn reads_the_clock_of_a_process() {
        let mut running = Running::default();
        let own = Pid(std::process::id());
        running.look(own, 1);
        let began = cpu_time(own).unwrap();
        while cpu_time(own).unwrap() - began < Duration::from_millis(2) {}
        running.look(own, 2);
        assert!(running.since(1) >= Duration::from_millis(2));
        // Above the largest pid that the kernel gives.
        assert_eq!(cpu_time(Pid((1 << 22) + 1)), None);
    }
}
