//! Which directories must be watched so that no change of a path goes unseen.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::format::Format;
use crate::sources::fs::watch::mailbox::Tag;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Which directory it is, whatever it is called. Numbers of removed directories are used again, so
/// the time of birth belongs to it where it is known.
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

    /// The directory that stands at a path now.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let data = std::fs::symlink_metadata(path).ok()?;
        data.is_dir().then(|| Self::of(path, &data))
    }
}

/// The directories to watch, by physical path, and what matters in each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reach {
    pub(crate) dirs: BTreeMap<PathBuf, Interest>,
}

/// What matters in one directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Interest {
    pub(crate) id: DirId,
    names: BTreeMap<OsString, Named>,
    every: Every,
}

/// What a name means to those who follow it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Named {
    tags: Vec<Tag>,
    /// Whether the path of each of them ended here: in something that led nowhere else, or in
    /// nothing.
    last: bool,
}

/// Whether names that nobody knows yet matter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Every {
    #[default]
    No,
    /// Those with the extension of a known format.
    Known,
    /// All that do not look like an editor's leavings.
    Any,
}

impl Every {
    pub(crate) fn takes(self, name: &OsStr) -> bool {
        match self {
            Every::No => false,
            Every::Known => !foreign(name) && Format::of_path(Path::new(name)).is_some(),
            Every::Any => !foreign(name),
        }
    }
}

/// Whether a file in a directory of fragments is hidden, a back-up or a swap file.
fn foreign(name: &OsStr) -> bool {
    const ENDS: [&str; 7] = ["~", ".swp", ".swx", ".bak", ".orig", ".tmp", ".part"];
    let name = name.to_string_lossy();
    name.starts_with(['.', '#']) || ENDS.iter().any(|end| name.ends_with(end))
}

impl Interest {
    /// Whom an event on `name` concerns, and whether nothing but their last names can have changed.
    pub(crate) fn tags<'a>(&'a self, name: &'a OsStr) -> (Vec<&'a OsStr>, bool) {
        match self.names.get(name) {
            Some(named) => (
                named.tags.iter().map(OsString::as_os_str).collect(),
                named.last,
            ),
            None if self.every.takes(name) => (vec![name], false),
            None => (Vec::new(), false),
        }
    }

    /// Whom the directory as a whole concerns.
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
    /// To a name that is not there, in a directory that is.
    Absent(PathBuf),
    /// To nothing: a directory on the way is missing.
    Lost,
    /// Nobody can tell.
    Broken,
}

impl Reach {
    /// Follows a path hop by hop and adds each directory on the way with the name that is looked
    /// up in it. When something is missing, the nearest existing ancestor is the last.
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
            let place = at.join(&name);
            let found = std::fs::symlink_metadata(&place);
            let on = |data: &Metadata| data.is_symlink() || data.is_dir();
            let last = todo.is_empty() && !found.as_ref().is_ok_and(on);
            self.note(&at, &id, name, tag, last);
            at = place;
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

    fn note(&mut self, at: &Path, id: &DirId, name: OsString, tag: &OsStr, last: bool) {
        let names = &mut self.interest(at, id).names;
        let named = names.entry(name).or_insert_with(|| Named {
            tags: Vec::new(),
            last,
        });
        named.last &= last;
        if !named.tags.iter().any(|known| known == tag) {
            named.tags.push(tag.to_os_string());
        }
    }

    fn interest(&mut self, at: &Path, id: &DirId) -> &mut Interest {
        self.dirs
            .entry(at.to_path_buf())
            .or_insert_with(|| Interest {
                id: id.clone(),
                names: BTreeMap::new(),
                every: Every::No,
            })
    }

    /// Adds a directory in which names that nobody knows yet matter.
    pub(crate) fn every(&mut self, dir: &Path, every: Every) {
        if let Some(id) = DirId::at(dir) {
            self.interest(dir, &id).every = every;
        }
    }
}

/// Puts the parts of a path on the stack of what is still to walk, the first on top; says whether
/// it begins anew at a root.
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
