//! The options of every store.

/// Defines methods of a store's builder that change its `mapping`, `endpoints` and `tls` by its `edit`. The
/// store passes the sentences that differ.
macro_rules! shared_options {
    (
        port: $port:literal,
        locator: $locator:literal,
        ca: $ca:literal,
        client_certificate: $client:literal $(,)?
    ) => {
        #[doc = $locator]
        ///
        /// Health and explanations show where each part was found. A locator without a default port uses
        /// that of the store.
        #[must_use]
        pub fn locator(self, locator: $crate::sources::shared::kv::locator::Locator) -> Self {
            let endpoints =
                $crate::sources::shared::kv::endpoints::Endpoints::found_by(locator.or_port($port));
            self.edit(|options| options.endpoints = endpoints)
        }

        #[doc = $ca]
        #[must_use]
        pub fn ca(self, path: impl Into<std::path::PathBuf>) -> Self {
            let path = $crate::sources::fs::watch::absolute(&path.into());
            self.edit(|options| options.tls.ca = Some(path))
        }

        #[doc = $client]
        #[must_use]
        pub fn client_certificate(
            self,
            chain: impl Into<std::path::PathBuf>,
            key: impl Into<std::path::PathBuf>,
        ) -> Self {
            let absolute = $crate::sources::fs::watch::absolute;
            let files = (absolute(&chain.into()), absolute(&key.into()));
            self.edit(|options| options.tls.client = Some(files))
        }

        /// Sets the format of a [`document`](Self::document).
        #[must_use]
        pub fn format(self, format: $crate::format::Format) -> Self {
            self.edit(|options| options.mapping.set_format(format))
        }

        /// Reads a key below the prefix as a document, which becomes a subtree.
        ///
        /// The subtree has the name of the key, without an extension that names the format:
        /// `limits.toml` becomes `limits`. The document wins over single keys above and inside it; each of
        /// those is reported as a problem as long as both exist.
        #[must_use]
        pub fn as_document(self, key: impl AsRef<str>, format: $crate::format::Format) -> Self {
            self.edit(|options| options.mapping.add_document(key.as_ref(), format))
        }
    };
}
pub(crate) use shared_options;
