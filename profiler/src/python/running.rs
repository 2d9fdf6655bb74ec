//! Real interpreters for tests: started, and waiting on their standard input.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use object::{Object as _, ObjectSymbol as _, SymbolKind};

use super::allocators::Interpreter;
use crate::process::Pid;
use crate::process::image::Image;
use crate::process::maps::{self, Region};
use crate::process::memory::ProcessMemory;

/// A Python process that does nothing until it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) regions: Vec<Region>,
    pub(crate) images: Vec<Image>,
    pub(crate) memory: ProcessMemory,
}

impl Running {
    pub(crate) fn start(program: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(["-S", "-c"])
            .arg("import sys; print('ready', flush=True); sys.stdin.read()")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid = Pid(child.id());
        let regions = maps::read(pid).unwrap();
        let images = Image::all(pid, &regions);
        let memory = ProcessMemory::open(pid).unwrap();
        Self { child, regions, images, memory }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Which image is the program itself.
    pub(crate) fn executable(&self) -> Option<usize> {
        let path = std::fs::read_link(format!("/proc/{}/exe", self.child.id())).unwrap();
        self.images.iter().position(|image| image.path == path)
    }

    /// The file that defines `_PyRuntime`, its version taken from its name.
    pub(crate) fn interpreter(&self) -> Interpreter<'_> {
        let image = self.images.iter().find(|image| image.export("_PyRuntime").is_some()).unwrap();
        let (_, version) = image.file_name().split_once("python3.").unwrap();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        Interpreter {
            image,
            minor: digits.parse().unwrap(),
            free_threaded: false,
            runtime: image.address_of("_PyRuntime").unwrap(),
        }
    }

    /// The name in the interpreter's `.symtab` of the function at an address; `None` if it has no such table.
    pub(crate) fn symbol_at(&self, vaddr: u64) -> Option<String> {
        let file = object::File::parse(&*self.interpreter().image.data).unwrap();
        let mut functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text).peekable();
        functions.peek()?;
        Some(
            functions
                .find(|symbol| symbol.address() == vaddr)
                .map(|symbol| symbol.name().unwrap().to_owned())
                .unwrap_or_default(),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The interpreters of this machine, each named, and each of the expected ones that is missing named too.
pub(crate) fn interpreters() -> Vec<PathBuf> {
    let versions = std::env::home_dir().unwrap_or_default().join(".pyenv/versions");
    let mut found = vec![PathBuf::from("/usr/bin/python3.11")];
    for minor in 8..=13 {
        let prefix = format!("3.{minor}.");
        let folders = std::fs::read_dir(&versions).into_iter().flatten().flatten();
        let version = folders.map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix)
        });
        found.push(version.unwrap_or_else(|| versions.join(&prefix)).join(format!("bin/python3.{minor}")));
    }
    for program in &found {
        let state = if program.exists() { "found" } else { "missing, not tested" };
        println!("{}: {state}", program.display());
    }
    found.retain(|program| program.exists());
    assert!(!found.is_empty(), "no interpreter to test on");
    found
}
