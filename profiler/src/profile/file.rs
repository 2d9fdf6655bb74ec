//! The profile file: writing and reading. `docs/profile-format.md` describes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use thiserror::Error;

use super::validate::validate;
use super::{FORMAT_VERSION, Profile};
use crate::output::{self, Owner, WriteError, reason};

pub use crate::output::{check_writable, sudo_owner};

/// The first bytes of every profile; a u32 with the version follows, little-endian, then the gzip stream.
pub const MAGIC: [u8; 8] = *b"pyalloc\0";

/// Most bytes of JSON in a profile that is read: 25 times what the largest profiles hold.
pub const MAX_JSON: u64 = 1 << 29;

/// Why a profile could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error(
        "cannot read the profile {}: {}; give a file that `pyalloc trace -o` \
         wrote",
        .path.display(),
        reason(.source),
    )]
    CannotRead {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a pyalloc profile: give a file that `pyalloc trace -o` wrote", .0.display())]
    NotAProfile(PathBuf),
    /// The file is of a later format.
    #[error(
        "{} was written by a later pyalloc (format {found}, this one reads up to {FORMAT_VERSION}): update \
         pyalloc",
        .path.display(),
    )]
    LaterVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file ends too early.
    #[error("the profile {} is truncated: copy it again, or record a new one", .0.display())]
    Truncated(PathBuf),
    /// The file's content is damaged.
    #[error("the profile {} is corrupt ({what}): copy it again, or record a new one", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file holds more than any trace writes.
    #[error(
        "the profile {} unfolds to more than {} MiB, which no trace writes: it is not \
         read",
        .0.display(),
        MAX_JSON >> 20,
    )]
    TooLarge(PathBuf),
}

/// Writes a profile; the file at `path` is at any moment the old one or the new one.
///
/// # Errors
/// See [`WriteError`]; the old file stays.
pub fn write(path: &Path, profile: &Profile, owner: Option<Owner>) -> Result<(), WriteError> {
    output::write_atomically(path, owner, |out| encode(out, profile))
}

/// Writes a profile's bytes: the same profile gives the same bytes.
///
/// # Errors
/// What `out` refuses.
pub fn encode(out: &mut dyn Write, profile: &Profile) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&FORMAT_VERSION.to_le_bytes())?;
    // A running trace writes every few seconds: a fast level costs the machine less and the file little.
    let mut gzip = GzEncoder::new(out, Compression::new(3));
    serde_json::to_writer(&mut gzip, profile)?;
    gzip.finish()?.flush()
}

/// Reads a profile and checks it: every id in it is valid.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path) -> Result<Profile, ReadError> {
    let cannot = |source| ReadError::CannotRead { path: path.to_owned(), source };
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.is_dir() {
        return Err(cannot(io::ErrorKind::IsADirectory.into()));
    }
    decode(BufReader::new(file), path)
}

/// Reads a profile from bytes; `path` names it in errors.
///
/// # Errors
/// See [`ReadError`].
pub fn decode(mut bytes: impl BufRead, path: &Path) -> Result<Profile, ReadError> {
    check_head(&mut bytes, path)?;
    let profile = decode_json(&mut bytes, path, MAX_JSON)?;
    let rest = bytes.fill_buf().map_err(|source| ReadError::CannotRead { path: path.to_owned(), source })?;
    let corrupt = |what: String| ReadError::Corrupt { path: path.to_owned(), what };
    if !rest.is_empty() {
        return Err(corrupt("bytes after its end".to_owned()));
    }
    validate(&profile).map_err(corrupt)?;
    Ok(profile)
}

fn check_head(bytes: &mut impl BufRead, path: &Path) -> Result<(), ReadError> {
    let mut head = Vec::with_capacity(12);
    let read = bytes.by_ref().take(12).read_to_end(&mut head);
    read.map_err(|source| ReadError::CannotRead { path: path.to_owned(), source })?;
    let known = head.len().min(MAGIC.len());
    if head.is_empty() || head[..known] != MAGIC[..known] {
        return Err(ReadError::NotAProfile(path.to_owned()));
    }
    let Some(version) = head.get(8..12).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes) else {
        return Err(ReadError::Truncated(path.to_owned()));
    };
    match version {
        FORMAT_VERSION => Ok(()),
        found if found > FORMAT_VERSION => Err(ReadError::LaterVersion { path: path.to_owned(), found }),
        found => Err(ReadError::Corrupt { path: path.to_owned(), what: format!("format {found}") }),
    }
}

fn decode_json(bytes: &mut impl BufRead, path: &Path, most: u64) -> Result<Profile, ReadError> {
    let mut limited = Limited { inner: GzDecoder::new(bytes), left: most, exceeded: false };
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, &mut limited));
    let parsed = serde::Deserialize::deserialize(&mut json)
        // Reading on to the end is what makes the decoder compare gzip's checksum and length.
        .and_then(|profile| json.end().map(|()| profile));
    drop(json);
    parsed.map_err(|error| {
        let path = path.to_owned();
        if limited.exceeded { ReadError::TooLarge(path) } else { parse_error(path, error) }
    })
}

fn parse_error(path: PathBuf, error: serde_json::Error) -> ReadError {
    if !error.is_io() {
        return ReadError::Corrupt { path, what: error.to_string() };
    }
    let source = io::Error::from(error);
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Truncated(path),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            ReadError::Corrupt { path, what: source.to_string() }
        }
        _ => ReadError::CannotRead { path, source },
    }
}

/// Stops a small file that unfolds without end.
struct Limited<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("too large"));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::builder::sample;

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, &sample()).unwrap();
        bytes
    }

    fn gzipped(json: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes()].concat();
        let mut gzip = GzEncoder::new(&mut bytes, Compression::fast());
        gzip.write_all(json).unwrap();
        gzip.finish().unwrap();
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Profile, ReadError> {
        decode(bytes, Path::new("x.pyalloc"))
    }

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(read_bytes(bytes).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pyalloc");
        write(&path, &sample(), None).unwrap();
        assert_eq!(read(&path).unwrap(), sample());
        assert_eq!(std::fs::read(&path).unwrap(), encoded(), "the same profile gives the same bytes");
    }

    #[test]
    fn a_file_cut_anywhere_is_truncated() {
        let bytes = encoded();
        for length in 1..bytes.len() {
            let error = read_bytes(&bytes[..length]).unwrap_err();
            assert!(matches!(error, ReadError::Truncated(_)), "{length} of {}: {error}", bytes.len());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed_or_harmless() {
        let bytes = encoded();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[index] ^= 1 << bit;
                // Bits of gzip's header (time, system) may flip and change nothing.
                if let Ok(profile) = read_bytes(&bytes) {
                    assert_eq!(profile, sample());
                }
            }
        }
    }

    #[test]
    fn each_bad_file_has_its_sentence() {
        check(b"", "x.pyalloc is not a pyalloc profile: give a file that `pyalloc trace -o` wrote");
        check(b"\x7fELF", "x.pyalloc is not a pyalloc profile: give a file that `pyalloc trace -o` wrote");
        check(b"pyall", "the profile x.pyalloc is truncated: copy it again, or record a new one");
        let later = [&MAGIC[..], &9_u32.to_le_bytes()].concat();
        check(&later, "x.pyalloc was written by a later pyalloc (format 9, this one reads up to 1): update pyalloc");
        let mut longer = encoded();
        longer.push(b'!');
        check(&longer, "the profile x.pyalloc is corrupt (bytes after its end): copy it again, or record a new one");
        assert!(read_bytes(&gzipped(b"{}")).unwrap_err().to_string().contains("corrupt (missing field `trace`"));
        assert!(read_bytes(&gzipped(b"{\"trace\":")).unwrap_err().to_string().contains("corrupt (EOF while parsing"));
    }

    #[test]
    fn ids_are_checked_when_read() {
        let mut profile = sample();
        profile.stacks[2].parent = 2;
        let mut bytes = Vec::new();
        encode(&mut bytes, &profile).unwrap();
        assert!(read_bytes(&bytes).unwrap_err().to_string().contains("corrupt (stack 2 stands before its caller)"));
    }

    #[test]
    fn a_file_that_unfolds_without_end_is_refused() {
        let bytes = gzipped(&vec![b' '; 1 << 20]);
        let mut stream = &bytes[12..];
        let error = decode_json(&mut stream, Path::new("x"), 1 << 16).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge(_)), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_bytes(&bytes);
            let _ = read_bytes(&[&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &bytes].concat());
            let _ = read_bytes(&gzipped(&bytes));
        }

        #[test]
        fn damaged_json_never_panics(at in 0_usize..2000, with in any::<u8>(), cut in 0_usize..2000) {
            let mut json = serde_json::to_vec(&sample()).unwrap();
            let length = json.len();
            json[at % length] = with;
            json.truncate(length - cut % 3);
            let _ = read_bytes(&gzipped(&json));
        }
    }
}
