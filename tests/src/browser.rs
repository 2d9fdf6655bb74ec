//! A real browser without a window: Debian's Chromium, driven by its own chromedriver over WebDriver.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guard::Guard;

const CHROMIUM: &str = "/usr/bin/chromium";
const DRIVER: &str = "chromedriver";

/// What keeps it from asking the network for things of its own.
const QUIET: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one page.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Guard,
    _folder: TempDir,
}

impl Browser {
    /// Whether there is one on this machine.
    pub fn is_here() -> bool {
        let mut driver = Command::new(DRIVER);
        driver.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        Path::new(CHROMIUM).is_file() && driver.status().is_ok_and(|status| status.success())
    }

    /// Starts one; `arguments` are Chromium's.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut driver =
            Guard::start(Command::new(DRIVER).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let said = driver.child().stdout.take().context("the output of chromedriver is piped")?;
        let port = port(BufReader::new(said))?;
        let mut browser = Self { port, session: String::new(), _driver: driver, _folder: folder };
        let profile = format!("--user-data-dir={}", browser._folder.path().display());
        let all: Vec<&str> = QUIET.iter().copied().chain([profile.as_str()]).chain(arguments.iter().copied()).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": CHROMIUM, "args": all},
        }}});
        let made = browser.ask("POST", "/session", Some(&wanted))?;
        browser.session = made["sessionId"].as_str().context("chromedriver gave no session")?.to_owned();
        Ok(browser)
    }

    /// Opens a page and waits until it has loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        self.command("url", &json!({ "url": url })).map(drop)
    }

    /// The value of a JavaScript expression in the page.
    pub fn value(&self, expression: &str) -> Result<Value> {
        self.command("execute/sync", &json!({"script": format!("return {expression};"), "args": []}))
    }

    /// Clicks the first element of a CSS selector, as a person would.
    pub fn click(&self, selector: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.command(&format!("element/{element}/click"), &json!({})).map(drop)
    }

    /// Types into the first element of a CSS selector; keys as WebDriver numbers them.
    pub fn keys(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.command(&format!("element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Drags the mouse over an element, by these parts of its width from its middle.
    pub fn drag(&self, selector: &str, from: f64, to: f64) -> Result<()> {
        let element = self.element(selector)?;
        let width = self.value(&format!("document.querySelector('{selector}').getBoundingClientRect().width"))?;
        let width = width.as_f64().context("an element has a width")?;
        let origin = json!({"element-6066-11e4-a52e-4f735466cecf": element});
        let at = |part: f64| json!({"type": "pointerMove", "duration": 0, "x": (part * width) as i64, "y": 0, "origin": origin});
        let button = |what: &str| json!({"type": what, "button": 0});
        let actions = [at(from), button("pointerDown"), at((from + to) / 2.0), at(to), button("pointerUp")];
        let pointer =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        self.command("actions", &json!({ "actions": [pointer] })).map(drop)
    }

    /// What the page has written to its console since this was last asked.
    pub fn console(&self) -> Result<Vec<String>> {
        let lines = self.command("se/log", &json!({"type": "browser"}))?;
        let lines = lines.as_array().context("a log is a list")?;
        Ok(lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn element(&self, selector: &str) -> Result<String> {
        let found = self.command("element", &json!({"using": "css selector", "value": selector}))?;
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.map(str::to_owned).with_context(|| format!("no element {selector}"))
    }

    fn command(&self, what: &str, body: &Value) -> Result<Value> {
        self.ask("POST", &format!("/session/{}/{what}", self.session), Some(body))
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or_else(String::new, Value::to_string);
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        let answer = answer(BufReader::new(stream))?;
        let value: Value = serde_json::from_slice(&answer).context("chromedriver answers in JSON")?;
        match value["value"]["error"].as_str() {
            Some(error) => bail!("{method} {path}: {error}: {}", value["value"]["message"]),
            None => Ok(value["value"].clone()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver is killed right after, and with it what does not answer.
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), None);
    }
}

/// "ChromeDriver was started successfully on port 41875."
fn port(mut said: impl std::io::BufRead) -> Result<u16> {
    let mut line = String::new();
    while said.read_line(&mut line)? > 0 {
        if let Some((_, port)) = line.rsplit_once("successfully on port ") {
            return port.trim().trim_end_matches('.').parse().context("a port is a number");
        }
        line.clear();
    }
    bail!("chromedriver did not say on which port it listens")
}

/// The body of an HTTP answer.
fn answer(mut stream: impl std::io::BufRead) -> Result<Vec<u8>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = Some(bytes.trim().parse::<u64>()?);
        }
    }
    let mut body = Vec::new();
    stream.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    Ok(body)
}
