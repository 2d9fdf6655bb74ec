//! The running kernel's version.

use std::{fmt, fs, io};

use super::site::SiteRules;

/// A kernel's version, as far as features depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Release {
    /// The kernel we run on.
    pub fn running() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("{:?} is no kernel release", text.trim()));
        Self::parse(&text).ok_or_else(unknown)
    }

    /// Reads `6.18.44-cloud-amd64`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }

    /// What this kernel can do with an instruction under a probe.
    pub const fn site_rules(self) -> SiteRules {
        SiteRules::for_kernel(self.major, self.minor)
    }

    /// Whether a seccomp filter in the target may kill it at the first return probe: from 6.11 on a return comes by a
    /// system call of its own, which filters that list what is allowed (Docker's default) refused until it was exempted
    /// (6.14, and late stable versions before).
    pub const fn filters_return_probes(self) -> bool {
        self.major == 6 && self.minor >= 11 && self.minor < 14
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_releases() {
        let check = |text, expected| assert_eq!(Release::parse(text), expected, "{text}");
        check("6.18.44-fc-v445\n", Some(Release { major: 6, minor: 18 }));
        check("5.15-rc1", Some(Release { major: 5, minor: 15 }));
        check("7.0", Some(Release { major: 7, minor: 0 }));
        check("six", None);
        check("6", None);
        assert!(Release::running().is_ok());
    }

    #[test]
    fn knows_the_kernels_whose_return_probes_seccomp_refuses() {
        let check = |text, expected| {
            assert_eq!(Release::parse(text).unwrap().filters_return_probes(), expected, "{text}");
        };
        check("6.10.1", false);
        check("6.11.0", true);
        check("6.13.2", true);
        check("6.14.0", false);
        check("7.11.0", false);
    }
}
