//! Which configurations are about OpenCTI's worker.

use std::path::Path;

use serde_json::Value;

use super::variables;
use tidegate::config::{ConfigFile, Settings, load_apart};
use tidegate_opencti::settings::{Settings as OpenCti, Sources};

/// The settings that every worker has, and those of OpenCTI's.
pub(super) type OpenCtiSettings = (Settings, OpenCti);

/// The kind of worker that a configuration describes.
pub(super) enum Subject {
    /// OpenCTI's worker.
    OpenCti(Box<OpenCtiSettings>),
    /// A worker of the file's nodes. The file has been read, and is not to be read a second time.
    Nodes(ConfigFile),
    /// There is no file, and the environment is not about OpenCTI.
    Nothing,
}

/// The settings of OpenCTI's worker, if the file or the environment is about one.
///
/// # Errors
/// The file cannot be read, or a setting is wrong.
pub(super) fn opencti_settings(config: Option<&Path>) -> anyhow::Result<Option<OpenCtiSettings>> {
    Ok(match subject(config)? {
        Subject::OpenCti(settings) => Some(*settings),
        Subject::Nodes(_) | Subject::Nothing => None,
    })
}

/// The kind of worker that the file describes, or the environment if there is no file. Blocks while it reads the file, once.
///
/// # Errors
/// The file cannot be read, or a setting of OpenCTI's worker is wrong.
pub(super) fn subject(config: Option<&Path>) -> anyhow::Result<Subject> {
    let file = config.map(ConfigFile::read).transpose()?;
    let (own, platform, section) = match file {
        None => {
            let is_set = |name| std::env::var_os(name).is_some();
            if !["OPENCTI_URL", "TIDEGATE__OPENCTI__URL"]
                .into_iter()
                .any(is_set)
            {
                return Ok(Subject::Nothing);
            }
            let (own, section) = load_apart(None, "opencti", variables())?;
            (own, None, section)
        }
        Some(file) => {
            let sections = file.sections();
            if is_platforms(&sections) {
                let (own, section) = load_apart(None, "opencti", variables())?;
                (own, Some(sections), section)
            } else if sections.get("opencti").is_some() {
                let (own, section) = load_apart(Some(file), "opencti", variables())?;
                (own, None, section)
            } else {
                return Ok(Subject::Nodes(file));
            }
        }
    };
    let opencti = OpenCti::read(&Sources {
        environment: &|name| std::env::var(name).ok(),
        platform: platform.as_ref(),
        section: section.as_ref(),
    })?;
    Ok(Subject::OpenCti(Box::new((own, opencti))))
}

/// Recognises the sections of the platform's own `config.yml`: `opencti`, `worker` with its keys, `mq`.
fn is_platforms(sections: &Value) -> bool {
    let Some(table) = sections.as_object() else {
        return false;
    };
    let only_its = table
        .keys()
        .all(|key| ["opencti", "worker", "mq"].contains(&key.as_str()));
    let own_worker = table
        .get("worker")
        .is_some_and(|worker| worker.get("name").is_some() || worker.get("http").is_some());
    let says_more = table.contains_key("mq") || table.contains_key("worker");
    table.contains_key("opencti") && only_its && says_more && !own_worker
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_platforms_file_is_told_from_ours() {
        for (sections, expected) in [
            (
                json!({"opencti": {}, "worker": {"log_level": "info"}}),
                true,
            ),
            (json!({"opencti": {}, "mq": {}}), true),
            (json!({"opencti": {}}), false),
            (json!({"opencti": {}, "worker": {"name": "w"}}), false),
            (json!({"opencti": {}, "drain": {}}), false),
            (json!({"broker": {}, "node": []}), false),
        ] {
            assert_eq!(is_platforms(&sections), expected, "{sections}");
        }
    }
}
