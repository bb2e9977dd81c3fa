//! Environment variables that look like configuration and are not. Pure.

use std::fmt;

use tidegate::config::section_keys;

/// Keys that hold a table or a list: a variable may go on after them.
const NESTED: [&str; 8] = [
    "forward",
    "hosts",
    "retry",
    "delayed_retry",
    "dead_letter",
    "handler",
    "bind",
    "arguments",
];

/// A variable that nothing reads, and the one that was likely meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misspelt {
    /// The variable.
    pub name: String,
    /// The variable that was likely meant.
    pub meant: String,
    /// The section that it is about.
    pub section: &'static str,
}

impl Misspelt {
    /// Whether it is ignored even if there is a configuration file. With a file every variable that begins with
    /// `TIDEGATE__` is read, and an unknown key is an error.
    pub(crate) fn is_silent(&self) -> bool {
        let read = "TIDEGATE__";
        let begin = self.name.get(..read.len());
        begin.is_none_or(|begin| !begin.eq_ignore_ascii_case(read))
    }
}

impl fmt::Display for Misspelt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, meant, .. } = self;
        write!(
            f,
            "nothing reads the environment variable {name}; did you mean {meant}?"
        )
    }
}

/// The variables whose section and key are those of a setting, or differ from them by one letter, and which are not
/// written as `TIDEGATE__SECTION__KEY`.
pub(crate) fn misspelt_variables(names: impl IntoIterator<Item = String>) -> Vec<Misspelt> {
    let misspelt = |name: String| {
        let (section, meant) = meant(&name)?;
        let is_right = meant.eq_ignore_ascii_case(&name);
        (!is_right).then_some(Misspelt {
            name,
            meant,
            section,
        })
    };
    names.into_iter().filter_map(misspelt).collect()
}

/// The section and the variable that was likely meant, which may be the variable itself.
fn meant(name: &str) -> Option<(&'static str, String)> {
    let lower = name.to_ascii_lowercase();
    let rest = lower.strip_prefix("tidegate_")?;
    let parts: Vec<&str> = rest.split('_').filter(|part| !part.is_empty()).collect();
    let (first, rest) = parts.split_first()?;
    let sections = section_keys();
    let named = |near: fn(&str, &str) -> bool| {
        let found = sections.iter().find(|(section, _)| near(section, first));
        found.copied()
    };
    let (section, keys) = named(|one, other| one == other).or_else(|| named(is_near))?;
    // A node's number and a pool's name stand before the key.
    let (place, rest) = match section {
        "node" => {
            let (number, rest) = rest.split_first()?;
            number.parse::<usize>().ok()?;
            (format!("{number}__"), rest)
        }
        "pool" => {
            let (_, before) = rest.split_last()?;
            if before.is_empty() {
                return None;
            }
            (format!("{}__", before.join("_")), &rest[before.len()..])
        }
        _ => (String::new(), rest),
    };
    let key = key(&rest.join("_"), keys)?;
    let variable = format!("{section}__{place}{key}").to_ascii_uppercase();
    Some((section, format!("TIDEGATE__{variable}")))
}

/// The key that `rest` names, as a variable spells it.
fn key(rest: &str, keys: &[&str]) -> Option<String> {
    let exact = keys.iter().find(|key| **key == rest);
    if let Some(key) = exact.or_else(|| keys.iter().find(|key| is_near(key, rest))) {
        return Some((*key).to_owned());
    }
    keys.iter()
        .filter(|key| NESTED.contains(key))
        .find_map(|key| {
            let inner = rest.strip_prefix(key)?.strip_prefix('_')?;
            Some(format!("{key}__{inner}"))
        })
}

/// Whether the words differ by one letter. Words of fewer than three letters never count as near.
fn is_near(word: &str, other: &str) -> bool {
    let (word, other) = (word.as_bytes(), other.as_bytes());
    let (short, long) = if word.len() <= other.len() {
        (word, other)
    } else {
        (other, word)
    };
    if short.len() < 3 || long.len() - short.len() > 1 {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let skip = usize::from(short.len() == long.len());
    short[(same + skip).min(short.len())..] == long[(same + 1).min(long.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Vec<String> {
        let misspelt = misspelt_variables(names.iter().map(|name| (*name).to_owned()));
        misspelt.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("TIDEGATE_BROKER_URL", "TIDEGATE__BROKER__URL"),
            ("TIDEGATE_BROKER_URI", "TIDEGATE__BROKER__URL"),
            ("TIDEGATE__BROKER__URI", "TIDEGATE__BROKER__URL"),
            ("TIDEGATE__BROKERS__URL", "TIDEGATE__BROKER__URL"),
            ("Tidegate__Broker_Url", "TIDEGATE__BROKER__URL"),
            ("TIDEGATE_DRAIN__GRACE", "TIDEGATE__DRAIN__GRACE"),
            ("TIDEGATE_LOG_LEVEL", "TIDEGATE__LOG__LEVEL"),
            (
                "TIDEGATE_BROKER_PASSWORD_FILE",
                "TIDEGATE__BROKER__PASSWORD_FILE",
            ),
            (
                "TIDEGATE_POOL_SLOW_ONES_SLOTS",
                "TIDEGATE__POOL__SLOW_ONES__SLOTS",
            ),
            ("TIDEGATE_NODE_0_QUEUE", "TIDEGATE__NODE__0__QUEUE"),
            ("TIDEGATE_NODE_0_RETRY_MAX", "TIDEGATE__NODE__0__RETRY__MAX"),
        ] {
            let expected =
                format!("nothing reads the environment variable {name}; did you mean {meant}?");
            assert_eq!(said(&["PATH", name]), [expected]);
        }
    }

    #[test]
    fn configuration_and_other_variables_are_left_alone() {
        let right = [
            "TIDEGATE__BROKER__URL",
            "tidegate__broker__url",
            "TIDEGATE__BROKER__HOSTS__0",
            "TIDEGATE__NODE__0__QUEUE",
            "TIDEGATE__POOL__SLOW__SLOTS",
            "TIDEGATE__FLEET__FORWARD__URL",
            "TIDEGATE_LOG",
            "TIDEGATE_LOG_FORMAT",
            "TIDEGATE_CONFIG",
            "TIDEGATE_QUEUE",
            "TIDEGATE_BROKER",
            // Kubernetes sets these for a service of that name.
            "TIDEGATE_FLEET_SERVICE_HOST",
            "TIDEGATE_FLEET_SERVICE_PORT",
            "TIDEGATE_FLEET_SERVICE_PORT_HTTP",
            "TIDEGATE_FLEET_PORT",
            "TIDEGATE_FLEET_PORT_8080_TCP",
            "TIDEGATE_FLEET_PORT_8080_TCP_ADDR",
            "TIDEGATE_BROKER_PORT",
            "TIDEGATE_BROKER_SERVICE_HOST",
            "TIDEGATE_WORKER_PORT_8079_TCP_PROTO",
        ];
        assert!(said(&right).is_empty(), "{:?}", said(&right));
    }
}
