//! Configuration: what a file and the environment say, validated as a whole before any socket opens.
//!
//! A file in TOML, YAML or JSON and the variables `TIDEGATE__SECTION__KEY` over it become one tree of values; a
//! walk over the tree makes [`Settings`] of it, or says everything that is wrong with it at once
//! ([`ConfigErrors`]). A program that is its own configuration builds [`Settings`] in code; the defaults are the
//! same.

use std::fmt;
use std::path::{Path, PathBuf};

use tree::Tree;

mod broker;
mod environment;
mod error;
mod file;
mod fleet;
#[cfg(test)]
mod fuzz;
mod handler;
mod node;
mod read;
mod rules;
mod section;
mod settings;
mod tree;
mod validate;
mod value;

pub use broker::{BrokerSettings, UrlError};
pub use error::{ConfigError, ConfigErrors};
pub use fleet::{FleetSettings, ForwardSettings};
pub(crate) use handler::RESERVED_HEADERS;
pub use handler::{
    ChildPoolSettings, ExecSettings, HandlerSettings, HttpSettings, LogSettings, PoolChannel, Print,
};
pub(crate) use node::default_prefetch;
pub use node::{
    Argument, Binding, DeadLetterSettings, NodeSettings, QueueType, RetrySettings, Slots,
};
pub use settings::{
    DrainSettings, HeartbeatSettings, LogLevel, LogLevelSettings, PoolSettings, Settings,
    StatusSettings, WorkerSettings,
};

/// Who says what handles a node's deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlersFrom {
    /// Every node's `handler` key, as in the `tidegate` binary.
    Configuration,
    /// The program, which registers its own; `handler` may be left out.
    Program,
    /// Nobody, as in the fleet program: it reads no `[[node]]` and no `[pool]`, and there may be none.
    Nobody,
    /// Nobody, and no secret of `[fleet]` is opened: as in commands that need the broker and the two exchanges.
    Command,
}

/// Loads the file, sets the keys over it that `env` names, and validates all of it.
///
/// It reads the files that the configuration names (`url_file`, `password_file`, certificates), and blocks on
/// them. Relative paths start at the working directory. No socket is opened.
///
/// # Errors
/// [`ConfigErrors`] holds everything that is wrong, in the order of the file, and no secret.
pub fn load(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    handlers: HandlersFrom,
) -> Result<Settings, ConfigErrors> {
    ConfigFile::read(path)?.load(env, handlers)
}

/// A file that has been read, and is not yet validated. It is read once only: a pipe gives its text once.
#[doc(hidden)]
pub struct ConfigFile {
    path: PathBuf,
    tree: Tree,
}

impl fmt::Debug for ConfigFile {
    /// Without what the file says, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// Reads the file, and blocks on it.
    ///
    /// # Errors
    /// It cannot be read, or is not what its extension says.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let tree = file::read(path).map_err(|error| ConfigErrors::new(path, vec![error]))?;
        let path = path.to_owned();
        Ok(Self { path, tree })
    }

    /// The file as it is, each of its sections as JSON.
    pub fn sections(&self) -> serde_json::Value {
        self.tree.to_json()
    }

    /// As [`load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(
        self,
        env: impl IntoIterator<Item = (String, String)>,
        handlers: HandlersFrom,
    ) -> Result<Settings, ConfigErrors> {
        let Self { path, mut tree } = self;
        let errors = environment::overlay(&mut tree, env);
        tree.number();
        read::settings(&tree, errors, handlers).map_err(|errors| ConfigErrors::new(&path, errors))
    }
}

/// The sections of a configuration with their keys.
#[doc(hidden)]
pub fn section_keys() -> [(&'static str, &'static [&'static str]); 9] {
    read::section_keys()
}

/// The settings of a worker whose broker and nodes come from elsewhere: of the file, if there is one, all but the
/// section `apart`, which is returned as JSON.
///
/// # Errors
/// As [`load`].
#[doc(hidden)]
pub fn load_apart(
    file: Option<ConfigFile>,
    apart: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Settings, Option<serde_json::Value>), ConfigErrors> {
    let table = || Tree::new(tree::Kind::Table(Vec::new()), None);
    let (name, mut tree) = match file {
        Some(file) => (file.path, file.tree),
        None => ("the environment".into(), table()),
    };
    let wrong = |errors| ConfigErrors::new(&name, errors);
    let mut errors = environment::overlay(&mut tree, env);
    let section = tree.take(apart).map(|section| section.to_json());
    for (key, rule) in [
        ("broker", "comes from discovery, and cannot be set"),
        ("node", "come from discovery, and cannot be set"),
        ("pool", "come from discovery, and cannot be set"),
    ] {
        if tree.take(key).is_some() {
            errors.push(ConfigError::at(key.to_owned(), rule, 0));
        }
    }
    let mut broker = table();
    let url = tree::Kind::Text("amqp://localhost".to_owned());
    broker.put("url", Tree::new(url, None));
    tree.put("broker", broker);
    tree.number();
    let settings = read::settings(&tree, errors, HandlersFrom::Command).map_err(wrong)?;
    Ok((settings, section))
}
