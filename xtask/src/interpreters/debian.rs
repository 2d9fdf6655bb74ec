//! Interpreters of other Debian suites: packages unpacked side by side, run with their own loader and C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Place, entries, quiet, quoted};

/// A suite and the minor versions taken from it.
const SUITES: [(&str, &[u8]); 3] = [("sid", &[14, 15]), ("trixie", &[13]), ("bullseye", &[9])];

/// Libraries that the interpreters and the standard library's extensions need; some have other names in some suites.
const LIBRARIES: [&str; 11] = [
    "libc6",
    "libgcc-s1",
    "libcrypt1",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libffi7",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    "libzstd1",
];

/// Allocators that programs put in front of the C library's, of the machine's own suite.
const ALLOCATORS: [&str; 3] = ["libjemalloc2", "libtcmalloc-minimal4", "libmimalloc2.0"];

/// Where Debian keeps libraries and the loader in a package.
const LIBRARY_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Fetches what is missing; gives how many there could be.
pub fn fetch(root: &Path) -> usize {
    let mut places = Vec::new();
    for (suite, minors) in SUITES {
        for &minor in minors {
            places.push((suite, minor, Place::new(root, &format!("debian-{suite}-3.{minor}")), Build::Program));
            if suite == "sid" {
                places.push((
                    suite,
                    minor,
                    Place::new(root, &format!("debian-{suite}-3.{minor}-linked")),
                    Build::Linked,
                ));
                places.push((
                    suite,
                    minor,
                    Place::new(root, &format!("debian-{suite}-3.{minor}-dlopen")),
                    Build::Loaded,
                ));
            }
        }
    }
    let mut archive = None;
    for (suite, minor, place, build) in &places {
        place.ensure(|_| {
            let archive = match &mut archive {
                Some(archive) => archive,
                none => none.insert(Archive::open(root).map_err(|error| format!("{error:#}"))),
            };
            let archive = archive.as_ref().map_err(|error| anyhow::anyhow!(error.clone()))?;
            let system = archive.unpack(root, suite, *minor)?;
            build.script(&system, *minor)
        });
    }
    places.len()
}

/// Fetches the allocators that tests load before the C library, unpacked.
pub fn fetch_allocators(root: &Path) {
    let folder = root.join("allocators");
    for package in ALLOCATORS {
        let unpacked = folder.join(package);
        if unpacked.join("usr").is_dir() {
            continue;
        }
        let fetched = fs::create_dir_all(&unpacked).map_err(anyhow::Error::from).and_then(|()| {
            quiet(Command::new("apt-get").current_dir(&unpacked).args(["--quiet", "download", package]))?;
            let file =
                entries(&unpacked).into_iter().find(|path| path.extension().is_some_and(|ending| ending == "deb"));
            let file = file.context("apt-get downloaded nothing")?;
            quiet(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&unpacked))
        });
        match fetched {
            Ok(()) => println!("  unpacked {package}"),
            Err(error) => println!("  without {package}: {error:#}"),
        }
    }
}

/// The headers of a version, as a folder like `/usr`.
pub fn headers(root: &Path, minor: u8) -> Result<PathBuf> {
    let folder = root.join(format!("headers-3.{minor}"));
    let complete = folder.join("complete");
    if !complete.is_file() {
        let (suite, _) = SUITES.iter().find(|(_, minors)| minors.contains(&minor)).context("no suite has it")?;
        let file = Archive::open(root)?.package(&format!("libpython3.{minor}-dev"), suite)?;
        quiet(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&folder))?;
        fs::write(complete, "")?;
    }
    Ok(folder.join("usr"))
}

/// musl's loader, which is its C library too; the newest, as interpreters want functions that older ones do not have.
pub fn musl(root: &Path) -> Result<PathBuf> {
    let folder = root.join("musl");
    let loader = folder.join("usr/lib/x86_64-linux-musl/libc.so");
    if !loader.is_file() {
        let file = Archive::open(root)?.package("musl", "sid")?;
        quiet(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&folder))?;
        super::executable(&loader)?;
    }
    Ok(loader)
}

/// The ways in which a program has Python.
#[derive(Clone, Copy)]
enum Build {
    /// Debian's own, which contains it.
    Program,
    /// A program whose libpython is loaded with it.
    Linked,
    /// A program that loads libpython later.
    Loaded,
}

impl Build {
    /// The shell commands that start it.
    fn script(self, system: &Path, minor: u8) -> Result<String> {
        let libraries: Vec<PathBuf> = LIBRARY_FOLDERS.iter().map(|name| system.join(name)).collect();
        let in_libraries = |name: &str| {
            let found = libraries.iter().map(|folder| folder.join(name)).find(|path| path.exists());
            found.with_context(|| format!("the packages have no {name}"))
        };
        let path = libraries.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
        let program = system.join(format!("usr/bin/python3.{minor}"));
        let mut script = String::new();
        let library = || in_libraries(&format!("libpython3.{minor}.so.1.0"));
        let (preload, program) = match self {
            Self::Program => (String::new(), program),
            Self::Linked => (format!(" --preload {}", quoted(&library()?)), embed(system)?),
            Self::Loaded => {
                script += &format!("export PYALLOC_LIBPYTHON={}\n", quoted(&library()?));
                (String::new(), embed(system)?)
            }
        };
        let loader = in_libraries("ld-linux-x86-64.so.2")?;
        let loader = quoted(&loader);
        script += &format!("exec {loader} --library-path '{path}'{preload} {} \"$@\"", quoted(&program));
        Ok(script)
    }
}

/// Builds the program that embeds Python; beside Debian's, so that Python finds its standard library.
fn embed(system: &Path) -> Result<PathBuf> {
    let folder = system.join("usr/bin");
    let (source, program) = (folder.join("embed.c"), folder.join("embed"));
    fs::write(&source, include_str!("embed.c"))?;
    quiet(Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(&source).arg("-ldl"))?;
    Ok(program)
}

/// apt's view of the other suites, in a folder of its own.
struct Archive {
    options: Vec<String>,
    downloads: PathBuf,
}

impl Archive {
    /// Writes a list of sources like the machine's own, for the other suites, and reads their indexes.
    fn open(root: &Path) -> Result<Self> {
        let folder = root.join("apt");
        let downloads = folder.join("packages");
        for part in ["lists/partial", "cache/archives/partial", "sources", "none", "packages"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mirror = mirror()?;
        let suites = SUITES.map(|(suite, _)| suite).join(" ");
        let text = format!("Types: deb\n{mirror}Suites: {suites}\nComponents: main\n");
        fs::write(folder.join("sources/suites.sources"), text)?;
        let at = |name: &str| folder.join(name).display().to_string();
        let options = [
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::SourceParts={}", at("sources")),
            format!("Dir::Etc::PreferencesParts={}", at("none")),
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::State::Status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=5".to_owned(),
            "APT::Sandbox::User=".to_owned(),
        ];
        let archive = Self { options: options.to_vec(), downloads };
        println!("  reading the package lists of {suites}");
        archive.apt_get(&folder, &["update"])?;
        Ok(archive)
    }

    fn apt_get(&self, folder: &Path, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).arg("--quiet");
        for option in &self.options {
            command.args(["--option", option]);
        }
        quiet(command.args(arguments))
    }

    /// The folder that holds the unpacked packages of a version.
    fn unpack(&self, root: &Path, suite: &str, minor: u8) -> Result<PathBuf> {
        let system = root.join(format!("system-{suite}-3.{minor}"));
        let complete = system.join("complete");
        if complete.is_file() {
            return Ok(system);
        }
        let python = [
            format!("python3.{minor}-minimal"),
            format!("libpython3.{minor}-minimal"),
            format!("libpython3.{minor}-stdlib"),
            format!("libpython3.{minor}"),
        ];
        for (package, required) in
            python.iter().map(|name| (name.as_str(), true)).chain(LIBRARIES.map(|name| (name, name == "libc6")))
        {
            let fetched = self
                .package(package, suite)
                .and_then(|file| quiet(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&system)));
            if let (Err(error), true) = (fetched, required) {
                return Err(error.context(format!("package {package}")));
            }
        }
        fs::write(complete, "")?;
        Ok(system)
    }

    fn package(&self, name: &str, suite: &str) -> Result<PathBuf> {
        // In a folder of its own, so that the one file in it is the package.
        let folder = self.downloads.join(format!("{suite}-{name}"));
        if entries(&folder).is_empty() {
            fs::create_dir_all(&folder)?;
            self.apt_get(&folder, &["download", &format!("{name}/{suite}")])?;
        }
        let files = entries(&folder).into_iter().find(|path| path.extension().is_some_and(|ending| ending == "deb"));
        files.context("apt-get downloaded nothing")
    }
}

/// The lines `URIs` and `Signed-By` of the machine's own source of Debian's main archive.
fn mirror() -> Result<String> {
    let mut files = entries(Path::new("/etc/apt/sources.list.d"));
    files.push("/etc/apt/sources.list".into());
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let found = match path.extension().and_then(|ending| ending.to_str()) {
            Some("sources") => text.split("\n\n").find_map(stanza),
            Some("list") => text.lines().find_map(one_line),
            _ => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    bail!("this machine's apt has no source of Debian's main archive")
}

/// Whether it is a release of Debian itself, not its security updates or another archive.
fn is_release(suite: &str) -> bool {
    ["bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable"].contains(&suite)
}

fn stanza(text: &str) -> Option<String> {
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let enabled = field("Enabled").is_none_or(|word| word != "no");
    if !enabled || !field("Suites")?.split_whitespace().any(is_release) {
        return None;
    }
    Some(lines(field("URIs")?, field("Signed-By")))
}

fn one_line(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let signed = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    is_release(suite).then(|| lines(uri, signed))
}

fn lines(uris: &str, signed_by: Option<&str>) -> String {
    let signed = signed_by.map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
    format!("URIs: {uris}\n{signed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_taken_from_both_kinds_of_files() {
        let text =
            "# a comment\nTypes: deb\nURIs: copy:/srv/debian\nSuites: bookworm bookworm-updates\nSigned-By: /k.gpg\n";
        assert_eq!(stanza(text).as_deref(), Some("URIs: copy:/srv/debian\nSigned-By: /k.gpg\n"));
        assert_eq!(stanza("Types: deb\nURIs: copy:/srv/security\nSuites: bookworm-security\n"), None);
        assert_eq!(stanza(&format!("Enabled: no\n{text}")), None);
        let line = "deb [arch=amd64 signed-by=/k.gpg] copy:/srv/debian trixie main contrib";
        assert_eq!(one_line(line).as_deref(), Some("URIs: copy:/srv/debian\nSigned-By: /k.gpg\n"));
        assert_eq!(one_line("deb copy:/srv/debian sid main").as_deref(), Some("URIs: copy:/srv/debian\n"));
        assert_eq!(one_line("deb-src copy:/srv/debian sid main"), None);
        assert_eq!(one_line("deb copy:/srv/other nodistro main"), None);
    }
}
