//! The configuration as it was given: a tree of values that remember where they came from.
//!
//! There is no `Debug` here on purpose: the tree holds secrets.

use std::sync::Arc;

use ::config::{Value, ValueKind};

/// Longest value, in characters, that an error shows in full.
const SHOWN: usize = 80;

/// One value.
pub(super) struct Tree {
    pub(super) kind: Kind,
    /// The environment variable that set it.
    pub(super) variable: Option<Arc<str>>,
    /// Its place in the configuration, once [`Tree::number`] has counted.
    pub(super) order: usize,
}

/// The kind of a value.
pub(super) enum Kind {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    /// In the order of the file.
    Table(Vec<(String, Tree)>),
}

impl Tree {
    pub(super) fn new(kind: Kind, variable: Option<Arc<str>>) -> Self {
        Self {
            kind,
            variable,
            order: 0,
        }
    }

    /// The tree of what a file says.
    pub(super) fn of_file(value: Value) -> Self {
        let kind = match value.kind {
            ValueKind::Nil => Kind::Null,
            ValueKind::Boolean(value) => Kind::Bool(value),
            ValueKind::I64(value) => Kind::Integer(value.into()),
            ValueKind::U64(value) => Kind::Integer(value.into()),
            ValueKind::I128(value) => Kind::Integer(value),
            // Beyond every bound that a key has, so which number it is matters to no rule.
            ValueKind::U128(value) => Kind::Integer(i128::try_from(value).unwrap_or(i128::MAX)),
            ValueKind::Float(value) => Kind::Float(value),
            ValueKind::String(value) => Kind::Text(value),
            ValueKind::Array(items) => Kind::List(items.into_iter().map(Self::of_file).collect()),
            ValueKind::Table(entries) => Kind::Table(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, Self::of_file(value)))
                    .collect(),
            ),
        };
        Self::new(kind, None)
    }

    /// The tree of a list or table that a variable holds as JSON.
    pub(super) fn of_json(value: serde_json::Value, variable: &Arc<str>) -> Self {
        use serde_json::Value as Json;
        let kind = match value {
            Json::Null => Kind::Null,
            Json::Bool(value) => Kind::Bool(value),
            Json::Number(number) => match number.as_i128() {
                Some(value) => Kind::Integer(value),
                None => Kind::Float(number.as_f64().unwrap_or(f64::MAX)),
            },
            Json::String(value) => Kind::Text(value),
            Json::Array(items) => Kind::List(
                items
                    .into_iter()
                    .map(|item| Self::of_json(item, variable))
                    .collect(),
            ),
            Json::Object(entries) => Kind::Table(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, Self::of_json(value, variable)))
                    .collect(),
            ),
        };
        Self::new(kind, Some(Arc::clone(variable)))
    }

    /// The value as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.kind {
            Kind::Null => Json::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Integer(value) => i64::try_from(*value)
                .map_or_else(|_beyond| value.to_string().into(), serde_json::Value::from),
            Kind::Float(value) => (*value).into(),
            Kind::Text(value) => value.as_str().into(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Table(entries) => entries
                .iter()
                .map(|(key, value)| (key.clone(), value.to_json()))
                .collect(),
        }
    }

    /// Takes an entry out of a table.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        let Kind::Table(entries) = &mut self.kind else {
            return None;
        };
        let place = entries.iter().position(|(name, _)| name == key)?;
        Some(entries.remove(place).1)
    }

    /// Puts an entry at the end of a table.
    pub(super) fn put(&mut self, key: &str, value: Self) {
        if let Kind::Table(entries) = &mut self.kind {
            entries.push((key.to_owned(), value));
        }
    }

    /// Counts the values through, in the order of the file.
    pub(super) fn number(&mut self) {
        self.number_from(0);
    }

    fn number_from(&mut self, order: usize) -> usize {
        self.order = order;
        let next = order + 1;
        match &mut self.kind {
            Kind::List(items) => items
                .iter_mut()
                .fold(next, |next, item| item.number_from(next)),
            Kind::Table(entries) => entries
                .iter_mut()
                .fold(next, |next, (_, value)| value.number_from(next)),
            Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) => next,
        }
    }

    /// What it is, in words.
    pub(super) fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "true or false",
            Kind::Integer(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }

    /// The value for an error: scalars as they were given, shortened; never what a list or table holds.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            Kind::Null => "null".into(),
            Kind::Bool(value) => value.to_string(),
            Kind::Integer(value) => value.to_string(),
            Kind::Float(value) => format!("{value:?}"),
            Kind::Text(value) => match value.char_indices().nth(SHOWN) {
                None => format!("{value:?}"),
                Some((end, _)) => format!("{:?}…", &value[..end]),
            },
            Kind::List(_) => "[…]".into(),
            Kind::Table(_) => "{…}".into(),
        }
    }

    /// The name of the variable that set it.
    pub(super) fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }
}
