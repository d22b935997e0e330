//! Maps nodes to the keys of the mapping.

use crate::sources::shared::kv::mapping::Mapping;

/// The topmost node that the source reads.
pub(super) struct Root {
    pub(super) path: String,
    /// The path before the keys of the mapping.
    base: String,
    /// Whether the source reads that node alone.
    pub(super) is_alone: bool,
}

impl Root {
    pub(super) fn of(mapping: &Mapping, chroot: &str) -> Self {
        let path = format!("{chroot}/{}", mapping.path());
        Self {
            path: match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
            base: format!("{chroot}/"),
            is_alone: mapping.is_document(),
        }
    }

    /// The key of a node, if the source reads it.
    pub(super) fn key<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.is_alone && path != self.path {
            return None;
        }
        // The store's own nodes are no configuration, unless the prefix names them.
        let own = path.strip_prefix("/zookeeper");
        if self.path == "/" && own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        path.strip_prefix(self.base.as_str())
    }

    /// The node of a key.
    pub(super) fn node(&self, key: &str) -> String {
        format!("{}{key}", self.base)
    }

    pub(super) fn child(path: &str, name: &str) -> String {
        format!("{}/{name}", path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::zookeeper::KIND;

    #[test]
    fn a_path_is_a_key_below_the_root_and_the_chroot() {
        let root = |mapping: Mapping, chroot: &str| Root::of(&mapping, chroot);
        let app = root(Mapping::prefix(KIND, '/', "app"), "");
        assert_eq!(
            (app.path.as_str(), app.key("/app/a/b")),
            ("/app", Some("app/a/b"))
        );
        let app = root(Mapping::prefix(KIND, '/', "/app/"), "/prod");
        assert_eq!(
            (app.path.as_str(), app.key("/prod/app/a")),
            ("/prod/app", Some("app/a"))
        );
        assert_eq!(app.key("/app/a"), None);
        let all = root(Mapping::prefix(KIND, '/', ""), "");
        assert_eq!((all.path.as_str(), all.key("/a")), ("/", Some("a")));
        assert_eq!(all.key("/zookeeper/quota"), None);
        assert_eq!(all.key("/zookeepers"), Some("zookeepers"));
        let own = root(Mapping::prefix(KIND, '/', "zookeeper"), "");
        assert_eq!(own.key("/zookeeper/config"), Some("zookeeper/config"));
        let one = root(Mapping::document(KIND, '/', "all.toml"), "");
        assert_eq!(one.key("/all.toml"), Some("all.toml"));
        assert_eq!(one.key("/all.toml/below"), None);
        assert_eq!(Root::child("/", "a"), "/a");
        assert_eq!(Root::child("/a", "b"), "/a/b");
    }
}
