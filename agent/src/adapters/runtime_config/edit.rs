//! The cgroup driver written into a runtime's configuration; comments, order and all else stay as they are.

use serde_json::Value as Json;
use toml_edit::{DocumentMut, Item, Table, TableLike, value};
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::containerd::plugin_of;
use super::toml;

/// What containerd runs for the handler `runc` unless the file says otherwise; a file that names the handler has to say it.
const RUNC: &str = "io.containerd.runc.v2";
/// The last of the drop-ins of CRI-O, which wins over all others.
pub const CRIO_DROP_IN: &str = "/etc/crio/crio.conf.d/99-trimtab-cgroup-manager.conf";

/// A runtime's configuration cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no TOML.
    #[error("cannot set the cgroup driver: the file is not TOML: {0}")]
    Syntax(String),
    /// A key on the way is not a table.
    #[error("cannot set the cgroup driver: {0} is not a table in this file; correct it by hand")]
    NotATable(String),
    /// The result would say something else too.
    #[error("cannot set the cgroup driver: the file would change in more than that; set it by hand")]
    MoreThanThat,
}

/// The text of containerd's configuration with the driver of these handlers set; `None` is a file that does not exist.
///
/// # Errors
///
/// [`EditError`] if the text is no TOML, or has something else where a table must be.
pub fn set_containerd_driver(text: Option<&str>, handlers: &[&str], driver: CgroupDriver) -> Result<String, EditError> {
    let text = text.unwrap_or("version = 2\n");
    let before = toml::parse(text).map_err(EditError::Syntax)?;
    let version = before.get("version").and_then(Json::as_i64).unwrap_or(1);
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))?;
    let mut expected = before;
    for handler in handlers {
        let path = ["plugins", plugin_of(version), "containerd", "runtimes", handler];
        let runtime = descend(document.as_table_mut(), &path)?;
        if *handler == "runc" && runtime.get("runtime_type").is_none() {
            runtime.insert("runtime_type", value(RUNC));
        }
        let kind = runtime.get("runtime_type").and_then(Item::as_str).map(str::to_owned);
        let options = descend(runtime, &["options"])?;
        let switch = driver == CgroupDriver::Systemd;
        set(options, "SystemdCgroup", switch);
        let mut patch = serde_json::json!({ "options": { "SystemdCgroup": switch } });
        if let (Some(kind), Some(patch)) = (kind, patch.as_object_mut()) {
            patch.insert("runtime_type".into(), kind.into());
        }
        let nested = path.iter().rev().fold(patch, |inner, key| serde_json::json!({ *key: inner }));
        if let Json::Object(nested) = nested {
            toml::merge(&mut expected, nested);
        }
    }
    let edited = document.to_string();
    // What is written must be read as what was meant, whatever form the file has.
    let read = toml::parse(&edited).map_err(EditError::Syntax)?;
    if read == expected { Ok(edited) } else { Err(EditError::MoreThanThat) }
}

/// Whether this driver is set for all of these handlers in the text of containerd's configuration; where nothing is set it is
/// cgroupfs.
///
/// # Errors
///
/// [`EditError::Syntax`] if the text is no TOML.
pub fn has_containerd_driver(text: Option<&str>, handlers: &[String], driver: CgroupDriver) -> Result<bool, EditError> {
    let root = toml::parse(text.unwrap_or_default()).map_err(EditError::Syntax)?;
    let plugin = plugin_of(root.get("version").and_then(Json::as_i64).unwrap_or(1));
    Ok(handlers.iter().all(|handler| {
        let path = ["plugins", plugin, "containerd", "runtimes", handler, "options", "SystemdCgroup"];
        let switch = toml::at(&root, &path).and_then(Json::as_bool).unwrap_or(false);
        switch == (driver == CgroupDriver::Systemd)
    }))
}

/// A drop-in for CRI-O; its own file, so that none of another's is touched.
#[must_use]
pub fn crio_drop_in(driver: CgroupDriver) -> String {
    // With cgroupfs CRI-O starts only so (crio.conf(5)).
    let conmon = if driver == CgroupDriver::Cgroupfs { "conmon_cgroup = \"pod\"\n" } else { "" };
    format!(
        "# Written by Trimtab; cgroup.onMismatch of the node's profile asked for it.\n[crio.runtime]\ncgroup_manager = \"{driver}\"\n{conmon}"
    )
}

/// Replaces a value and keeps the comment behind it.
fn set(table: &mut dyn TableLike, key: &str, state: bool) {
    let decor = table.get(key).and_then(Item::as_value).map(|old| old.decor().clone());
    let mut new = toml_edit::Value::from(state);
    if let Some(decor) = decor {
        *new.decor_mut() = decor;
    }
    table.insert(key, Item::Value(new));
}

/// The table at a path; what is missing is made, without headers of its own for what only leads further.
fn descend<'a>(from: &'a mut dyn TableLike, path: &[&str]) -> Result<&'a mut dyn TableLike, EditError> {
    let mut table = from;
    for (depth, key) in path.iter().enumerate() {
        let missing = table.get(key).is_none_or(Item::is_none);
        if missing {
            let mut made = Table::new();
            made.set_implicit(depth + 1 < path.len());
            table.insert(key, Item::Table(made));
        }
        table = table
            .get_mut(key)
            .and_then(Item::as_table_like_mut)
            .ok_or_else(|| EditError::NotATable(path.get(..=depth).unwrap_or_default().join(".")))?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
