//! Looking things up in YAML.

use yaml_rust2::Yaml;

/// The value at `key`, also if it comes from a merge key (`<<: *base`); `None` if absent or null.
pub(super) fn get<'a>(yaml: &'a Yaml, key: &str) -> Option<&'a Yaml> {
    let map = yaml.as_hash()?;
    let found = map.get(&Yaml::String(key.to_owned())).or_else(|| {
        let merged = map.get(&Yaml::String("<<".to_owned()))?;
        match merged.as_vec() {
            Some(bases) => bases.iter().find_map(|base| get(base, key)),
            None => get(merged, key),
        }
    })?;
    (!found.is_null()).then_some(found)
}

/// The value at the end of `keys`.
pub(super) fn path<'a>(yaml: &'a Yaml, keys: &[&str]) -> Option<&'a Yaml> {
    keys.iter().try_fold(yaml, |yaml, key| get(yaml, key))
}

/// The text at `key`, or an empty one.
pub(super) fn text<'a>(yaml: &'a Yaml, key: &str) -> &'a str {
    get(yaml, key).and_then(Yaml::as_str).unwrap_or_default()
}

/// The words of a command, written as one string or as a list.
pub(super) fn words<'a>(yaml: &'a Yaml, key: &str) -> Vec<&'a str> {
    match get(yaml, key) {
        Some(Yaml::String(line)) => line.split_whitespace().collect(),
        Some(Yaml::Array(items)) => items
            .iter()
            .filter_map(Yaml::as_str)
            .flat_map(str::split_whitespace)
            .collect(),
        _ => Vec::new(),
    }
}

/// A value as it was written, for messages.
pub(super) fn shown(yaml: &Yaml) -> String {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(value) => value.to_string(),
        _ => "not a single value".to_owned(),
    }
}
