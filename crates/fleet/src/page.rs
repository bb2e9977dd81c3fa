//! The page's files, inside the binary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::http::HeaderValue;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asset {
    /// Its name.
    pub name: &'static str,
    /// Its MIME type.
    pub kind: &'static str,
    /// Its content.
    pub body: &'static [u8],
}

macro_rules! assets {
    ($($name:literal,)*) => {
        /// Every file; a new one is one line.
        const ASSETS: &[Asset] = &[$(Asset {
            name: $name,
            kind: kind($name),
            body: include_bytes!(concat!("page/", $name)),
        },)*];
    };
}

assets! {
    "index.html",
    "app.css",
    "queues.css",
    "rollouts.css",
    "icon.svg",
    "app.js",
    "choices.js",
    "commands.js",
    "dom.js",
    "drains.js",
    "format.js",
    "graphs.js",
    "keys.js",
    "letters.js",
    "list.js",
    "live.js",
    "overview.js",
    "page.js",
    "queue.js",
    "queues.js",
    "rollouts.js",
    "row.js",
    "shared.js",
    "store.js",
    "stream.js",
    "succession.js",
    "theme.js",
    "timeline.js",
    "token.js",
    "watch.js",
    "verdict.js",
    "words.js",
}

/// The MIME type of a file by its name.
const fn kind(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b's', b'v', b'g'] => "image/svg+xml",
        [.., b'.', b'h', b't', b'm', b'l'] => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

impl Asset {
    /// A tag that changes with the content.
    pub(super) fn tag(&self) -> HeaderValue {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        tag.parse().expect("digits are a header's value")
    }
}

/// The file with this name.
pub(super) fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_and_they_are_small() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        let names = std::fs::read_dir(folder).unwrap();
        for name in names.map(|entry| entry.unwrap().file_name()) {
            let name = name.to_string_lossy().into_owned();
            assert!(
                asset(&name).is_some(),
                "{name} is missing in crates/fleet/src/page.rs"
            );
        }
        let bytes: usize = ASSETS.iter().map(|asset| asset.body.len()).sum();
        assert!(bytes < 220 * 1024, "{bytes} bytes");
        for asset in ASSETS {
            assert_ne!(asset.kind, "application/octet-stream", "{}", asset.name);
        }
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.body).unwrap();
            for inline in [
                "<script>",
                " onclick=",
                " style=\"",
                "javascript:",
                "eval(",
                "@import",
            ] {
                assert!(!text.contains(inline), "{} has {inline}", asset.name);
            }
        }
    }
}
