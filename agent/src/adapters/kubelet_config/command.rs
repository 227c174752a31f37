//! The command line that the kubelet's unit and environment files make.

use std::collections::BTreeMap;
use std::path::Path;

use crate::ports::HostFiles;

/// A command line of the kubelet, without the program.
#[derive(Debug, Clone, Default)]
pub(super) struct Command {
    pub(super) running: bool,
    pub(super) source: String,
    pub(super) arguments: Vec<String>,
}

/// What the next start would be.
#[derive(Debug, Default)]
pub(super) struct Prediction {
    /// True if a unit or an environment file exists.
    pub(super) exists: bool,
    pub(super) command: Command,
    /// The flags of each environment file by itself.
    pub(super) parts: Vec<(String, Vec<String>)>,
}

/// Environment files in the order in which kubeadm's unit names them, the later one wins.
const ENVIRONMENT_FILES: [&str; 3] =
    ["/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet"];
/// Where units and their drop-ins are, weakest first (systemd.unit(5)).
const UNIT_DIRECTORIES: [&str; 5] = [
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system",
];

/// The command line that the unit files make, or, without a unit, the environment files alone.
pub(super) fn predict(files: &dyn HostFiles, problems: &mut Vec<String>) -> Prediction {
    let mut prediction = Prediction::default();
    for path in ENVIRONMENT_FILES {
        let Some(text) = read(files, path, problems) else { continue };
        let variables = parse_environment(&text);
        let arguments: Vec<String> = variables.iter().flat_map(|(_, value)| split_words(value)).collect();
        prediction.parts.push((path.to_owned(), arguments));
    }
    let unit = Unit::read(files, problems);
    prediction.exists = unit.exists || !prediction.parts.is_empty();
    prediction.command = match &unit.start {
        Some(start) => Command {
            running: false,
            source: format!("{} (next start)", unit.start_source),
            arguments: expand(start, &unit.environment).into_iter().skip(1).collect(),
        },
        None => Command {
            running: false,
            source: "environment files of the kubelet (next start)".into(),
            arguments: prediction.parts.iter().flat_map(|(_, arguments)| arguments.clone()).collect(),
        },
    };
    // The strongest part first, as the answer wants it.
    prediction.parts.reverse();
    prediction
}

fn read(files: &dyn HostFiles, path: &str, problems: &mut Vec<String>) -> Option<String> {
    files.read(Path::new(path)).unwrap_or_else(|error| {
        problems.push(format!("{error}: {}", error.source));
        None
    })
}

/// What the unit and its drop-ins say.
#[derive(Default)]
struct Unit {
    exists: bool,
    start: Option<String>,
    start_source: String,
    environment: BTreeMap<String, String>,
}

impl Unit {
    fn read(files: &dyn HostFiles, problems: &mut Vec<String>) -> Self {
        // The strongest unit file hides the others; drop-ins are sorted by name, and the strongest of a name counts.
        let mut main = None;
        let mut drop_ins = BTreeMap::new();
        for directory in UNIT_DIRECTORIES {
            let path = format!("{directory}/kubelet.service");
            if let Some(text) = read(files, &path, problems) {
                main = Some((path.clone(), text));
            }
            let below = format!("{path}.d");
            for entry in files.list(Path::new(&below)).ok().flatten().unwrap_or_default() {
                let path = format!("{below}/{}", entry.name);
                if entry.name.ends_with(".conf")
                    && let Some(text) = read(files, &path, problems)
                {
                    drop_ins.insert(entry.name, (path, text));
                }
            }
        }
        let mut unit = Self { exists: main.is_some(), ..Self::default() };
        for (path, text) in main.into_iter().chain(drop_ins.into_values()) {
            unit.add(files, &path, &text, problems);
        }
        unit
    }

    fn add(&mut self, files: &dyn HostFiles, path: &str, text: &str, problems: &mut Vec<String>) {
        for line in text.replace("\\\n", " ").lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            match (name.trim(), value.trim()) {
                ("Environment", value) => {
                    for assignment in split_words(value) {
                        if let Some((name, value)) = assignment.split_once('=') {
                            self.environment.insert(name.to_owned(), value.to_owned());
                        }
                    }
                }
                ("EnvironmentFile", value) => {
                    let file = value.strip_prefix('-').unwrap_or(value);
                    if let Some(text) = read(files, file, problems) {
                        self.environment.extend(parse_environment(&text));
                    }
                }
                // An empty assignment takes back what came before (systemd.service(5)).
                ("ExecStart", "") => self.start = None,
                ("ExecStart", value) => {
                    self.start = Some(value.trim_start_matches(['-', '@', ':', '+', '!']).to_owned());
                    path.clone_into(&mut self.start_source);
                }
                _ => {}
            }
        }
    }
}

/// `NAME=value` lines, with shell quotes; comments and everything else is skipped.
fn parse_environment(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let name = name.trim();
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        plain.then(|| (name.to_owned(), split_words(value).join(" ")))
    };
    text.replace("\\\n", " ").lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(line).collect()
}

/// Replaces `$NAME` (a word by itself is split into words) and `${NAME}` (never split), as systemd does.
fn expand(command: &str, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    for word in split_words(command) {
        match word.strip_prefix('$') {
            Some(name) if !name.starts_with('{') => {
                words.extend(environment.get(name).map(|value| split_words(value)).unwrap_or_default());
            }
            _ => words.push(expand_braces(&word, environment)),
        }
    }
    words
}

fn expand_braces(word: &str, environment: &BTreeMap<String, String>) -> String {
    let mut parts = word.split("${");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((name, rest)) => {
                text.push_str(environment.get(name).map_or("", String::as_str));
                text.push_str(rest);
            }
            None => {
                text.push_str("${");
                text.push_str(part);
            }
        }
    }
    text
}

/// Splits at blanks outside quotes; quotes and backslashes are taken away.
fn split_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (None | Some('"'), '\\') => {
                word.extend(characters.next());
                begun = true;
            }
            (None, c) if c.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        for (text, expected) in [
            ("--a=1  --b", vec!["--a=1", "--b"]),
            ("\"--a=1 --b=2\"", vec!["--a=1 --b=2"]),
            ("--a='x y' z", vec!["--a=x y", "z"]),
            ("a\\ b \"c\\\"d\"", vec!["a b", "c\"d"]),
            ("'' x", vec!["", "x"]),
            ("", vec![]),
            ("\"open", vec!["open"]),
        ] {
            assert_eq!(split_words(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_expanded_as_systemd_does() {
        let environment = BTreeMap::from([("A".into(), "--x=1 --y".into()), ("B".into(), "v w".into())]);
        assert_eq!(expand("/k $A ${B} --z=${B}! $NONE", &environment), ["/k", "--x=1", "--y", "v w", "--z=v w!"]);
    }

    #[test]
    fn environment_files_are_read_with_quotes_and_comments() {
        let text = "# KUBELET=no\nKUBELET_KUBEADM_ARGS=\"--a=1 --b=2\"\nexport X=y\nbad name=z\nnothing\n";
        let expected = [("KUBELET_KUBEADM_ARGS", "--a=1 --b=2"), ("X", "y")];
        assert_eq!(parse_environment(text), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
