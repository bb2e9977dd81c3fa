//! A program with its arguments and environment, in the form that the system takes.

use std::ffi::{CString, NulError, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// The folders to search for programs without `PATH`, as the C library does.
pub(super) const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program, ready to be started many times.
pub(crate) struct Program {
    /// The files to try, in this order.
    pub(super) files: Vec<CString>,
    pub(super) arguments: Vec<CString>,
    pub(super) directory: Option<CString>,
    /// The variables of every start.
    environment: Vec<Variable>,
}

struct Variable {
    name: OsString,
    /// `NAME=value`
    entry: CString,
}

impl Program {
    /// The program `command[0]` with all of `command` as its arguments, in `directory`, with `environment`. Of
    /// two variables with one name the last counts. A program without a slash is looked for in the `PATH` of
    /// that environment; a relative one starts at `directory`.
    ///
    /// # Errors
    /// Something contains NUL.
    pub(crate) fn new(
        command: &[String],
        directory: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, NulError> {
        let mut variables: Vec<Variable> = Vec::new();
        for (name, value) in environment {
            let entry = entry(&name, &value)?;
            variables.retain(|known| known.name != name);
            variables.push(Variable { name, entry });
        }
        let program = command.first().map_or("", String::as_str);
        let path = variables
            .iter()
            .find(|variable| variable.name == "PATH")
            .map(|variable| &variable.entry.as_bytes()["PATH=".len()..]);
        Ok(Self {
            files: files(program, path)?,
            arguments: command
                .iter()
                .map(|argument| CString::new(argument.as_str()))
                .collect::<Result<_, _>>()?,
            directory: directory
                .map(|directory| CString::new(directory.as_os_str().as_bytes()))
                .transpose()?,
            environment: variables,
        })
    }

    /// The program's environment with `variables` in place of its own of the same names.
    pub(super) fn environment<'a>(
        &'a self,
        variables: &'a Variables,
    ) -> impl Iterator<Item = &'a CString> {
        let own = self.environment.iter().filter(|own| {
            let replaced = |(name, _): &(String, CString)| own.name == OsStr::new(name);
            !variables.0.iter().any(replaced)
        });
        own.map(|own| &own.entry)
            .chain(variables.0.iter().map(|(_, entry)| entry))
    }
}

/// The variables of one start.
#[derive(Default)]
pub(crate) struct Variables(Vec<(String, CString)>);

impl Variables {
    /// `variables` with names that are each there once.
    ///
    /// # Errors
    /// A name or a value contains NUL.
    pub(crate) fn new(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, NulError> {
        let with_entry = |(name, value): (String, String)| {
            let entry = entry(OsStr::new(&name), OsStr::new(&value))?;
            Ok((name, entry))
        };
        Ok(Self(
            variables
                .into_iter()
                .map(with_entry)
                .collect::<Result<_, _>>()?,
        ))
    }
}

fn entry(name: &OsStr, value: &OsStr) -> Result<CString, NulError> {
    let mut entry = Vec::with_capacity(name.len() + 1 + value.len());
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'=');
    entry.extend_from_slice(value.as_bytes());
    CString::new(entry)
}

/// The files that `program` may be (POSIX, `execvp`): itself if it has a slash, else one in each directory of
/// `path`, where an empty directory is the current one.
fn files(program: &str, path: Option<&[u8]>) -> Result<Vec<CString>, NulError> {
    if program.is_empty() || program.contains('/') {
        return Ok(vec![CString::new(program)?]);
    }
    path.unwrap_or(DEFAULT_PATH.as_bytes())
        .split(|&byte| byte == b':')
        .map(|directory| {
            let file = Path::new(OsStr::from_bytes(directory)).join(program);
            CString::new(file.into_os_string().into_vec())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(command: &[&str], environment: &[(&str, &str)]) -> Program {
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        Program::new(&command, None, environment).unwrap()
    }

    fn texts<'a>(values: impl IntoIterator<Item = &'a CString>) -> Vec<&'a str> {
        let values = values.into_iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn a_program_is_looked_for_in_the_path_that_it_will_have() {
        let environment = [("PATH", "/ours:/bin"), ("PATH", "/theirs::/bin")];
        let found = program(&["order", "-v"], &environment);
        assert_eq!(
            texts(&found.files),
            ["/theirs/order", "order", "/bin/order"]
        );
        assert_eq!(texts(&found.arguments), ["order", "-v"]);
        let found = program(&["./order"], &environment);
        assert_eq!(texts(&found.files), ["./order"]);
        let found = program(&["order"], &[]);
        assert_eq!(texts(&found.files), ["/bin/order", "/usr/bin/order"]);
    }

    #[test]
    fn the_variables_of_a_start_replace_the_programs_own() {
        let program = program(&["order"], &[("A", "1"), ("B", "2")]);
        let variables =
            Variables::new([("B".into(), "3".into()), ("C".into(), "4".into())]).unwrap();
        assert_eq!(
            texts(program.environment(&variables)),
            ["A=1", "B=3", "C=4"]
        );
        assert_eq!(
            texts(program.environment(&Variables::default())),
            ["A=1", "B=2"]
        );
    }

    #[test]
    fn nul_is_refused() {
        assert!(Program::new(&["a\0".into()], None, []).is_err());
        assert!(Variables::new([("A".into(), "\0".into())]).is_err());
    }
}
