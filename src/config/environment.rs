//! The environment over the file: `TIDEGATE__NODE__0__RETRY__MAX` sets `node[0].retry.max`.

use std::cmp::Ordering;
use std::sync::Arc;

use super::error::ConfigError;
use super::tree::{Kind, Tree};

const PREFIX: &str = "TIDEGATE__";

/// The tables whose keys a user invents: a number there is a name, and a value there is text, never JSON.
const FREE: [&str; 2] = ["headers", "env"];

/// Errors of variables come after those of the file.
const LAST: usize = usize::MAX;

/// One variable that sets a key.
struct Setting {
    variable: Arc<str>,
    /// The name's parts after the prefix, as they were written.
    parts: Vec<String>,
    value: String,
}

/// Sets every key that a variable names, and returns what is wrong with the variables.
///
/// The case of a variable's name does not matter, except in the names of an `exec` handler's own variables.
pub(super) fn overlay(
    tree: &mut Tree,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<ConfigError> {
    let mut settings: Vec<Setting> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let prefix = name.get(..PREFIX.len())?;
            prefix.eq_ignore_ascii_case(PREFIX).then(|| Setting {
                parts: name[PREFIX.len()..]
                    .split("__")
                    .map(str::to_owned)
                    .collect(),
                variable: name.into(),
                value,
            })
        })
        .collect();
    // A list grows by its next element only, and a whole table comes before its single keys.
    settings.sort_by(|a, b| by_place(&a.parts, &b.parts).then_with(|| a.variable.cmp(&b.variable)));
    settings
        .into_iter()
        .filter_map(|setting| {
            let Setting {
                variable,
                parts,
                value,
            } = setting;
            if parts.iter().any(String::is_empty) {
                let rule = "has an empty part; write TIDEGATE__SECTION__KEY";
                return Some(ConfigError::at(variable.to_string(), rule, LAST));
            }
            let leaf = leaf(&parts, value, &variable);
            let refused = place(tree, &parts, leaf, &Place::default(), &variable).err()?;
            let key = refused.key;
            Some(ConfigError::at(key, refused.rule, LAST).of_variable(Some(&variable)))
        })
        .collect()
}

fn by_place(a: &[String], b: &[String]) -> Ordering {
    let part = |a: &String, b: &String| match (a.parse::<usize>(), b.parse::<usize>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()),
    };
    let differing = a.iter().zip(b).map(|(a, b)| part(a, b));
    differing
        .into_iter()
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// A value as text, or the list or table that it is in JSON.
fn leaf(parts: &[String], value: String, variable: &Arc<str>) -> Tree {
    let parent = parts.iter().rev().nth(1);
    let free =
        parent.is_some_and(|parent| FREE.iter().any(|free| parent.eq_ignore_ascii_case(free)));
    if !free
        && value.trim_start().starts_with(['[', '{'])
        && let Ok(json) = serde_json::from_str(&value)
    {
        return Tree::of_json(json, variable);
    }
    Tree::new(Kind::Text(value), Some(Arc::clone(variable)))
}

/// The result of the parts so far.
#[derive(Default)]
struct Place {
    key: String,
    /// The name of the table or list that is here.
    name: String,
}

impl Place {
    fn child(&self, name: &str) -> Self {
        let key = if self.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.key)
        };
        Self {
            key,
            name: name.to_owned(),
        }
    }

    fn element(&self, index: usize) -> Self {
        Self {
            key: format!("{}[{index}]", self.key),
            name: String::new(),
        }
    }

    /// The key for the part `part` of a variable's name.
    fn spelling(&self, part: &str) -> String {
        if self.name == "env" {
            part.to_owned()
        } else {
            part.to_ascii_lowercase()
        }
    }
}

struct Refused {
    key: String,
    rule: String,
}

fn place(
    at: &mut Tree,
    parts: &[String],
    leaf: Tree,
    here: &Place,
    variable: &Arc<str>,
) -> Result<(), Refused> {
    let Some((part, rest)) = parts.split_first() else {
        if at
            .variable
            .as_ref()
            .is_some_and(|other| other.eq_ignore_ascii_case(variable))
        {
            let rule = "is set by two variables whose names differ in case only".into();
            let key = here.key.clone();
            return Err(Refused { key, rule });
        }
        *at = leaf;
        return Ok(());
    };
    if matches!(at.kind, Kind::Null) {
        let names = here.name == "pool" || FREE.contains(&here.name.as_str());
        at.kind = if !names && part.parse::<usize>().is_ok() {
            Kind::List(Vec::new())
        } else {
            Kind::Table(Vec::new())
        };
        at.variable = Some(Arc::clone(variable));
    }
    let fresh = || Tree::new(Kind::Null, None);
    match &mut at.kind {
        Kind::Table(entries) => {
            let known = |(key, _): &(String, Tree)| {
                key == part || (here.name != "env" && key.eq_ignore_ascii_case(part))
            };
            let index = entries.iter().position(known).unwrap_or_else(|| {
                entries.push((here.spelling(part), fresh()));
                entries.len() - 1
            });
            let (key, value) = &mut entries[index];
            place(value, rest, leaf, &here.child(key), variable)
        }
        Kind::List(items) => {
            let Ok(index) = part.parse::<usize>() else {
                let rule = format!("{} is a list: its elements are numbered, from 0", here.key);
                let key = here.child(&part.to_ascii_lowercase()).key;
                return Err(Refused { key, rule });
            };
            let there = here.element(index);
            if index > items.len() {
                let rule = format!("the next element is number {}", items.len());
                return Err(Refused {
                    key: there.key,
                    rule,
                });
            }
            if index == items.len() {
                items.push(fresh());
            }
            place(&mut items[index], rest, leaf, &there, variable)
        }
        Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) => {
            let rule = format!("{} is {}, which has no keys", here.key, at.noun());
            let key = here.child(&part.to_ascii_lowercase()).key;
            Err(Refused { key, rule })
        }
    }
}
