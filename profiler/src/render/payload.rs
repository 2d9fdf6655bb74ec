//! Code that handles payloads: the places with the biggest single blocks and bursts, and what they do.

use std::collections::HashMap;

use super::path::{NAME_COLUMNS, Names};
use crate::profile::tree::counted;
use crate::profile::{BlockRow, Frame, FrameId, FrameKind, Profile, StackId};

/// A place is listed from this size of its largest block on, bytes.
pub(super) const LARGE_BLOCK: u64 = 32 << 10;
/// Or from this many bytes live at once on.
pub(super) const LARGE_BURST: u64 = 256 << 10;

/// A place that makes big blocks, and what becomes of them.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    /// The line that names it.
    pub frame: Option<FrameId>,
    /// What it does; `None` if no pattern knows.
    pub label: Option<&'static str>,
    /// Its largest single block, bytes.
    pub largest: u64,
    /// Bytes live at once, at least: the peak of its largest call path, or what survived of all its paths.
    pub burst: u64,
    /// Sums over its blocks.
    pub alloc_objects: u64,
    /// Bytes of these.
    pub alloc_space: u64,
    /// Of these, bytes still live.
    pub inuse_space: u64,
    /// Of these, bytes that were live when their process ended.
    pub gone_space: u64,
    /// Of these, bytes given back within 100 ms.
    pub temporary_space: u64,
    /// The call path with the largest block or burst.
    pub heaviest: StackId,
}

/// The places with a large block or burst, largest first.
pub(super) fn payloads(profile: &Profile) -> Vec<Payload> {
    let labels = Labels::new(profile);
    let counted = counted(profile);
    let counts = |row: &BlockRow| counted.get(row.process as usize).copied().unwrap_or(true);
    let mut places: HashMap<_, Payload> = HashMap::new();
    for row in &profile.blocks {
        let frame = profile.naming_frame(row.stack);
        let label = labels.of(profile, row.stack);
        let line = frame.and_then(|id| profile.frame(id)).map(|frame| (frame.file, frame.function, frame.line));
        places.entry((line, label)).or_insert_with(|| Payload::new(frame, label, row.stack)).add(row, counts(row));
    }
    for place in places.values_mut() {
        place.burst = place.burst.max(place.inuse_space);
    }
    let large = |place: &Payload| place.largest >= LARGE_BLOCK || place.burst >= LARGE_BURST;
    let mut places: Vec<Payload> = places.into_values().filter(large).collect();
    places.sort_by_key(|place| (std::cmp::Reverse((place.size(), place.alloc_space)), place.heaviest));
    places
}

impl Payload {
    fn new(frame: Option<FrameId>, label: Option<&'static str>, heaviest: StackId) -> Self {
        Self {
            frame,
            label,
            largest: 0,
            burst: 0,
            alloc_objects: 0,
            alloc_space: 0,
            inuse_space: 0,
            gone_space: 0,
            temporary_space: 0,
            heaviest,
        }
    }

    fn add(&mut self, row: &BlockRow, counts: bool) {
        if row.largest.max(row.peak_space) > self.size() {
            self.heaviest = row.stack;
        }
        self.largest = self.largest.max(row.largest);
        self.burst = self.burst.max(row.peak_space);
        self.alloc_objects = self.alloc_objects.saturating_add(row.alloc_objects);
        self.alloc_space = self.alloc_space.saturating_add(row.alloc_space);
        let live = if counts { &mut self.inuse_space } else { &mut self.gone_space };
        *live = live.saturating_add(row.inuse_space);
        self.temporary_space = self.temporary_space.saturating_add(row.temporary_space);
    }

    fn size(&self) -> u64 {
        self.largest.max(self.burst)
    }

    /// Bytes of an allocation on average.
    pub(super) fn per_call(&self) -> u64 {
        self.alloc_space / self.alloc_objects.max(1)
    }

    /// Bytes given back during the trace.
    pub(super) fn freed_space(&self) -> u64 {
        self.alloc_space.saturating_sub(self.inuse_space).saturating_sub(self.gone_space)
    }
}

/// What a kind of code does, and how it is recognized.
struct Pattern {
    label: &'static str,
    /// Modules, with those inside them, between blanks.
    modules: &'static str,
    /// Functions of these modules, `*` at the end for any rest; empty for all.
    functions: &'static str,
}

const fn all(label: &'static str, modules: &'static str) -> Pattern {
    Pattern { label, modules, functions: "" }
}

const fn some(label: &'static str, modules: &'static str, functions: &'static str) -> Pattern {
    Pattern { label, modules, functions }
}

const PARSING: &str = "parsing";
const SERIALIZATION: &str = "serialization";
const COMPRESSION: &str = "compression";
const SOCKET: &str = "socket read";
const FILE: &str = "file read";
const IMPORT: &str = "module import";

/// What library code does between own code and the allocation; the first that fits counts.
const DOING: &[Pattern] = &[
    some(SERIALIZATION, "json simplejson orjson ujson flask.json pickle marshal", "dump*"),
    some(SERIALIZATION, "msgpack yaml marshmallow toml", "dump* pack* serialize* _serialize*"),
    all(SERIALIZATION, "json.encoder simplejson.encoder yaml.emitter yaml.serializer yaml.representer"),
    all(SERIALIZATION, "rest_framework.renderers fastapi.encoders openpyxl.writer"),
    some(PARSING, "werkzeug starlette django.http", "*form* parse* _parse* get_json json"),
    all(PARSING, "json simplejson orjson ujson _json pickle _pickle marshal msgpack yaml"),
    all(PARSING, "xml lxml pyexpat html.parser html5lib bs4 csv _csv configparser ast"),
    all(PARSING, "tomllib tomli toml email multipart python_multipart werkzeug.formparser"),
    all(PARSING, "werkzeug.sansio.multipart pydantic pydantic_core marshmallow dateutil.parser"),
    all(PARSING, "google.protobuf openpyxl docx pypdf pdfminer fastavro avro urllib.parse"),
    all(COMPRESSION, "gzip zlib bz2 lzma _compression compression zipfile tarfile zstandard"),
    all(COMPRESSION, "brotli lz4 snappy libz liblzma libbz2 libzstd"),
    all("database", "sqlite3 _sqlite3 psycopg psycopg2 sqlalchemy django.db pymongo bson"),
    all("database", "redis MySQLdb pymysql asyncpg peewee libpq libsqlite3 elasticsearch"),
    all("dataframe", "pandas polars pyarrow dask modin libarrow"),
    all("image", "PIL cv2 imageio skimage matplotlib"),
    all("model", "torch transformers sklearn tensorflow keras xgboost lightgbm onnxruntime"),
    all("array", "numpy scipy libopenblas _multiarray_umath"),
    all("template", "jinja2 mako django.template chameleon"),
    some(SOCKET, "werkzeug django.http gunicorn.http", "read* get_data *body* *chunk*"),
    all(SOCKET, "socket ssl http.client urllib.request urllib3 requests httpx httpcore h11"),
    all(SOCKET, "aiohttp asyncio.streams asyncio.selector_events asyncio.sslproto asyncio.buffered_proto"),
    all(SOCKET, "gunicorn.http.unreader gunicorn.http.body uvicorn.protocols websockets httptools"),
    all(FILE, "pathlib codecs _pyio io fileinput linecache shutil tempfile mmap tokenize"),
    all("encoding", "base64 binascii quopri encodings"),
    all("encryption or hashing", "cryptography Crypto hashlib hmac bcrypt argon2"),
    all("text search", "re regex sre_compile sre_parse"),
    all("copying", "copy"),
    all("logging", "logging structlog loguru"),
    all(IMPORT, "importlib zipimport pkgutil pkg_resources"),
];

/// What the code around a path is for; used when nothing says more.
const CONTEXT: &[Pattern] = &[
    all(IMPORT, "importlib"),
    all("template", "jinja2 mako django.template"),
    all("background job", "celery rq dramatiq huey apscheduler multiprocessing"),
    all("request handler", "flask werkzeug django starlette fastapi aiohttp.web tornado falcon"),
    all("request handler", "bottle pyramid sanic gunicorn uvicorn hypercorn wsgiref http.server"),
    all("request handler", "socketserver grpc quart litestar"),
];

/// What own code does, by a word in its function's name.
const OWN_WORDS: &[(&str, &str)] = &[
    ("parsing (by its name)", "parse parser parsing decode deserialize unpickle loads unpack"),
    ("serialization (by its name)", "serialize dump dumps encode export pack"),
    ("compression (by its name)", "compress decompress zip unzip gzip inflate deflate"),
    ("file or socket read (by its name)", "read recv receive fetch download upload slurp"),
    ("image (by its name)", "image thumbnail resize"),
    ("template (by its name)", "render template"),
    ("request handler (by its name)", "handler handle view endpoint request response"),
];

/// What each frame of a profile says about a path it is on.
struct Labels {
    doing: Vec<Option<&'static str>>,
    context: Vec<Option<&'static str>>,
}

impl Labels {
    fn new(profile: &Profile) -> Self {
        let names = Names::new(profile, NAME_COLUMNS);
        let code = |frame: &Frame| (names.module(frame), last_name(profile.text(frame.function)));
        let doing = |frame: &Frame| match frame.kind {
            FrameKind::Marker => None,
            FrameKind::Own => by_word(last_name(profile.text(frame.function))),
            _ => first_match(DOING, &code(frame)),
        };
        let context = |frame: &Frame| match frame.kind {
            FrameKind::Package | FrameKind::Stdlib => first_match(CONTEXT, &code(frame)),
            _ => None,
        };
        Self {
            doing: profile.frames.iter().map(doing).collect(),
            context: profile.frames.iter().map(context).collect(),
        }
    }

    /// What the code of a path does: told by the frames from the allocation up to the first own one, from the
    /// inside out; else by what is around.
    fn of(&self, profile: &Profile, stack: StackId) -> Option<&'static str> {
        let is_own = |id: FrameId| profile.frame(id).is_some_and(|frame| frame.kind == FrameKind::Own);
        for id in profile.frame_ids(stack) {
            if let Some(label) = self.doing.get(id as usize).copied().flatten() {
                return Some(label);
            }
            if is_own(id) {
                break;
            }
        }
        profile.frame_ids(stack).find_map(|id| self.context.get(id as usize).copied().flatten())
    }
}

fn last_name(function: &str) -> &str {
    let name = function.rsplit('.').find(|part| !part.starts_with('<')).unwrap_or(function);
    if name.len() > 256 { "" } else { name }
}

fn first_match(patterns: &[Pattern], (module, function): &(String, &str)) -> Option<&'static str> {
    let inside = |outer: &str| module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let matches = |pattern: &&Pattern| {
        pattern.modules.split(' ').any(inside)
            && (pattern.functions.is_empty() || pattern.functions.split(' ').any(|wanted| fits(wanted, function)))
    };
    patterns.iter().find(matches).map(|pattern| pattern.label)
}

/// `*` stands for anything at the start or at the end.
fn fits(wanted: &str, name: &str) -> bool {
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(wanted.trim_matches('*')),
        (None, Some(start)) => name.starts_with(start),
        (Some(end), None) => name.ends_with(end),
        (None, None) => name == wanted,
    }
}

fn by_word(function: &str) -> Option<&'static str> {
    let lower = function.to_lowercase();
    let said = |words: &str| lower.split('_').any(|word| words.split(' ').any(|said| said == word));
    OWN_WORDS.iter().find(|(_, words)| said(words)).map(|(label, _)| *label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::ProfileBuilder;

    fn check(frames: &[(FrameKind, &str, &str)], expected: Option<&str>) {
        let mut builder = ProfileBuilder::new();
        let ids: Vec<_> = frames.iter().map(|(kind, file, name)| builder.frame(*kind, name, file, 1, 1)).collect();
        let stack = builder.stack(&ids);
        let profile = builder.into_profile();
        assert_eq!(Labels::new(&profile).of(&profile, stack), expected, "{frames:?}");
    }

    #[test]
    fn code_is_labelled_by_what_it_does() {
        use FrameKind::{Native, Own, Package, Stdlib};
        let own = (Own, "/srv/app.py", "work");
        let flask = (Package, "/v/site-packages/flask/app.py", "Flask.dispatch_request");
        let json = |file, name| (Stdlib, file, name);
        check(&[own], None);
        check(&[flask, own], Some("request handler"));
        check(&[flask, own, json("/usr/lib/python3.11/json/__init__.py", "loads")], Some("parsing"));
        check(&[own, json("/usr/lib/python3.11/json/__init__.py", "dumps")], Some("serialization"));
        check(&[own, json("/usr/lib/python3.11/json/encoder.py", "JSONEncoder.encode")], Some("serialization"));
        check(&[own, (Package, "/v/site-packages/pandas/io/parsers/readers.py", "read_csv")], Some("dataframe"));
        check(&[own, (Native, "/lib/x86_64-linux-gnu/libz.so.1", "deflate")], Some("compression"));
        check(&[own, (Native, "/lib/libc.so.6", "malloc")], None);
        check(&[own, (Stdlib, "/usr/lib/python3.11/socket.py", "SocketIO.readinto")], Some("socket read"));
        check(&[own, (Stdlib, "/usr/lib/python3.11/pathlib.py", "Path.read_bytes")], Some("file read"));
        check(&[(Own, "/srv/app.py", "Loader.parse_upload.<locals>.<lambda>")], Some("parsing (by its name)"));
        check(&[flask, (Own, "/srv/app.py", "read_body")], Some("file or socket read (by its name)"));
        check(&[(Package, "/v/site-packages/celery/app/trace.py", "trace_task"), own], Some("background job"));
        check(&[(Stdlib, "<frozen importlib._bootstrap>", "_load"), (Own, "/srv/m.py", "<module>")], Some(IMPORT));
        // A module of a similar name is not the module.
        check(&[own, (Package, "/v/site-packages/jsonx/core.py", "loads")], None);
    }

    #[test]
    fn a_place_that_does_two_things_is_two_places() {
        let mut builder = ProfileBuilder::new();
        let own = builder.frame(FrameKind::Own, "work", "/srv/app.py", 1, 1);
        let loads = builder.frame(FrameKind::Stdlib, "loads", "/usr/lib/python3.11/json/__init__.py", 1, 1);
        let stacks = [builder.stack(&[own]), builder.stack(&[own, loads])];
        let mut profile = builder.into_profile();
        let row =
            |stack| BlockRow { stack, largest: LARGE_BLOCK, alloc_objects: 2, alloc_space: 9, ..BlockRow::default() };
        profile.blocks = vec![row(stacks[0]), row(stacks[1]), BlockRow { largest: 1, ..row(stacks[0]) }];
        let places = payloads(&profile);
        let labels: Vec<_> = places.iter().map(|place| (place.label, place.alloc_objects)).collect();
        assert_eq!(labels, [(None, 4), (Some("parsing"), 2)]);
    }
}
