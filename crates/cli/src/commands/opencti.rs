//! Which configurations are about OpenCTI's worker.

use std::path::Path;

use serde_json::Value;

use super::variables;
use tidegate::config::{Settings, load_apart, read_sections};
use tidegate_opencti::settings::{Settings as OpenCti, Sources};

/// The settings that every worker has, and those of OpenCTI's.
pub(super) type OpenCtiSettings = (Settings, OpenCti);

/// The settings of OpenCTI's worker, if the file or the environment is about one.
///
/// # Errors
/// The file cannot be read, or a setting is wrong.
pub(super) fn opencti_settings(config: Option<&Path>) -> anyhow::Result<Option<OpenCtiSettings>> {
    let sections = config.map(read_sections).transpose()?;
    let (own, platform, section) = match (config, sections) {
        (None, _) => {
            let is_set = |name| std::env::var_os(name).is_some();
            if !["OPENCTI_URL", "TIDEGATE__OPENCTI__URL"]
                .into_iter()
                .any(is_set)
            {
                return Ok(None);
            }
            let (own, section) = load_apart(None, "opencti", variables())?;
            (own, None, section)
        }
        (Some(_), Some(sections)) if is_platforms(&sections) => {
            let (own, section) = load_apart(None, "opencti", variables())?;
            (own, Some(sections), section)
        }
        (Some(path), Some(sections)) if sections.get("opencti").is_some() => {
            let (own, section) = load_apart(Some(path), "opencti", variables())?;
            (own, None, section)
        }
        _ => return Ok(None),
    };
    let opencti = OpenCti::read(&Sources {
        environment: &|name| std::env::var(name).ok(),
        platform: platform.as_ref(),
        section: section.as_ref(),
    })?;
    Ok(Some((own, opencti)))
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
