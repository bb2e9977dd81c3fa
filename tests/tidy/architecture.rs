//! ARCHITECTURE.md says where things are; what it names is there.

use std::fs;
use std::path::Path;

use super::{report, root};

/// The names and paths between backticks, in the order of the text.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether the Rust source `text` defines what `name` names: `Type::function`, a function, or a type.
fn defines(text: &str, name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap_or(name);
    let kinds = ["fn", "struct", "enum", "trait", "type"];
    kinds.iter().any(|kind| {
        let start = format!("{kind} {last}");
        text.match_indices(&start).any(|(at, _)| {
            let after = text[at + start.len()..].chars().next();
            after.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    })
}

#[test]
fn what_the_architecture_names_is_where_it_says() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut found = 0;
    let mut findings = Vec::new();
    for line in page.lines() {
        let words = quoted(line);
        for pair in words.windows(2) {
            let (name, path) = (pair[0], pair[1]);
            let is_rust = |word: &str| Path::new(word).extension().is_some_and(|its| its == "rs");
            if name.contains('/') || is_rust(name) || !is_rust(path) {
                continue;
            }
            found += 1;
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            if !defines(&text, name) {
                findings.push(format!("{path} does not define {name}: {line}"));
            }
        }
    }
    assert!(found >= 10, "only {found} names are found");
    report(&findings);
}

#[test]
fn every_module_of_the_library_has_its_line() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut findings = Vec::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !page.contains(&format!("| `src/{name}/` |")) {
                findings.push(format!("src/{name}/ has no line in the table of modules"));
            }
        }
    }
    report(&findings);
}
