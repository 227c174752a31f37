//! What the node's sysctl.d files set, by the rules of sysctl.d(5).
//!
//! A file masks files of the same name in directories of lower priority; the surviving ones are read in the order of
//! their names, whatever their directory, and the last assignment of a key wins.

use std::collections::BTreeMap;

use super::SysctlKey;
use super::glob::{KeyOrPattern, KeyPattern};
use super::observation::FileSetting;

/// Directories, highest priority first.
pub const DIRECTORIES: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

/// One `*.conf` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfFile {
    /// Its directory.
    pub directory: String,
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What the files, given by priority of their directories, set these keys to.
#[must_use]
pub fn settings<'a>(files: &[ConfFile], keys: impl Iterator<Item = &'a SysctlKey>) -> BTreeMap<SysctlKey, FileSetting> {
    let mut by_name: BTreeMap<&str, &ConfFile> = BTreeMap::new();
    for file in files {
        by_name.entry(&file.name).or_insert(file);
    }
    let mut explicit = BTreeMap::new();
    let mut patterns: Vec<(KeyPattern, FileSetting)> = Vec::new();
    for file in by_name.values() {
        for (name, value) in assignments(&file.text) {
            let setting = FileSetting { path: format!("{}/{}", file.directory, file.name), value: value.to_owned() };
            match KeyOrPattern::parse(name) {
                Ok(KeyOrPattern::Key(key)) => {
                    explicit.insert(key, setting);
                }
                Ok(KeyOrPattern::Pattern(pattern)) => patterns.push((pattern, setting)),
                Err(_) => {}
            }
        }
    }
    let last = |key: &SysctlKey| patterns.iter().rev().find(|(pattern, _)| pattern.matches(key)).map(|(_, set)| set);
    keys.filter_map(|key| Some((key.clone(), explicit.get(key).or_else(|| last(key))?.clone()))).collect()
}

/// The assignments of a text; comments, exclusions and lines that are none are left out.
fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        Some((name.strip_prefix('-').unwrap_or(name).trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn file(directory: &str, name: &str, text: &str) -> ConfFile {
        ConfFile { directory: directory.into(), name: name.into(), text: text.into() }
    }

    #[test]
    fn the_last_name_wins_and_a_higher_directory_masks() {
        let files = [
            file("/etc/sysctl.d", "999-sysctl-aks.conf", "net.core.somaxconn = 16384\n"),
            file("/etc/sysctl.d", "50-masked.conf", ""),
            file("/usr/lib/sysctl.d", "50-masked.conf", "vm.swappiness=1"),
            file(
                "/usr/lib/sysctl.d",
                "10-base.conf",
                "; c\n# c\nnet/core/somaxconn=128\n-kernel.sysrq = 1\nbroken line\n",
            ),
            file(
                "/usr/lib/sysctl.d",
                "50-default.conf",
                "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n",
            ),
            file("/run/sysctl.d", "20-one.conf", "net.ipv4.conf.eth0.rp_filter=1\n=1\nnet..x = 2\n"),
        ];
        let keys: Vec<SysctlKey> = [
            "net.core.somaxconn",
            "vm.swappiness",
            "kernel.sysrq",
            "net.ipv4.conf.eth0.rp_filter",
            "net.ipv4.conf.eth1.rp_filter",
        ]
        .map(|key| SysctlKey::parse(key).unwrap())
        .into();
        let found = settings(&files, keys.iter());
        let texts: Vec<String> = found.iter().map(|(key, set)| format!("{key}={} {}", set.value, set.path)).collect();
        assert_eq!(
            texts,
            [
                "kernel.sysrq=1 /usr/lib/sysctl.d/10-base.conf",
                "net.core.somaxconn=16384 /etc/sysctl.d/999-sysctl-aks.conf",
                "net.ipv4.conf.eth0.rp_filter=1 /run/sysctl.d/20-one.conf",
                "net.ipv4.conf.eth1.rp_filter=2 /usr/lib/sysctl.d/50-default.conf",
            ]
        );
    }
}
