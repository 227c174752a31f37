//! Names of kernel parameters, as types that cannot lead out of `/proc/sys`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::normalize;

/// Longest name in bytes, as Kubernetes allows it.
const MAX_BYTES: usize = 253;
/// Characters that make a name a pattern.
const GLOB: [char; 4] = ['*', '?', '[', ']'];

/// One kernel parameter, in dot form; a dot within a file name (an interface `eno2.100`) is spelled as a slash.
///
/// Built only from names whose parts are plain file names, so [`path`](Self::path) is always below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysctlKey(String);

/// Why a text names no kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("the sysctl key is empty")]
    Empty,
    /// Longer than 253 bytes.
    #[error("the sysctl key has {bytes} bytes; at most 253 are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// White space, a control character, a letter outside ASCII, a backslash.
    #[error("sysctl key {key:?} contains {character:?}, which no key contains")]
    Character {
        /// The key.
        key: String,
        /// The first such character.
        character: char,
    },
    /// A glob character where one parameter is meant, or a `[` without `]`.
    #[error("sysctl key {key:?} is a pattern that cannot be used here")]
    Pattern {
        /// The key.
        key: String,
    },
    /// Two separators in a row, or one at either end.
    #[error("sysctl key {key:?} has an empty component")]
    EmptyComponent {
        /// The key.
        key: String,
    },
    /// A component that the file system would read as `.` or `..`.
    #[error("sysctl key {key:?} would lead out of its directory")]
    Traversal {
        /// The key.
        key: String,
    },
    /// One component only: a directory of `/proc/sys`, not a parameter.
    #[error("sysctl key {key:?} has one component only, which is a directory")]
    OneComponent {
        /// The key.
        key: String,
    },
}

impl SysctlKey {
    /// Reads a name with dots or slashes; the first separator decides which.
    ///
    /// # Errors
    /// [`KeyError`] saying what is wrong with the name.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let name = checked(text)?;
        if name.contains(GLOB) {
            return Err(KeyError::Pattern { key: text.to_owned() });
        }
        Ok(Self(name))
    }

    /// The parameter whose file is reached from `/proc/sys` by these file names.
    ///
    /// # Errors
    /// [`KeyError`] for names that a key cannot spell.
    pub fn from_file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let parts: Vec<String> = names.into_iter().map(swap_separators).collect();
        let name = parts.join(".");
        // Without a slash in the first part the dot decides; a first part with a dot would be read the other way.
        if parts.first().is_some_and(|first| first.contains('/')) {
            return Err(KeyError::Traversal { key: name });
        }
        Self::parse(&name)
    }

    /// The name in dot form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file below `/proc/sys`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(SYSCTL_ROOT).join(self.file_names().collect::<PathBuf>())
    }

    /// The file names from `/proc/sys` down.
    pub fn file_names(&self) -> impl Iterator<Item = String> {
        self.0.split('.').map(swap_separators)
    }
}

impl fmt::Display for SysctlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the kernel shows its parameters, proc(5).
pub const SYSCTL_ROOT: &str = "/proc/sys";

/// A component of a key as a file name, and the other way round: a key has dots between its components and therefore
/// slashes in them, a path the reverse.
fn swap_separators(part: &str) -> String {
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    part.chars().map(swap).collect()
}

/// The name in dot form, if all its components are plain file names or patterns of such.
pub(super) fn checked(text: &str) -> Result<String, KeyError> {
    let key = || text.to_owned();
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(KeyError::TooLong { bytes: text.len() });
    }
    if let Some(character) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '\\') {
        return Err(KeyError::Character { key: key(), character });
    }
    let name = normalize(text);
    if name.split('.').any(str::is_empty) {
        return Err(KeyError::EmptyComponent { key: key() });
    }
    if name.split('.').any(|part| matches!(part, "/" | "//")) {
        return Err(KeyError::Traversal { key: key() });
    }
    if !name.contains('.') {
        return Err(KeyError::OneComponent { key: key() });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_name_files_below_proc_sys() {
        let rows = [
            ("net.core.somaxconn", "net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net.core.somaxconn", "net/core/somaxconn"),
            (
                "net/ipv4/conf/eno2.100/rp_filter",
                "net.ipv4.conf.eno2/100.rp_filter",
                "net/ipv4/conf/eno2.100/rp_filter",
            ),
            (
                "net.ipv4.conf.eno2/100.rp_filter",
                "net.ipv4.conf.eno2/100.rp_filter",
                "net/ipv4/conf/eno2.100/rp_filter",
            ),
            ("net.ipv6.conf.a/b/c.mtu", "net.ipv6.conf.a/b/c.mtu", "net/ipv6/conf/a.b.c/mtu"),
            (
                "net.bridge.bridge-nf-call-iptables",
                "net.bridge.bridge-nf-call-iptables",
                "net/bridge/bridge-nf-call-iptables",
            ),
            ("kernel.sched_rt_runtime_us", "kernel.sched_rt_runtime_us", "kernel/sched_rt_runtime_us"),
        ];
        for (text, name, path) in rows {
            let key = SysctlKey::parse(text).unwrap();
            assert_eq!((key.as_str(), key.path()), (name, Path::new("/proc/sys").join(path)), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = |text: &str| text.to_owned();
        let long = "a.".repeat(127);
        let rows = [
            ("", KeyError::Empty),
            (long.as_str(), KeyError::TooLong { bytes: 254 }),
            ("net.core.somaxconn ", KeyError::Character { key: key("net.core.somaxconn "), character: ' ' }),
            ("net.core\0x", KeyError::Character { key: key("net.core\0x"), character: '\0' }),
            ("net.c\u{f6}re.x", KeyError::Character { key: key("net.c\u{f6}re.x"), character: '\u{f6}' }),
            ("net.core\\x", KeyError::Character { key: key("net.core\\x"), character: '\\' }),
            ("net..core", KeyError::EmptyComponent { key: key("net..core") }),
            (".net.core", KeyError::EmptyComponent { key: key(".net.core") }),
            ("net.core.", KeyError::EmptyComponent { key: key("net.core.") }),
            ("/net/core/x", KeyError::EmptyComponent { key: key("/net/core/x") }),
            ("net//core", KeyError::EmptyComponent { key: key("net//core") }),
            ("net/../../etc/passwd", KeyError::Traversal { key: key("net/../../etc/passwd") }),
            ("net/./core", KeyError::Traversal { key: key("net/./core") }),
            ("net.//.//.etc", KeyError::Traversal { key: key("net.//.//.etc") }),
            ("net.ipv4./.x", KeyError::Traversal { key: key("net.ipv4./.x") }),
            ("../etc/passwd", KeyError::EmptyComponent { key: key("../etc/passwd") }),
            ("kernel", KeyError::OneComponent { key: key("kernel") }),
            ("net.ipv4.conf.*.rp_filter", KeyError::Pattern { key: key("net.ipv4.conf.*.rp_filter") }),
        ];
        for (text, error) in rows {
            assert_eq!(SysctlKey::parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_leads_out_of_proc_sys(text in r"[a-z./*\[\] \\\x00é]{0,12}") {
            if let Ok(key) = SysctlKey::parse(&text) {
                let path = key.path();
                prop_assert!(path.starts_with("/proc/sys"));
                prop_assert!(path.components().skip(3).all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(SysctlKey::parse(key.as_str()), Ok(key.clone()));
                let names: Vec<String> = key.file_names().collect();
                prop_assert_eq!(SysctlKey::from_file_names(names.iter().map(String::as_str)), Ok(key));
            }
        }
    }
}
