//! Asking servers that answer in JSON.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

/// What a server of this machine answers to a request for a path.
pub fn get<T: DeserializeOwned>(port: u16, path: &str) -> Result<T> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split("\r\n\r\n").nth(1).with_context(|| format!("{path}: {answer}"))?;
    Ok(serde_json::from_str(body)?)
}
