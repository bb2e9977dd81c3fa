//! What stands where: directions of imports, lengths of functions.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, report, rust};

/// Lines that a function outside tests may have.
const FUNCTION_LIMIT: usize = 70;

/// What each pure module of the library may import from the others. None of them knows the broker layer.
const PURE: [(&str, &[&str]); 5] = [
    ("delivery", &[]),
    ("lifecycle", &[]),
    ("process", &["own_runtime"]),
    ("retry", &["config", "delivery", "handler", "time"]),
    ("settlement", &["config", "delivery", "handler", "retry"]),
];

/// The module of the library that a file belongs to.
fn module(file: &File) -> Option<&str> {
    let path = file.path.strip_prefix("src/")?;
    let name = path.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name))
}

/// For each module of the library, the others that it imports outside tests, with a file that does so.
fn imports(files: &[File]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for file in files {
        let Some(from) = module(file).filter(|name| !["lib", "internal"].contains(name)) else {
            continue;
        };
        for (_, line, testing) in file.code() {
            for rest in line.split("crate::").skip(1).filter(|_| !testing) {
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                let to = &rest[..end.unwrap_or(rest.len())];
                if to != from && !to.is_empty() {
                    let files = all.entry(from.to_owned()).or_default();
                    files.entry(to.to_owned()).or_insert(file.path.clone());
                }
            }
        }
    }
    all
}

/// The modules that `from` reaches by imports.
fn reached(from: &str, all: &BTreeMap<String, BTreeMap<String, String>>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for to in all.get(&module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    seen
}

#[test]
fn no_module_of_the_library_imports_itself_by_a_detour() {
    let all = imports(&rust());
    assert!(all.contains_key("worker"), "the imports are not found");
    let circles = all
        .keys()
        .filter(|module| reached(module, &all).contains(*module));
    let findings: Vec<String> = circles
        .map(|module| {
            format!(
                "src/{module} is part of a circle: it imports {:?}",
                all[module]
            )
        })
        .collect();
    report(&findings);
}

#[test]
fn pure_modules_import_only_pure_modules() {
    let all = imports(&rust());
    let mut findings = Vec::new();
    for (module, allowed) in PURE {
        for (to, file) in all.get(module).into_iter().flatten() {
            if !allowed.contains(&to.as_str()) {
                findings.push(format!("{file}: src/{module} must not import src/{to}"));
            }
        }
    }
    report(&findings);
}

#[test]
fn packages_import_in_one_direction() {
    let forbidden = [
        ("src/", "tidegate_fleet"),
        ("src/", "tidegate_opencti"),
        ("crates/fleet/", "tidegate_opencti"),
        ("crates/opencti/", "tidegate_fleet"),
    ];
    let mut findings = Vec::new();
    for file in rust() {
        for (folder, package) in forbidden {
            let found = file
                .code()
                .find(|(_, line, _)| file.under(folder) && line.contains(package));
            if let Some((number, _, _)) = found {
                findings.push(format!("{}:{number}: imports {package}", file.path));
            }
        }
    }
    report(&findings);
}

/// The name of the function that begins on this line, and the line's indentation.
fn function(line: &str) -> Option<(&str, &str)> {
    let code = line.trim_start();
    let indentation = &line[..line.len() - code.len()];
    let (before, after) = code.split_once("fn ")?;
    let is_start = before.split_whitespace().all(|word| {
        ["const", "async", "unsafe"].contains(&word)
            || word.starts_with("pub")
            || word.ends_with(')')
    });
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_start && end > 0).then(|| (&after[..end], indentation))
}

#[test]
fn no_function_is_too_long_to_read() {
    let mut findings = Vec::new();
    let mut count = 0;
    for file in rust() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line, testing) in file.code() {
            let Some((name, indentation)) = function(line).filter(|_| !testing) else {
                continue;
            };
            count += 1;
            let end = format!("{indentation}}}");
            let body = lines[number - 1..].iter();
            let length = body.take_while(|line| **line != end).count() + 1;
            // A trait's method may have no body: its declaration ends with a semicolon before a brace opens one.
            let mut declaration = lines[number - 1..].iter();
            let last = declaration.find(|line| line.ends_with('{') || line.ends_with(';'));
            let is_declared = last.is_some_and(|line| line.ends_with(';'));
            if length > FUNCTION_LIMIT && !is_declared {
                findings.push(format!("{}:{number}: {name} has {length} lines", file.path));
            }
        }
    }
    assert!(count > 500, "only {count} functions are found");
    report(&findings);
}
