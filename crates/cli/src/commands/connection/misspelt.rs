//! Environment variables that look like configuration and are not. Pure.

/// The sections of a configuration, as variables name them.
const SECTIONS: [&str; 7] = [
    "BROKER",
    "WORKER",
    "DRAIN",
    "HEARTBEAT",
    "STATUS",
    "NODE",
    "FLEET",
];
/// A sentence for each variable that has one underscore where configuration has two, so that nothing reads it.
pub(crate) fn misspelt_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let sentence = |name: String| {
        let meant = meant(&name)?;
        Some(format!(
            "nothing reads the environment variable {name}; did you mean {meant}?"
        ))
    };
    names.into_iter().filter_map(sentence).collect()
}

/// The variable that was likely meant.
fn meant(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let rest = upper.strip_prefix("TIDEGATE_")?;
    let has_two = rest.starts_with('_');
    let rest = rest.trim_start_matches('_');
    let section = SECTIONS.iter().find(|section| {
        let after = rest.strip_prefix(**section);
        after.is_some_and(|after| after.starts_with('_'))
    })?;
    let key = rest[section.len()..].trim_start_matches('_');
    let right = has_two && rest[section.len()..].starts_with("__");
    (!right && !key.is_empty()).then(|| format!("TIDEGATE__{section}__{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Vec<String> {
        misspelt_variables(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn a_variable_with_too_few_underscores_is_named_with_the_one_that_was_meant() {
        let expected = "nothing reads the environment variable TIDEGATE_BROKER_URL; did you mean \
                        TIDEGATE__BROKER__URL?";
        assert_eq!(said(&["PATH", "TIDEGATE_BROKER_URL"]), [expected]);
        assert_eq!(
            said(&["TIDEGATE__BROKER_URL", "TIDEGATE_DRAIN__GRACE"]).len(),
            2
        );
    }

    #[test]
    fn configuration_and_other_variables_are_left_alone() {
        let right = [
            "TIDEGATE__BROKER__URL",
            "TIDEGATE__NODE__0__QUEUE",
            "TIDEGATE_LOG",
            "TIDEGATE_CONFIG",
            "TIDEGATE_QUEUE",
            "TIDEGATE_BROKER",
        ];
        assert!(said(&right).is_empty(), "{:?}", said(&right));
    }
}
