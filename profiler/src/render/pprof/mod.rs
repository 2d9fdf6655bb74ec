//! For pprof: gzipped protobuf with its own four numbers, and the resident bytes as a fifth.

pub(in crate::render) mod message;

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::path::{NO_PATH, SMALL_OBJECTS};
use super::{Options, RenderError, Value, program, sanitize};
use crate::profile::tree::counted;
use crate::profile::{FrameId, FrameKind, Profile, StackId};

/// Longest name of a function or file, in columns.
const NAME_COLUMNS: usize = 4096;
/// The numbers of a sample: name and unit, in this order.
const TYPES: [(&str, &str); 5] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
    ("resident_space", "bytes"),
];

/// Renders the profile. `options` choose which number is shown first, and whose the resident bytes are.
pub(super) fn render(profile: &Profile, options: &Options) -> Result<Vec<u8>, RenderError> {
    let message = Writer::new(profile).message(options);
    let refused = |error: std::io::Error| RenderError::Gzip(error.to_string());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&message.encode_to_vec()).map_err(refused)?;
    gzip.finish().map_err(refused)
}

/// A sample: the process, the call path, and whether it is small objects in pools.
type Key = (u32, StackId, bool);

struct Writer<'p> {
    profile: &'p Profile,
    strings: Vec<String>,
    string_ids: HashMap<String, i64>,
    functions: Vec<message::Function>,
    function_ids: HashMap<(String, String, i64), u64>,
    mappings: Vec<message::Mapping>,
    mapping_ids: HashMap<String, u64>,
    locations: Vec<message::Location>,
    location_ids: HashMap<FrameId, u64>,
}

impl<'p> Writer<'p> {
    fn new(profile: &'p Profile) -> Self {
        Self {
            profile,
            // The first text of every pprof profile is the empty one.
            strings: vec![String::new()],
            string_ids: HashMap::from([(String::new(), 0)]),
            functions: Vec::new(),
            function_ids: HashMap::new(),
            mappings: Vec::new(),
            mapping_ids: HashMap::new(),
            locations: Vec::new(),
            location_ids: HashMap::new(),
        }
    }

    fn message(mut self, options: &Options) -> message::Profile {
        let sample_type = TYPES.map(|(name, unit)| self.value_type(name, unit)).into();
        // The first mapping is that of the program.
        let interpreter = self.profile.processes.first().map_or("", |process| process.interpreter.as_str());
        self.mapping(if interpreter.is_empty() { "python" } else { interpreter });
        let small = self.marker(SMALL_OBJECTS);
        let no_path = self.marker(NO_PATH);
        let values = values(self.profile, options);
        let sample = values.into_iter().map(|(key, values)| self.sample(key, values, small, no_path)).collect();
        let trace = &self.profile.trace;
        let recorded = format!("recorded by pyalloc {}", trace.pyalloc_version);
        let comment = self
            .profile
            .left_out
            .iter()
            .chain([&recorded])
            .map(|note| self.string(&sanitize::name(note, NAME_COLUMNS)));
        let comment = comment.collect();
        let nanos = |ms: u64| i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        message::Profile {
            sample_type,
            sample,
            comment,
            time_nanos: nanos(trace.started_unix_ms),
            duration_nanos: nanos(trace.duration_ms),
            default_sample_type: self.string(default_type(self.profile, options)),
            mapping: self.mappings,
            location: self.locations,
            function: self.functions,
            string_table: self.strings,
        }
    }

    fn sample(
        &mut self,
        (process, stack, is_small): Key,
        values: [u64; 5],
        small: u64,
        no_path: u64,
    ) -> message::Sample {
        let profile = self.profile;
        let mut location_id: Vec<u64> = is_small.then_some(small).into_iter().collect();
        location_id.extend(profile.frame_ids(stack).filter_map(|id| self.location(id)));
        if location_id.len() == usize::from(is_small) {
            location_id.push(no_path);
        }
        let label = profile.processes.get(process as usize).map(|process| {
            let (pid, named) = (self.string("pid"), self.string("process"));
            let str = self.string(&program::named(process));
            let pid = message::Label { key: pid, str: 0, num: i64::from(process.pid) };
            [pid, message::Label { key: named, str, num: 0 }]
        });
        message::Sample {
            location_id,
            value: values.map(|value| i64::try_from(value).unwrap_or(i64::MAX)).into(),
            label: label.into_iter().flatten().collect(),
        }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(&id) = self.string_ids.get(text) {
            return id;
        }
        let id = i64::try_from(self.strings.len()).unwrap_or(i64::MAX);
        self.strings.push(text.to_owned());
        self.string_ids.insert(text.to_owned(), id);
        id
    }

    fn value_type(&mut self, name: &str, unit: &str) -> message::ValueType {
        message::ValueType { name: self.string(name), unit: self.string(unit) }
    }

    fn mapping(&mut self, file: &str) -> u64 {
        let file = sanitize::name(file, NAME_COLUMNS);
        if let Some(&id) = self.mapping_ids.get(&file) {
            return id;
        }
        let (id, filename) = (self.mappings.len() as u64 + 1, self.string(&file));
        // So that pprof looks for no symbols of its own.
        let (has_functions, has_filenames, has_line_numbers) = (true, true, true);
        self.mappings.push(message::Mapping { id, filename, has_functions, has_filenames, has_line_numbers });
        self.mapping_ids.insert(file, id);
        id
    }

    fn function(&mut self, name: &str, file: &str, start_line: i64) -> u64 {
        let key = (name.to_owned(), file.to_owned(), start_line);
        if let Some(&id) = self.function_ids.get(&key) {
            return id;
        }
        let (id, name, filename) = (self.functions.len() as u64 + 1, self.string(name), self.string(file));
        self.functions.push(message::Function { id, name, system_name: name, filename, start_line });
        self.function_ids.insert(key, id);
        id
    }

    fn location(&mut self, frame: FrameId) -> Option<u64> {
        if let Some(&id) = self.location_ids.get(&frame) {
            return Some(id);
        }
        let row = self.profile.frame(frame)?.clone();
        let [name, file] = [row.function, row.file].map(|id| sanitize::name(self.profile.text(id), NAME_COLUMNS));
        let mapping_id = if row.kind == FrameKind::Native { self.mapping(&file) } else { 1 };
        let function_id = self.function(&name, &file, row.first_line.into());
        let id = self.add_location(mapping_id, message::Line { function_id, line: row.line.into() });
        self.location_ids.insert(frame, id);
        Some(id)
    }

    fn marker(&mut self, text: &str) -> u64 {
        let function_id = self.function(text, "", 0);
        self.add_location(1, message::Line { function_id, line: 0 })
    }

    fn add_location(&mut self, mapping_id: u64, line: message::Line) -> u64 {
        let id = self.locations.len() as u64 + 1;
        self.locations.push(message::Location { id, mapping_id, line: vec![line] });
        id
    }
}

/// The numbers of each sample. What survived in a process that ended is none: it went with the process.
fn values(profile: &Profile, options: &Options) -> BTreeMap<Key, [u64; 5]> {
    let counted = counted(profile);
    let counts = |process: u32| counted.get(process as usize).copied().unwrap_or(true);
    let mut sums: BTreeMap<Key, [u64; 5]> = BTreeMap::new();
    let mut add = |key: Key, values: [u64; 5]| {
        let sum = sums.entry(key).or_default();
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum = sum.saturating_add(value));
    };
    for row in &profile.blocks {
        let (objects, space) = if counts(row.process) { (row.inuse_objects, row.inuse_space) } else { (0, 0) };
        add((row.process, row.stack, false), [row.alloc_objects, row.alloc_space, objects, space, 0]);
    }
    for row in profile.pools.iter().filter(|row| counts(row.process)) {
        add((row.process, row.stack, true), [0, 0, row.inuse_objects, row.inuse_space, 0]);
    }
    let by_owner = options.value == Some(Value::OwnedSpace);
    for row in profile.resident.iter().filter(|row| counts(row.process)) {
        let stack = if by_owner { row.allocated_by } else { Some(row.stack) };
        if let Some(stack) = stack {
            add((row.process, stack, false), [0, 0, 0, 0, row.inuse_space]);
        }
    }
    sums.retain(|_, values| values.iter().any(|value| *value > 0));
    sums
}

fn default_type(profile: &Profile, options: &Options) -> &'static str {
    match options.value {
        Some(Value::TouchedSpace | Value::OwnedSpace) => "resident_space",
        Some(value) if TYPES.iter().any(|(name, _)| *name == value.name()) => value.name(),
        _ if profile.trace.without_heap => "resident_space",
        _ => "inuse_space",
    }
}
