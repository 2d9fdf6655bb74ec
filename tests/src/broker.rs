//! A Redis server for one test, on a port of its own.

use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use xtask::servers::Redis;

use crate::guard::Guard;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; ended when this is dropped.
#[derive(Debug)]
pub struct Broker {
    /// `redis://...`
    pub url: String,
    _server: Guard,
    _folder: TempDir,
}

impl Broker {
    /// Starts one, and returns when it listens.
    ///
    /// # Errors
    /// There is no Redis server and it cannot be had, or it does not listen.
    pub fn start() -> Result<Self> {
        let mut redis = Redis::ensure()?.command();
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let port = free_port()?;
        redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder.path());
        let server = Guard::start(redis.stdin(Stdio::null()).stdout(Stdio::null()))?;
        wait_until_it_listens(port)?;
        Ok(Self { url: format!("redis://127.0.0.1:{port}/0"), _server: server, _folder: folder })
    }
}

/// A port that nobody listens on.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Returns when a server listens.
///
/// # Errors
/// It does not in time.
pub fn wait_until_it_listens(port: u16) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("nobody listens on port {port}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
