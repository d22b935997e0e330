//! Finds the directories to watch so that no change of a path is missed.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::format::Format;
use crate::sorted::SortedMap;
use crate::sources::fs::watch::mailbox::Tag;

/// The most symbolic links of a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// The identity of a directory, independent of its path. The system reuses the numbers of removed directories,
/// so the identity includes the creation time where that is known.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct DirId {
    #[cfg(unix)]
    number: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
    born: Option<std::time::SystemTime>,
}

impl DirId {
    fn of(path: &Path, data: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let _ = path;
            Self {
                number: (data.dev(), data.ino()),
                born: data.created().ok(),
            }
        }
        #[cfg(not(unix))]
        Self {
            path: path.to_path_buf(),
            born: data.created().ok(),
        }
    }

    /// The directory at a path.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let data = std::fs::symlink_metadata(path).ok()?;
        data.is_dir().then(|| Self::of(path, &data))
    }
}

/// The directories to watch, by physical path, and the names to follow in each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reach {
    pub(crate) dirs: SortedMap<PathBuf, Interest>,
}

/// The names to follow in one directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Interest {
    pub(crate) id: DirId,
    names: SortedMap<OsString, Named>,
    new_names: NewNames,
}

/// A followed name.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Named {
    tags: Vec<Tag>,
    /// Whether it is the last name of the path of each tag: a plain file, or missing.
    is_last: bool,
}

/// Which names of new files to follow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum NewNames {
    #[default]
    None,
    /// Those with the extension of a known format.
    KnownFormats,
    /// All except hidden files and the temporary files of editors.
    All,
}

impl NewNames {
    pub(crate) fn matches(self, name: &OsStr) -> bool {
        match self {
            NewNames::None => false,
            NewNames::KnownFormats => {
                !is_temporary(name) && Format::of_path(Path::new(name)).is_some()
            }
            NewNames::All => !is_temporary(name),
        }
    }
}

/// Whether a file is hidden, a back-up or a swap file.
fn is_temporary(name: &OsStr) -> bool {
    const ENDS: [&str; 7] = ["~", ".swp", ".swx", ".bak", ".orig", ".tmp", ".part"];
    let name = name.to_string_lossy();
    name.starts_with(['.', '#']) || ENDS.iter().any(|end| name.ends_with(end))
}

impl Interest {
    /// The tags that an event on `name` concerns, and whether it is the last name of all their paths.
    pub(crate) fn tags<'a>(&'a self, name: &'a OsStr) -> (Vec<&'a OsStr>, bool) {
        match self.names.get(name) {
            Some(named) => (
                named.tags.iter().map(OsString::as_os_str).collect(),
                named.is_last,
            ),
            None if self.new_names.matches(name) => (vec![name], false),
            None => (Vec::new(), false),
        }
    }

    /// The tags that the directory concerns.
    pub(crate) fn all(&self) -> Vec<&OsStr> {
        self.names
            .values()
            .flat_map(|named| &named.tags)
            .map(OsString::as_os_str)
            .collect()
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum End {
    /// To something that exists, under this physical path.
    Here(PathBuf),
    /// To a missing name in a directory that exists.
    Absent(PathBuf),
    /// To nothing: a directory of the path is missing.
    Lost,
    /// The path cannot be followed.
    Broken,
}

impl Reach {
    /// Follows a path and adds each of its directories with the name that is looked up in it. The nearest
    /// existing ancestor of a missing name is the last one.
    pub(crate) fn add(&mut self, path: &Path, tag: &OsStr) -> End {
        match self.walk(path, tag) {
            Ok(end) => end,
            Err(_) => End::Broken,
        }
    }

    fn walk(&mut self, path: &Path, tag: &OsStr) -> io::Result<End> {
        let mut at = PathBuf::new();
        let mut todo = Vec::new();
        push(path, &mut at, &mut todo);
        if at.as_os_str().is_empty() {
            at.push(".");
        }
        let mut id = DirId::of(&at, &std::fs::metadata(&at)?);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                id = DirId::of(&at, &std::fs::metadata(&at)?);
                continue;
            }
            let next = at.join(&name);
            let found = std::fs::symlink_metadata(&next);
            let continues = |data: &Metadata| data.is_symlink() || data.is_dir();
            let is_last = todo.is_empty() && !found.as_ref().is_ok_and(continues);
            self.add_name(&at, &id, name, tag, is_last);
            at = next;
            let data = match found {
                Ok(data) => data,
                Err(error) => {
                    return match error.kind() {
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                            Ok(if todo.is_empty() {
                                End::Absent(at)
                            } else {
                                End::Lost
                            })
                        }
                        _ => Err(error),
                    };
                }
            };
            if data.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other("too many symbolic links"));
                }
                let target = std::fs::read_link(&at)?;
                at.pop();
                if push(&target, &mut at, &mut todo) {
                    id = DirId::of(&at, &std::fs::metadata(&at)?);
                }
            } else if data.is_dir() {
                id = DirId::of(&at, &data);
            } else if !todo.is_empty() {
                return Ok(End::Lost);
            }
        }
        Ok(End::Here(at))
    }

    fn add_name(&mut self, at: &Path, id: &DirId, name: OsString, tag: &OsStr, is_last: bool) {
        let names = &mut self.interest(at, id).names;
        let named = names.get_or_insert_with(name, || Named {
            tags: Vec::new(),
            is_last,
        });
        named.is_last &= is_last;
        if !named.tags.iter().any(|known| known == tag) {
            named.tags.push(tag.to_os_string());
        }
    }

    fn interest(&mut self, at: &Path, id: &DirId) -> &mut Interest {
        self.dirs.get_or_insert_with(at.to_path_buf(), || Interest {
            id: id.clone(),
            names: SortedMap::new(),
            new_names: NewNames::None,
        })
    }

    /// Adds a directory in which new files are followed.
    pub(crate) fn add_new_names(&mut self, dir: &Path, new_names: NewNames) {
        if let Some(id) = DirId::at(dir) {
            self.interest(dir, &id).new_names = new_names;
        }
    }
}

/// Pushes the names of a path on the stack of those to walk, the first on top; returns whether the path starts
/// at a root.
fn push(path: &Path, at: &mut PathBuf, todo: &mut Vec<OsString>) -> bool {
    let mut rooted = false;
    let before = todo.len();
    for part in path.components() {
        match part {
            Component::Prefix(_) | Component::RootDir => {
                if !rooted {
                    at.clear();
                }
                rooted = true;
                at.push(part);
            }
            Component::CurDir => {}
            Component::ParentDir => todo.push(OsString::from("..")),
            Component::Normal(name) => todo.push(name.to_os_string()),
        }
    }
    todo[before..].reverse();
    rooted
}
