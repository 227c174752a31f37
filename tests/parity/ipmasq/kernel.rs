//! The world around the agent: tables as other programs see them, the configuration directory, the tools of a case.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use trimtab::adapters::iptables::SEARCH_PATH;
use trimtab_domain::masquerade::{Backend, Family, TableId};

/// Says another release than the tools behind it have.
const OTHER_RELEASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/ipmasq/other-release");
const VERBS: [&str; 2] = ["save", "restore"];

/// The tables of one back end.
pub(super) struct Kernel {
    pub(super) backend: Backend,
}

impl Kernel {
    fn tool(&self, family: Family) -> &'static str {
        TableId { family, backend: self.backend }.tool()
    }

    /// Loads rules beside those that are there.
    pub(super) fn load(&self, family: Family, text: &str) {
        run(
            &format!("{}-restore", self.tool(family)),
            &["--noflush".to_owned(), "-w".to_owned(), "5".to_owned()],
            text,
        );
    }

    /// What somebody else does to the tables in a step.
    pub(super) fn change(&self, change: &Value) {
        for (family, restore, command) in
            [(Family::V4, "restore_v4", "iptables"), (Family::V6, "restore_v6", "ip6tables")]
        {
            if let Some(text) = change[restore].as_str() {
                self.load(family, text);
            }
            for arguments in change[command].as_array().into_iter().flatten() {
                let given = arguments.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
                let arguments: Vec<String> = ["-w".to_owned(), "5".to_owned()].into_iter().chain(given).collect();
                run(self.tool(family), &arguments, "");
            }
        }
    }

    /// Table `nat` as the tool prints it.
    pub(super) fn save(&self, family: Family) -> String {
        run(&format!("{}-save", self.tool(family)), &["-t".to_owned(), "nat".to_owned()], "")
    }
}

fn run(program: &str, arguments: &[String], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("the tool reads its input");
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The rules of each chain in order, without counters; built-in chains only with rules. With `unordered` the rules for
/// listed prefixes stand sorted, wherever they were behind the one for link-local.
pub(super) fn by_chain(text: &str, unordered: bool) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            chains.entry(chain.to_owned()).or_default().push(line.to_owned());
        } else if let Some((name, policy)) = line.strip_prefix(':').and_then(|line| line.split_once(' '))
            && policy.starts_with('-')
        {
            chains.entry(name.to_owned()).or_default();
        }
    }
    for rules in chains.values_mut().filter(|_| unordered) {
        let is_listed = |rule: &String| rule.ends_with("-j RETURN") && !rule.contains(" -d 169.254.0.0/16 ");
        let start = rules.iter().position(is_listed).unwrap_or(rules.len());
        let end = start + rules.iter().skip(start).take_while(|rule| rule.ends_with("-j RETURN")).count();
        rules[start..end].sort();
    }
    chains
}

/// The configuration directory.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(folder: &Path, absent: bool) -> Self {
        let directory = folder.join("config");
        if !absent {
            fs::create_dir(&directory).expect("a fresh folder");
        }
        Self(directory)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    pub(super) fn remove_directory(&self) {
        fs::remove_dir_all(&self.0).expect("it was there");
    }

    /// Puts files there by rename; null removes one.
    pub(super) fn put(&self, files: &Value) {
        for (name, content) in files.as_object().into_iter().flatten() {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("below the directory")).expect("a folder");
            if content.is_null() {
                fs::remove_file(&path).expect("it was there");
            } else if content["dir"] == true {
                fs::create_dir(&path).expect("it was not there");
            } else if let Some(target) = content["symlink"].as_str() {
                symlink(target, &path).expect("it was not there");
            } else {
                let beside = self.0.with_extension("new");
                fs::write(&beside, bytes(content)).expect("the folder is ours");
                fs::rename(&beside, &path).expect("the folder is ours");
            }
        }
    }
}

fn bytes(content: &Value) -> Vec<u8> {
    match content["hex"].as_str() {
        Some(hex) => {
            let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex digits"));
            pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
        }
        None => content.as_str().expect("a text").as_bytes().to_vec(),
    }
}

/// Where the agent finds its tools.
pub(super) struct Tools(String);

impl Tools {
    /// All of the machine's, unless the case hides some or has them say another release.
    pub(super) fn of(case: &Value, backend: Backend, folder: &Path) -> Self {
        let absent: Vec<&str> =
            case["absent_tools"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let release = case["tool_version"].as_str();
        if absent.is_empty() && release.is_none() {
            return Self(SEARCH_PATH.to_owned());
        }
        // The script finds the release in the name of its folder.
        let directory = folder.join("tools").join(release.unwrap_or("own"));
        fs::create_dir_all(&directory).expect("a fresh folder");
        for command in ["iptables", "ip6tables"].into_iter().filter(|command| !absent.contains(command)) {
            for verb in VERBS {
                let name = format!("{command}-{backend}-{verb}");
                let target = if release.is_some() { PathBuf::from(OTHER_RELEASE) } else { located(&name) };
                symlink(target, directory.join(&name)).expect("a fresh folder");
            }
        }
        Self(directory.display().to_string())
    }

    pub(super) fn search_path(&self) -> &str {
        &self.0
    }
}

fn located(name: &str) -> PathBuf {
    let found = SEARCH_PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed"))
}
