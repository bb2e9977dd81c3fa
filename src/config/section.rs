//! A table of the configuration while it is read: takes values by key and notes every error on the way.

use std::cell::RefCell;

use super::error::{ConfigError, Rule};
use super::tree::{Kind, Tree};

/// The errors found so far.
pub(super) type Errors = RefCell<Vec<ConfigError>>;

/// One table, present or not.
#[derive(Clone)]
pub(super) struct Section<'t> {
    entries: &'t [(String, Tree)],
    path: String,
    order: usize,
    /// False if something else than a table stands there, which is noted already.
    sound: bool,
    errors: &'t Errors,
}

/// One value and where it is.
pub(super) struct Field<'t> {
    pub(super) tree: &'t Tree,
    path: String,
    errors: &'t Errors,
}

impl<'t> Section<'t> {
    /// The whole configuration.
    pub(super) fn root(tree: &'t Tree, known: &[&str], errors: &'t Errors) -> Self {
        Field {
            tree,
            path: String::new(),
            errors,
        }
        .table(known)
    }

    fn entry(&self, key: &str) -> Option<&'t Tree> {
        let found = self.entries.iter().find(|(name, _)| name == key);
        found.map(|(_, tree)| tree)
    }

    fn path_of(&self, key: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match (
            self.path.is_empty(),
            key.chars().all(plain) && !key.is_empty(),
        ) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{key:?}"),
            (false, true) => format!("{}.{key}", self.path),
            (false, false) => format!("{}.{key:?}", self.path),
        }
    }

    pub(super) fn field(&self, key: &str) -> Option<Field<'t>> {
        self.entry(key).map(|tree| Field {
            tree,
            path: self.path_of(key),
            errors: self.errors,
        })
    }

    /// Every key and value.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'t str, Field<'t>)> + '_ {
        self.entries.iter().map(|(key, tree)| {
            let path = self.path_of(key);
            let errors = self.errors;
            (key.as_str(), Field { tree, path, errors })
        })
    }

    /// Whether the table is there, and has no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.sound && self.entries.is_empty()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The table at `key`, empty if there is none. Keys that are not `known` are errors.
    pub(super) fn table(&self, key: &str, known: &[&str]) -> Section<'t> {
        match self.field(key) {
            Some(field) => field.table(known),
            None => Section {
                entries: &[],
                path: self.path_of(key),
                order: self.order,
                sound: self.sound,
                errors: self.errors,
            },
        }
    }

    /// The elements of the list at `key`, none if it is absent.
    pub(super) fn list(&self, key: &str) -> Vec<Field<'t>> {
        self.field(key)
            .map(|field| field.list())
            .unwrap_or_default()
    }

    /// The value at `key`, if it is there and right.
    pub(super) fn read<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&Tree) -> Result<T, Rule>,
    ) -> Option<T> {
        self.field(key)?.read(parse)
    }

    /// As [`Section::read`], for a value that no error may show.
    pub(super) fn secret<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&Tree) -> Result<T, Rule>,
    ) -> Option<T> {
        self.field(key)?.secret(parse)
    }

    /// Replaces `target` by the value at `key`, if it is there and right. False if it is there and wrong:
    /// rules that compare it with others then say nothing.
    pub(super) fn set<T>(
        &self,
        target: &mut T,
        key: &str,
        parse: impl FnOnce(&Tree) -> Result<T, Rule>,
    ) -> bool {
        let value = self.read(key, parse);
        let sound = value.is_some() || !self.has(key);
        if let Some(value) = value {
            *target = value;
        }
        sound
    }

    /// Notes that `key` breaks a rule by what else is given; at this table where the key is absent.
    pub(super) fn refuse(&self, key: &str, rule: impl Into<Rule>) {
        match self.field(key) {
            Some(field) => field.refuse(rule),
            None => self.lacks(key, rule),
        }
    }

    /// Notes that `key` is not there.
    pub(super) fn lacks(&self, key: &str, rule: impl Into<Rule>) {
        if self.sound {
            self.note(ConfigError::at(self.path_of(key), rule, self.order));
        }
    }

    /// Notes that this table itself breaks a rule.
    pub(super) fn wrong(&self, rule: impl Into<Rule>) {
        if self.sound {
            self.note(ConfigError::at(self.path.clone(), rule, self.order));
        }
    }

    fn note(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    fn refuse_unknown(&self, known: &[&str]) {
        for (key, field) in self.fields() {
            if !known.contains(&key) {
                field.refuse_unshown(unknown("key", key, known));
            }
        }
    }
}

impl<'t> Field<'t> {
    /// The table that this is; an empty one, and an error, if it is none. Keys that are not `known` are errors.
    pub(super) fn table(&self, known: &[&str]) -> Section<'t> {
        let section = self.open();
        section.refuse_unknown(known);
        section
    }

    /// As [`Field::table`], with any keys.
    pub(super) fn open(&self) -> Section<'t> {
        let (entries, sound) = if let Kind::Table(entries) = &self.tree.kind {
            (entries.as_slice(), true)
        } else {
            self.refuse_kind("a table");
            (&[][..], false)
        };
        Section {
            entries,
            path: self.path.clone(),
            order: self.tree.order,
            sound,
            errors: self.errors,
        }
    }

    /// The elements of the list that this is; none, and an error, if it is not a list.
    pub(super) fn list(&self) -> Vec<Field<'t>> {
        let Kind::List(items) = &self.tree.kind else {
            self.refuse_kind("a list");
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, tree)| Field {
                tree,
                path: format!("{}[{index}]", self.path),
                errors: self.errors,
            })
            .collect()
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.tree.kind, Kind::List(_))
    }

    pub(super) fn read<T>(&self, parse: impl FnOnce(&Tree) -> Result<T, Rule>) -> Option<T> {
        parse(self.tree).map_err(|rule| self.refuse(rule)).ok()
    }

    pub(super) fn secret<T>(&self, parse: impl FnOnce(&Tree) -> Result<T, Rule>) -> Option<T> {
        parse(self.tree)
            .map_err(|rule| self.refuse_unshown(rule))
            .ok()
    }

    /// Notes that the value breaks a rule, and shows it.
    pub(super) fn refuse(&self, rule: impl Into<Rule>) {
        self.note(self.error(rule).showing(self.tree.shown()));
    }

    /// Notes that the value breaks a rule, without showing it.
    pub(super) fn refuse_unshown(&self, rule: impl Into<Rule>) {
        self.note(self.error(rule));
    }

    /// The value is not shown: a secret may stand where a table should.
    fn refuse_kind(&self, wanted: &str) {
        let mut rule = format!("must be {wanted}, not {}", self.tree.noun());
        if matches!(self.tree.kind, Kind::Text(_)) && self.tree.variable.is_some() {
            rule.push_str("; a variable holds it as JSON");
        }
        self.refuse_unshown(rule);
    }

    fn error(&self, rule: impl Into<Rule>) -> ConfigError {
        ConfigError::at(self.path.clone(), rule, self.tree.order).of_variable(self.tree.variable())
    }

    fn note(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }
}

/// Says that there is no such key, and which one was probably meant.
pub(super) fn unknown(what: &str, key: &str, known: &[&str]) -> Rule {
    let key = key.to_lowercase().replace('-', "_");
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&key, known), known))
        .min()
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1));
    match nearest {
        Some((_, nearest)) => format!("unknown {what}; did you mean {nearest:?}?"),
        None if known.is_empty() => format!("unknown {what}"),
        None => format!("unknown {what}; known here: {}", known.join(", ")),
    }
}
