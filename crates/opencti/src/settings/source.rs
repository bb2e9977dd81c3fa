//! Where a setting may stand, and which place wins.

use serde_json::Value;

use super::error::SettingError;

/// Variables of the platform's worker, and the keys that only we have (in lower case).
pub(super) const KEYS: [&str; 43] = [
    "OPENCTI_URL",
    "OPENCTI_TOKEN",
    "OPENCTI_SSL_VERIFY",
    "OPENCTI_JSON_LOGGING",
    "OPENCTI_EXECUTION_POOL_SIZE",
    "OPENCTI_REALTIME_EXECUTION_POOL_SIZE",
    "OPENCTI_REQUESTS_TIMEOUT",
    "OPENCTI_CUSTOM_HEADERS",
    "OPENCTI_MISSING_REF_RETRY_EXPONENTIAL",
    "OPENCTI_MISSING_REF_RETRY_INITIAL_DELAY",
    "OPENCTI_MISSING_REF_RETRY_FACTOR",
    "WORKER_LOG_LEVEL",
    "WORKER_LISTEN_POOL_SIZE",
    "WORKER_LISTEN_API_SSL_VERIFY",
    "WORKER_LISTEN_API_HTTP_PROXY",
    "WORKER_LISTEN_API_HTTPS_PROXY",
    "WORKER_TELEMETRY_ENABLED",
    "WORKER_PROMETHEUS_TELEMETRY_PORT",
    "WORKER_PROMETHEUS_TELEMETRY_HOST",
    "WORKER_OBJECTS_MAX_REFS",
    "MQ_USE_SSL_CA",
    "MQ_USE_SSL_CERT",
    "MQ_USE_SSL_KEY",
    "MQ_USE_SSL_PASSPHRASE",
    "MQ_USE_SSL_REJECT_UNAUTHORIZED",
    "HTTPS_CA_CERTIFICATES",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "token_file",
    "only",
    "except",
    "prefetch",
    "max_body",
    "hold_max",
    "discovery_interval",
    "python",
    "fork",
    "pycti",
    "child_max_requests",
    "child_max_memory",
    "item_timeout",
];

/// The places that settings come from. The environment wins over the platform's file, and that over ours.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The platform's `config.yml`.
    pub platform: Option<&'a Value>,
    /// `[opencti]` of our own file.
    pub section: Option<&'a Value>,
}

/// A value, and where it stands.
pub(super) struct Found {
    pub(super) origin: String,
    pub(super) value: Value,
}

impl Sources<'_> {
    /// The value of a key, if it is set to anything but an empty text.
    pub(super) fn find(&self, key: &str) -> Option<Found> {
        let variables = [
            format!("TIDEGATE__OPENCTI__{}", section_key(key).to_uppercase()),
            key.to_owned(),
            // The proxy variables are usually written in lower case.
            key.to_lowercase(),
        ];
        let is_variable = key.chars().any(char::is_uppercase);
        let is_proxy = key.ends_with("_PROXY") && !key.starts_with("WORKER_");
        let looked_up = match (is_variable, is_proxy) {
            (true, true) => &variables[..],
            (true, false) => &variables[..2],
            (false, _) => &variables[..1],
        };
        let from_environment = looked_up.iter().find_map(|name| {
            let value = (self.environment)(name).filter(|value| !value.trim().is_empty())?;
            Some(Found {
                origin: name.clone(),
                value: value.into(),
            })
        });
        from_environment
            .or_else(|| self.in_platform_file(key))
            .or_else(|| {
                let name = section_key(key);
                Some(Found {
                    origin: format!("opencti.{name}"),
                    value: set(self.section?.get(&name)?)?.clone(),
                })
            })
    }

    fn in_platform_file(&self, key: &str) -> Option<Found> {
        let (section, name) = key.split_once('_')?;
        if !["OPENCTI", "WORKER", "MQ"].contains(&section) {
            return None;
        }
        let (section, name) = (section.to_lowercase(), name.to_lowercase());
        let value = set(self.platform?.get(&section)?.get(&name)?)?;
        Some(Found {
            origin: format!("config.yml: {section}.{name}"),
            value: value.clone(),
        })
    }

    /// Keys of `[opencti]` that nobody knows.
    pub(super) fn unknown(&self) -> Vec<SettingError> {
        let Some(section) = self.section else {
            return Vec::new();
        };
        let Some(section) = section.as_object() else {
            return vec![SettingError {
                key: "opencti".into(),
                value: None,
                rule: "must be a table".into(),
            }];
        };
        let known: Vec<_> = KEYS.iter().map(|key| section_key(key)).collect();
        section
            .keys()
            .filter(|key| !known.contains(key))
            .map(|key| SettingError {
                key: format!("opencti.{key}"),
                value: None,
                rule: unknown_rule(key, &known),
            })
            .collect()
    }
}

fn unknown_rule(key: &str, known: &[String]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .min();
    match near {
        Some((distance, known)) if distance <= 3 => {
            format!("is unknown; did you mean {known:?}?")
        }
        _ => "is unknown".into(),
    }
}

/// A key's name in `[opencti]`: without the prefix that says `opencti` or `worker`, in lower case.
pub(super) fn section_key(key: &str) -> String {
    key.strip_prefix("OPENCTI_")
        .or_else(|| key.strip_prefix("WORKER_"))
        .unwrap_or(key)
        .to_lowercase()
}

fn set(value: &Value) -> Option<&Value> {
    let empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
    (!empty).then_some(value)
}
