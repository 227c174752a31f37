//! The key `cgroupDriver` of the kubelet's configuration file, changed in place: comments, order and spelling of all else
//! stay (kubelet.config.k8s.io/v1beta1 `KubeletConfiguration`).

use crate::spec::cgroup::CgroupDriver;

const KEY: &str = "cgroupDriver";

/// The text cannot be edited safely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeletFileError {
    /// It is not in the usual form.
    #[error("cannot set {KEY} in the kubelet's configuration: it is not a block mapping of YAML; set {KEY} by hand")]
    NotABlockMapping,
    /// The key is there more than once.
    #[error("cannot set {KEY} in the kubelet's configuration: the key is on lines {first} and {second}; keep one")]
    Twice {
        /// Number of the first line, from 1.
        first: usize,
        /// Number of the second line, from 1.
        second: usize,
    },
    /// There is more than one document.
    #[error("cannot set {KEY} in the kubelet's configuration: line {line} begins a second document; keep one")]
    Documents {
        /// Number of the line, from 1.
        line: usize,
    },
}

/// The text with `cgroupDriver` set; the same text if it is set so already.
///
/// The reader of the result must still parse it and compare: this looks at lines, not at YAML.
///
/// # Errors
///
/// [`KubeletFileError`] if the text is JSON or a flow mapping, has two documents, or the key twice.
pub fn set_cgroup_driver(text: &str, driver: CgroupDriver) -> Result<String, KubeletFileError> {
    let mut found = None;
    let mut seen_content = false;
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim_end();
        if bare.is_empty() || bare.starts_with('#') || bare.starts_with('%') {
            continue;
        }
        if bare == "---" || bare.starts_with("--- ") || bare == "..." {
            if seen_content {
                return Err(KubeletFileError::Documents { line: index + 1 });
            }
            continue;
        }
        seen_content = true;
        if bare.starts_with(['{', '[', '"', '\'', '&', '!', '|', '>']) && !is_key(bare) {
            return Err(KubeletFileError::NotABlockMapping);
        }
        if is_key(bare) {
            if let Some(first) = found {
                return Err(KubeletFileError::Twice { first: first + 1, second: index + 1 });
            }
            found = Some(index);
        }
    }
    if !seen_content {
        return Err(KubeletFileError::NotABlockMapping);
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match found.and_then(|index| lines.get_mut(index)) {
        Some(line) => *line = replaced(line, driver),
        None => lines.push(format!("{KEY}: {driver}")),
    }
    let mut edited = lines.join(end);
    if text.ends_with('\n') || found.is_none() {
        edited.push_str(end);
    }
    Ok(edited)
}

/// Whether the line sets the key at the top level: bare, or in quotes.
fn is_key(line: &str) -> bool {
    [KEY.to_owned(), format!("\"{KEY}\""), format!("'{KEY}'")]
        .iter()
        .any(|key| line.strip_prefix(key.as_str()).is_some_and(|rest| rest.trim_start().starts_with(':')))
}

/// The line with another value; a comment behind the value stays.
fn replaced(line: &str, driver: CgroupDriver) -> String {
    let (key, rest) = line.split_once(':').unwrap_or((line, ""));
    let comment = rest.find(" #").map_or("", |at| rest.get(at..).unwrap_or_default());
    format!("{key}: {driver}{}", comment.trim_end_matches('\r'))
}
