//! Whose a container is: the program's own, an installed package's, or the standard library's. What to do differs.

use crate::profile::{FrameKind, Profile};
use crate::render::path::Names;

/// Who wrote the code that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The program's own.
    Own,
    /// This installed package's.
    Package(String),
    /// The standard library's; this module of it.
    Stdlib(String),
    /// No code of it was seen.
    Unknown,
}

/// By the owner's module, and the code that was seen: `paho.mqtt.client.Client._out_messages`, `local rows of app.main`.
pub fn of(profile: &Profile, names: &Names<'_>, owner: &str) -> Whose {
    let path = owner.rsplit_once(" of ").map_or(owner, |(_, path)| path);
    let top = path.split(['.', '[']).next().unwrap_or_default();
    if top == "__main__" {
        return Whose::Own;
    }
    let is_part = |part: &str| part == top || part.strip_suffix(".py") == Some(top);
    let mut found = Whose::Unknown;
    for frame in &profile.frames {
        match frame.kind {
            FrameKind::Own if profile.text(frame.file).split('/').any(is_part) => return Whose::Own,
            FrameKind::Package if names.package(frame) == top => found = Whose::Package(top.to_owned()),
            FrameKind::Stdlib if found == Whose::Unknown && names.package(frame) == top => {
                found = Whose::Stdlib(top.to_owned());
            }
            _ => {}
        }
    }
    found
}

impl Whose {
    /// What to do about a container that is not the program's own, which is filled by the code at `site`; nothing for
    /// others.
    pub fn steps(&self, owner: &str, site: &str) -> Vec<String> {
        let site = if site.is_empty() { "the code that calls it" } else { site };
        match self {
            Self::Own | Self::Unknown => Vec::new(),
            Self::Package(package) => vec![
                format!(
                    "{owner} belongs to the package {package}: look in its settings for a limit, and in its changelog for \
                     a newer version that gives up what is done"
                ),
                format!(
                    "what you decide is what {site} passes to it: values that come again instead of new ones each time, \
                     and nothing while nobody takes it out"
                ),
            ],
            Self::Stdlib(module) => vec![format!(
                "{owner} belongs to the standard library's {module}, which keeps what it is given: at {site}, do not make \
                 a new one each time, or take it out when its work is done"
            )],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::ProfileBuilder;
    use crate::render::path::NAME_COLUMNS;

    #[test]
    fn told_by_the_code_that_was_seen() {
        let mut builder = ProfileBuilder::new();
        let frames = [
            builder.frame(FrameKind::Own, "main", "/srv/shop/app.py", 9, 1),
            builder.frame(FrameKind::Package, "publish", "/v/site-packages/mq/client.py", 7, 1),
            builder.frame(FrameKind::Stdlib, "getLogger", "/usr/lib/python3.11/logging/__init__.py", 2, 1),
        ];
        builder.stack(&frames);
        let profile = builder.into_profile();
        let names = Names::new(&profile, NAME_COLUMNS);
        let check = |owner: &str, expected: Whose| assert_eq!(of(&profile, &names, owner), expected, "{owner}");
        check("__main__.CACHE", Whose::Own);
        check("app.CACHE", Whose::Own);
        check("local rows of shop.app.main", Whose::Own);
        check("mq.client.Client._out", Whose::Package("mq".to_owned()));
        check("logging.Manager.loggerDict", Whose::Stdlib("logging".to_owned()));
        check("other.THINGS", Whose::Unknown);
    }
}
