//! `arguments = { … }` of a node: what a missing queue is declared with beside its own keys.

use std::collections::BTreeMap;

use super::super::error::Rule;
use super::super::node::Argument;
use super::super::rules;
use super::super::section::Section;
use super::super::tree::{Kind, Tree};

/// The arguments, without those that are wrong, which are noted.
pub(super) fn read(section: &Section<'_>) -> BTreeMap<String, Argument> {
    let mut arguments = BTreeMap::new();
    let Some(table) = section.field("arguments") else {
        return arguments;
    };
    for (name, field) in table.open().fields() {
        if let Err(rule) = rules::queue_argument(name) {
            field.refuse_unshown(rule);
        } else if let Some(value) = field.read(value) {
            arguments.insert(name.to_owned(), value);
        }
    }
    arguments
}

fn value(tree: &Tree) -> Result<Argument, Rule> {
    let rule = || "must be a string, a whole number of 64 bits, or true or false".to_owned();
    match &tree.kind {
        Kind::Text(text) => Ok(Argument::Text(text.clone())),
        Kind::Bool(flag) => Ok(Argument::Flag(*flag)),
        Kind::Integer(number) => i64::try_from(*number)
            .map(Argument::Number)
            .map_err(|_beyond| rule()),
        Kind::Null | Kind::Float(_) | Kind::List(_) | Kind::Table(_) => Err(rule()),
    }
}
