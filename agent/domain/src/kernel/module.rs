//! Loadable modules: their names, and whether one is there.

use std::fmt;

/// Longest name in bytes: `MODULE_NAME_LEN` of a 64-bit kernel without the final NUL.
const MAX_NAME_BYTES: usize = 55;

/// Name of a module with `_` for `-`, which the kernel takes for the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(String);

/// A text that is no module name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no module name: letters, digits, `_` and `-`, at most 55, without the ending .ko")]
pub struct ModuleNameError(pub String);

impl ModuleName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`ModuleNameError`] for anything that could be a path, an option or a pattern.
    pub fn parse(text: &str) -> Result<Self, ModuleNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.starts_with('-') || !text.bytes().all(plain) {
            return Err(ModuleNameError(text.to_owned()));
        }
        Ok(Self(text.replace('-', "_")))
    }

    /// The name with `_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the object in reports and the ledger.
    #[must_use]
    pub fn object(&self) -> String {
        format!("module/{}", self.0)
    }

    /// The module that an object's name means; `None`: none.
    #[must_use]
    pub fn of_object(object: &str) -> Option<Self> {
        Self::parse(object.strip_prefix("module/")?).ok()
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the node shows of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleState {
    /// Part of the kernel itself.
    BuiltIn,
    /// Loaded.
    Loaded {
        /// How many use it, `refcnt`; `None`: the kernel cannot unload modules, or shows no number.
        users: Option<u64>,
        /// Modules that need it, in byte order.
        holders: Vec<String>,
    },
    /// Not loaded; a file for it lies in the host's module tree, or some module goes by that alias.
    InTree,
    /// Not loaded, and the host has no such module.
    Missing,
    /// Not loaded; whether the host has it could not be read.
    Unknown,
}

/// True if a list of module files (`modules.builtin`, or the left sides of `modules.dep`) names the module.
#[must_use]
pub fn is_listed(list: &str, module: &ModuleName) -> bool {
    list.lines().any(|line| {
        let file = line.split(':').next().unwrap_or_default();
        let name = file.rsplit('/').next().unwrap_or_default();
        name.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == module.as_str())
    })
}

/// True if `modules.alias` gives some module this name: `alias ip_conntrack nf_conntrack`.
#[must_use]
pub fn is_alias(aliases: &str, module: &ModuleName) -> bool {
    aliases.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.next() == Some("alias") && fields.next().is_some_and(|name| name.replace('-', "_") == module.as_str())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_cannot_be_paths_or_options() {
        assert_eq!(ModuleName::parse("br-netfilter").unwrap().as_str(), "br_netfilter");
        assert_eq!(ModuleName::of_object("module/br_netfilter"), ModuleName::parse("br_netfilter").ok());
        let long = "m".repeat(56);
        for text in ["", "../x", "a/b", "-r", "--remove", "a b", "x.ko", "a\n", "a\0", "m\u{f6}", "a*", "$(id)", &long]
        {
            assert_eq!(ModuleName::parse(text), Err(ModuleNameError(text.into())), "{text:?}");
        }
    }

    #[test]
    fn lists_name_modules_by_file() {
        let list =
            "kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko\nkernel/fs/xfs/xfs.ko.zst:\nodd line\n\n";
        let rows = [("br_netfilter", true), ("xfs", true), ("bridge", false), ("odd", false), ("br", false)];
        for (name, listed) in rows {
            assert_eq!(is_listed(list, &ModuleName::parse(name).unwrap()), listed, "{name}");
        }
        let aliases = "# c\nalias ip-conntrack nf_conntrack\nalias\nalias pci:v* e1000\n";
        assert!(is_alias(aliases, &ModuleName::parse("ip_conntrack").unwrap()));
        assert!(!is_alias(aliases, &ModuleName::parse("nf_conntrack").unwrap()));
    }
}
