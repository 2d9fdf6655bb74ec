//! What the objects in a process's memory are, who holds them, and how large its containers are: one look from outside,
//! the process not stopped. Plain data; `objects` (the room) reads it.

use serde::{Deserialize, Serialize};

use super::bounds::{self, FEW};

/// One look at the objects of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectLook {
    /// Index into [`super::Profile::processes`].
    pub process: u32,
    /// Milliseconds from the start of the trace.
    pub at_ms: u64,
    /// How long it took, microseconds of wall time.
    pub took_us: u64,
    /// Bytes copied out of the process.
    pub bytes_read: u64,
    /// Why there is nothing: the build keeps no list of its objects, ...; `None` if the look was made.
    pub not_available: Option<String>,
    /// Objects seen.
    pub objects: u64,
    /// What did not pass the checks (it changed while it was read), and was left out.
    pub discarded: u64,
    /// True if a bound (bytes, time, objects) ended the look before everything was seen.
    pub partial: bool,
    /// Objects and bytes by type, the most bytes first.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub types: Vec<TypeRow>,
    /// The largest containers, the most elements' bytes first.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub containers: Vec<ContainerRow>,
    /// `functools.lru_cache` wrappers.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub caches: Vec<CacheRow>,
    /// Who keeps a sample of the objects, the most bytes first.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub retainers: Vec<RetainerRow>,
    /// Who keeps a sample of the objects that came since the first look at the process, the most bytes first: what grew.
    /// Or, where objects were asked for by address, who keeps these.
    #[serde(default, deserialize_with = "bounds::vec::<_, _, FEW>")]
    pub focused: Vec<RetainerRow>,
}

impl ObjectLook {
    /// The container of a later look as it was at this one: the one at its address; or, where one was made anew and took
    /// its place, the only one of its owner.
    pub fn same(&self, later: &ContainerRow) -> Option<&ContainerRow> {
        let of_kind = || self.containers.iter().filter(|row| row.kind == later.kind);
        of_kind().find(|row| row.address == later.address).or_else(|| {
            let mut owned = of_kind().filter(|row| !later.owner.is_empty() && row.owner == later.owner);
            owned.next().filter(|_| owned.next().is_none())
        })
    }
}

/// Objects of one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TypeRow {
    /// `module.QualName`; builtins without a module.
    pub name: String,
    /// How many were seen.
    pub objects: u64,
    /// Their bytes: the objects themselves and what only they have (a list's array, a dict's table).
    pub space: u64,
}

/// What kind of container it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// `dict` and its subclasses.
    #[default]
    Dict,
    /// `list`.
    List,
    /// `set`, `frozenset`.
    Set,
    /// `tuple`.
    Tuple,
    /// `collections.deque`.
    Deque,
    /// `queue.Queue` and its subclasses.
    Queue,
    /// `asyncio.Queue`.
    AsyncioQueue,
    /// `bytearray`, `io.BytesIO` and the like: one buffer.
    Buffer,
}

/// How the owner of a container, or of an object, holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A module's global: `app.cache.SESSIONS`.
    ModuleGlobal,
    /// A class's attribute: `dateparser.languages.dictionary.Dictionary._split_regex_cache`.
    ClassAttribute,
    /// An attribute of instances: `paho.mqtt.client.Client._out_messages`.
    InstanceAttribute,
    /// A local variable of a running function: `local tasks of app.main`.
    FrameLocal,
    /// A variable that a function closes over: `closure seen of app.make_handler`.
    Closure,
    /// The interpreter itself (interned strings, type caches, modules).
    Interpreter,
    /// No object that refers to it was found: a reference lost in native code, or one that native code keeps.
    NoReferrer,
    /// Not found within the bounds.
    #[default]
    Unknown,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// What kind.
    pub kind: ContainerKind,
    /// Its type, `module.QualName`; builtins without a module.
    pub type_name: String,
    /// Its address: the same container in two looks has the same address and owner.
    pub address: u64,
    /// Who holds it, as a person would write it; empty if not found.
    pub owner: String,
    /// How.
    pub holder: Holder,
    /// Elements (bytes of a buffer).
    pub length: u64,
    /// The most that it lets in: `maxsize`, `maxlen`; `None` without a bound.
    pub bound: Option<u64>,
    /// Bytes of the container itself.
    pub space: u64,
    /// Bytes of the container with its elements and what only they hold, as far as that was followed (an estimate from a
    /// sample of the elements).
    pub deep_space: u64,
    /// The type of most of its elements (a dict's values).
    pub element_type: String,
}

/// One `functools.lru_cache` or `functools.cache` wrapper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheRow {
    /// The function, `module.QualName`.
    pub function: String,
    /// Where it was defined: file; empty if not read.
    pub file: String,
    /// Its first line; 0 if not read.
    pub line: u32,
    /// The wrapper's address.
    pub address: u64,
    /// Entries.
    pub currsize: u64,
    /// The most entries; `None` without a bound.
    pub maxsize: Option<u64>,
    /// Calls that were answered from it.
    pub hits: u64,
    /// Calls that were not.
    pub misses: u64,
    /// Bytes of its entries (an estimate from a sample).
    pub deep_space: u64,
}

/// Who keeps objects of one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetainerRow {
    /// The type of the kept objects, `module.QualName`.
    pub type_name: String,
    /// The path to them, as a person would follow it: `paho.mqtt.client.Client._out_messages[...]`.
    pub path: String,
    /// How the path starts.
    pub holder: Holder,
    /// Objects of the sample that are held this way.
    pub sampled: u64,
    /// Objects of the type that the sample stands for: an estimate.
    pub objects: u64,
    /// Bytes of these: an estimate.
    pub space: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(address: u64, owner: &str, kind: ContainerKind) -> ContainerRow {
        ContainerRow { address, owner: owner.to_owned(), kind, ..ContainerRow::default() }
    }

    #[test]
    fn a_container_is_found_again_by_its_address_or_its_owner() {
        use ContainerKind::{Dict, List};
        let rows = [(8, "app.Client.out"), (16, "app.Client.out"), (24, "app.PAGES"), (32, "")];
        let containers = rows.map(|(address, owner)| row(address, owner, Dict)).to_vec();
        let first = ObjectLook { containers, ..ObjectLook::default() };
        let check = |later: ContainerRow, found: Option<u64>| {
            assert_eq!(first.same(&later).map(|row| row.address), found, "{later:?}");
        };
        // The second of several of one owner is not taken for the first.
        check(row(16, "app.Client.out", Dict), Some(16));
        check(row(40, "app.Client.out", Dict), None);
        check(row(40, "app.PAGES", Dict), Some(24));
        check(row(24, "app.PAGES", List), None);
        check(row(40, "", Dict), None);
    }
}
