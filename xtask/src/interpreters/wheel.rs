//! Stripped interpreters, statically linked, with the GIL and without, that PyPI's freezers carry as their bases.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::python;

use super::{Place, entries, executable, quiet, quoted};

/// A package, and the builds (minor version, free-threaded) that are taken from it.
const PACKAGES: [(&str, &[(u8, bool)]); 2] = [
    ("cx-Freeze", &[(8, false), (9, false)]),
    (
        "freeze-core",
        &[
            (10, false),
            (11, false),
            (12, false),
            (13, false),
            (13, true),
            (14, false),
            (14, true),
            (15, false),
            (15, true),
        ],
    ),
];

/// The C library that an interpreter is built for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Libc {
    Glibc,
    Musl,
}

impl Libc {
    /// The name of the wheels' kind, and the platforms that pip knows it by.
    const fn wheels(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Glibc => ("manylinux", &["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]),
            Self::Musl => ("musllinux", &["musllinux_1_2_x86_64"]),
        }
    }
}

/// Fetches what is missing; gives how many there could be.
pub fn fetch(root: &Path) -> usize {
    let mut count = 0;
    for (package, builds) in PACKAGES {
        for &(minor, free_threaded) in builds {
            // cx_Freeze's own bases for musl are not whole interpreters.
            let kinds: &[Libc] = if package == "freeze-core" { &[Libc::Glibc, Libc::Musl] } else { &[Libc::Glibc] };
            for &libc in kinds {
                let suffix = if free_threaded { "t" } else { "" };
                let place = Place::new(root, &format!("{}-3.{minor}{suffix}", libc.wheels().0));
                place.ensure(|folder| make(root, folder, package, libc, minor, suffix));
                count += 1;
            }
        }
    }
    count
}

fn make(root: &Path, folder: &Path, package: &str, libc: Libc, minor: u8, suffix: &str) -> Result<String> {
    let library = standard_library(root, minor)
        .with_context(|| format!("no standard library of CPython 3.{minor} on this machine to run it with"))?;
    let wheel = folder.join("wheel");
    download(&wheel, package, libc, minor, suffix)?;
    let base = files_below(&wheel).into_iter().find(|path| is_base(path, minor, suffix));
    let program = folder.join(format!("python3.{minor}{suffix}"));
    fs::copy(base.context("the wheel has no interpreter")?, &program)?;
    executable(&program)?;
    // The base looks for everything in `lib` beside it.
    let lib = folder.join("lib");
    let _ = fs::remove_dir_all(&lib);
    fs::create_dir(&lib)?;
    let own = files_below(&wheel).into_iter().filter(|path| is_shared_object(path));
    for path in entries(&library).into_iter().chain(own) {
        let link = lib.join(path.file_name().unwrap_or_default());
        if !link.exists() {
            symlink(&path, &link).with_context(|| format!("cannot link {}", path.display()))?;
        }
    }
    let startup = include_str!("startup.py");
    fs::write(lib.join("__startup__.py"), startup)?;
    fs::write(lib.join("__init__pyalloc.py"), startup)?;
    fs::write(lib.join("BUILD_CONSTANTS.py"), "__EXECUTABLES__ = 'pyalloc'\n")?;
    match libc {
        Libc::Glibc => Ok(format!("exec {} \"$@\"", quoted(&program))),
        Libc::Musl => {
            let loader = super::debian::musl(root).context("musl")?;
            Ok(format!("exec {} --library-path {} {} \"$@\"", quoted(&loader), quoted(&lib), quoted(&program)))
        }
    }
}

fn download(wheel: &Path, package: &str, libc: Libc, minor: u8, suffix: &str) -> Result<()> {
    let _ = fs::remove_dir_all(wheel);
    let python = python::newest()?.path;
    let (version, abi) = (format!("3.{minor}"), format!("cp3{minor}{suffix}"));
    let (kind, platforms) = libc.wheels();
    println!("  downloading {package} for {abi}, {kind}");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "5"]);
    pip.args(["--no-deps", "--only-binary=:all:", "--implementation", "cp"]);
    pip.args(["--python-version", &version, "--abi", &abi, "--dest"]).arg(wheel);
    for platform in platforms {
        pip.args(["--platform", platform]);
    }
    quiet(pip.arg(package))?;
    let Some(file) = entries(wheel).into_iter().next() else { bail!("pip downloaded nothing") };
    quiet(Command::new(&python).args(["-m", "zipfile", "--extract"]).arg(file).arg(wheel))
}

/// A folder with the standard library of a minor version: of the unpacked Debian packages, the system, or pyenv.
fn standard_library(root: &Path, minor: u8) -> Option<PathBuf> {
    let name = format!("lib/python3.{minor}");
    let unpacked = entries(root).into_iter().map(|folder| folder.join("usr"));
    let pyenv = entries(&python::pyenv_root().join("versions"));
    let prefixes = unpacked.chain(["/usr".into(), "/usr/local".into()]).chain(pyenv);
    prefixes.map(|prefix| prefix.join(&name)).find(|folder| folder.join("os.py").is_file())
}

fn is_base(path: &Path, minor: u8, suffix: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(&format!("console-cpython-3{minor}{suffix}-"))
}

fn is_shared_object(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".so") || name.contains(".so.")
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut files): (Vec<_>, Vec<_>) = entries(folder).into_iter().partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| files_below(folder)));
    files
}
