//! Thousands of looks at the objects of a process whose threads make, change and drop objects as fast as they can: whether
//! both sides come through, what the checks throw away, and what a look takes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::workspace_root;
use xtask::privilege::Privilege;
use xtask::python::Interpreter;

use crate::command;

/// Looks, unless told otherwise.
pub const LOOKS: u32 = 10_000;
/// How long the process is left alone, for its own pace.
const ALONE: Duration = Duration::from_secs(5);

/// The process.
struct Restless {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Restless {
    fn start(python: &Interpreter) -> Result<Self> {
        let mut command = Command::new(&python.path);
        command.arg(workspace_root().join("tests/workloads/restless.py"));
        println!("$ {}", command::line(&command));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start python")?;
        let input = child.stdin.take().context("standard input is a pipe")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut restless = Self { child, input, output };
        restless.read()?;
        Ok(restless)
    }

    fn read(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read from the process")?;
        if line.is_empty() {
            bail!("the process has ended: {}", self.child.wait().context("it has gone")?);
        }
        Ok(line)
    }

    /// How often its threads went round so far; an error if one's own check has failed.
    fn rounds(&mut self) -> Result<u64> {
        writeln!(self.input).context("the process does not listen")?;
        let said = self.read()?;
        let list = said.split_once('[').and_then(|(_, rest)| rest.split_once(']')).context("rounds of each thread")?.0;
        let rounds: Vec<u64> = list.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        if number(&said, "alive") != rounds.len() as u64 {
            bail!("a thread of the process found its own objects changed: {said}");
        }
        Ok(rounds.iter().sum())
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the looks and prints what they took.
pub fn run(privilege: Privilege, pyalloc: &Path, python: &Interpreter, looks: u32) -> Result<()> {
    let mut restless = Restless::start(python)?;
    std::thread::sleep(ALONE);
    let alone = restless.rounds()? as f64 / ALONE.as_secs_f64();
    let mut command = privilege.command(pyalloc);
    command.args(["objects", "--pid", &restless.child.id().to_string(), "--looks", &looks.to_string()]);
    println!("$ {}", command::line(&command));
    let (before, began) = (restless.rounds()?, Instant::now());
    let output = command.stderr(Stdio::inherit()).output().context("cannot start pyalloc")?;
    let seconds = began.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("pyalloc failed: {}", output.status);
    }
    let under = (restless.rounds()? - before) as f64 / seconds;
    let sums = String::from_utf8_lossy(&output.stdout);
    let sum = |name: &str| number(&sums, name);
    let each = |name: &str| sum(name) / sum("looks").max(1);
    println!("{:>10}  looks in {seconds:.0} s, none of which ended either side", sum("looks"));
    println!("{:>10}  objects a look, {} KiB copied", each("objects"), each("bytes_read") >> 10);
    println!("{:>10.1}  ms a look, {:.1} the longest", each("took_us") as f64 / 1e3, sum("longest_us") as f64 / 1e3);
    let per_million = sum("discarded") * 1_000_000 / sum("objects").max(1);
    let with = sum("with_discarded");
    println!("{:>10}  did not pass the checks: {per_million} of a million objects, in {with} looks", sum("discarded"));
    println!("{:>10}  looks were ended by a bound", sum("partial"));
    println!("{under:>10.0}  rounds a second in the process, {alone:.0} when nobody looks");
    Ok(())
}

/// The number of a name in flat JSON; 0 if it is not there.
fn number(json: &str, name: &str) -> u64 {
    let value = json.split_once(&format!("\"{name}\":")).map_or("", |(_, rest)| rest.trim_start());
    let end = value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_name() {
        let json = r#"{"looks":12,"partial": 3, "rounds": [1, 2]}"#;
        assert_eq!(["looks", "partial", "discarded"].map(|name| number(json, name)), [12, 3, 0]);
    }
}
