//! The project's habits as far as a program can check them: sizes, names, boundaries, promises in the docs.
//! What the compiler and clippy check already is not repeated here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod structure;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Lines a Rust file may have, its tests included.
const FILE_LIMIT: usize = 400;
/// Module names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "common", "helper", "helpers", "manager", "misc", "types", "util", "utils",
];
/// Folders with text that the project's people wrote.
const FOLDERS: [&str; 10] = [
    "src", "crates", "tests", "benches", "examples", "fuzz", "scripts", "config", "docs", ".ci",
];
/// Folders inside those that tools fill.
const GENERATED: [&str; 3] = ["target", "corpus", "__pycache__"];

/// A file's path from the repository's root, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|its| its == extension)
    }

    /// Its lines with their numbers, without comments, and whether each belongs to tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let mut testing = self.under("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs");
        let lines = self.text.lines().enumerate();
        lines.filter_map(move |(index, line)| {
            testing |= line.trim_start().starts_with("#[cfg(test)]");
            (!line.trim_start().starts_with("//")).then_some((index + 1, line, testing))
        })
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn collect(folder: &Path, into: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !GENERATED.contains(&name.as_str()) {
                collect(&path, into);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            into.push(File { path, text });
        }
    }
}

/// Every text file of the project.
fn files() -> Vec<File> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut all);
    }
    for name in fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
    {
        let path = name.to_string_lossy().into_owned();
        // `.git` is a file in a linked work tree.
        if path != ".git"
            && let Ok(text) = fs::read_to_string(root().join(&path))
        {
            all.push(File { path, text });
        }
    }
    assert!(
        all.iter().any(|file| file.path == "src/lib.rs"),
        "the walk does not find src/lib.rs"
    );
    all
}

fn rust() -> Vec<File> {
    files().into_iter().filter(|file| file.is("rs")).collect()
}

/// Fails with all that is wrong, one finding a line.
fn report(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The findings of a rule about lines of Rust code.
fn lines(rule: impl Fn(&File, &str, bool) -> Option<&'static str>) -> Vec<String> {
    let mut findings = Vec::new();
    for file in rust().iter().filter(|file| !file.under("tests/tidy/")) {
        for (number, line, testing) in file.code() {
            if let Some(wrong) = rule(file, line, testing) {
                findings.push(format!("{}:{number}: {wrong}: {}", file.path, line.trim()));
            }
        }
    }
    findings
}

#[test]
fn no_file_is_too_long_to_read() {
    let counted = rust()
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path));
    let findings: Vec<String> = counted
        .filter(|(count, _)| *count > FILE_LIMIT)
        .map(|(count, path)| format!("{path}: {count} lines, at most {FILE_LIMIT}"))
        .collect();
    report(&findings);
}

#[test]
fn every_source_file_begins_by_saying_what_it_is() {
    let sources = rust().into_iter();
    let sources = sources.filter(|file| file.under("src/") || file.under("crates/"));
    let findings: Vec<String> = sources
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: its first line is not a //! comment", file.path))
        .collect();
    report(&findings);
}

#[test]
fn a_module_is_named_for_what_it_does() {
    let mut findings = Vec::new();
    for file in rust() {
        let stem = Path::new(&file.path)
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if stem == "mod" {
            findings.push(format!("{}: foo.rs beside foo/, not foo/mod.rs", file.path));
        }
        if EMPTY_NAMES.contains(&stem.as_str()) {
            findings.push(format!("{}: the name says nothing", file.path));
        }
    }
    report(&findings);
}

#[test]
fn only_the_broker_layer_knows_the_client_library() {
    report(&lines(|file, line, _| {
        let inside = file.path == "src/broker.rs"
            || file.under("src/broker/")
            || file.under("benches/")
            || file.path.contains("tests/");
        (!inside && (line.contains("lapin::") || line.contains("use lapin")))
            .then_some("only src/broker may use lapin")
    }));
}

#[test]
fn nothing_panics_on_an_error_outside_tests() {
    report(&lines(|_, line, testing| {
        (!testing && line.contains(".unwrap()"))
            .then_some("expect(\"the invariant\"), or handle it")
    }));
}

#[test]
fn a_lint_is_expected_with_a_reason_or_heeded() {
    report(&lines(|_, line, _| {
        let line = line.trim_start();
        (line.starts_with("#[allow(") || line.starts_with("#![allow("))
            .then_some("#[expect(lint, reason = \"…\")]")
    }));
}

#[test]
fn no_test_sleeps_on_the_real_clock() {
    report(&lines(|file, line, testing| {
        let polling = file.under("tests/it/harness") || file.text.contains("start_paused");
        let sleeps = line.contains("thread::sleep(")
            || line.contains(" sleep(")
            || line.contains("time::sleep(");
        (testing && !polling && sleeps).then_some("a gate, paused time or `eventually`")
    }));
}

#[test]
fn no_work_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.path != "Cargo.lock") {
        for (index, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                findings.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    report(&findings);
}

#[test]
fn no_text_names_a_place_on_somebodys_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut findings = Vec::new();
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                findings.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    report(&findings);
}

#[test]
fn every_script_can_be_run() {
    let mut scripts: Vec<PathBuf> = fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    scripts.push(root().join(".ci/run"));
    assert!(scripts.len() > 1, "no scripts found");
    let mut findings = Vec::new();
    for path in scripts {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        if mode & 0o111 != 0o111 {
            findings.push(format!("{}: not executable", path.display()));
        }
        if !fs::read_to_string(&path)
            .unwrap()
            .starts_with("#!/usr/bin/env ")
        {
            findings.push(format!(
                "{}: does not begin with #!/usr/bin/env",
                path.display()
            ));
        }
    }
    report(&findings);
}

/// The words of `text` that name a file of the project.
fn named_files(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "`'\"()[]<>,;|*".contains(c);
    text.split(ends)
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| {
            let word = word.split('#').next().unwrap_or_default();
            [
                "scripts/", "config/", "docs/", "src/", "crates/", "tests/", "benches/",
            ]
            .iter()
            .any(|folder| word.starts_with(folder) && word.len() > folder.len())
        })
}

#[test]
fn every_file_that_the_documentation_names_exists() {
    let mut named = 0;
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.is("md")) {
        for word in named_files(&file.text) {
            named += 1;
            let path = word.split('#').next().unwrap_or_default();
            if !root().join(path).exists() {
                findings.push(format!("{}: there is no {path}", file.path));
            }
        }
    }
    assert!(
        named > 0,
        "no documentation names a file: the check reads the wrong place"
    );
    report(&findings);
}

/// The lines of Markdown's code blocks, and what stands between backticks.
fn shown_code(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut shown = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            shown.push(line);
        } else {
            shown.extend(line.split('`').skip(1).step_by(2));
        }
    }
    shown
}

#[test]
fn every_command_that_the_documentation_shows_exists() {
    let program = env!("CARGO_BIN_EXE_tidegate");
    let help = std::process::Command::new(program)
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .map_while(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next().filter(|word| !word.is_empty()))
        .collect();
    assert!(commands.contains(&"help"), "no commands in:\n{help}");
    // A fleet that is not there is for measurements: its command is hidden.
    let commands: Vec<&str> = commands.into_iter().chain(["simulate"]).collect();
    let mut shown = 0;
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.is("md")) {
        for text in shown_code(&file.text) {
            let text = text.trim_start().trim_start_matches("$ ");
            let Some(command) = text
                .strip_prefix("tidegate ")
                .and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            shown += 1;
            if command.starts_with(|c: char| c.is_ascii_lowercase()) && !commands.contains(&command)
            {
                findings.push(format!(
                    "{}: there is no command `tidegate {command}`",
                    file.path
                ));
            }
        }
    }
    assert!(
        shown > 0,
        "no documentation shows a command: the check reads the wrong place"
    );
    report(&findings);
}
