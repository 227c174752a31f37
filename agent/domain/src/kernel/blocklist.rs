//! The one file of modprobe.d(5) that the agent owns: modules that must not be loaded.

use super::module::ModuleName;

/// The file.
pub const PATH: &str = "/etc/modprobe.d/trimtab-blocklist.conf";
/// Its directory.
pub const DIRECTORY: &str = "/etc/modprobe.d";
/// Its first line, which marks it as ours.
const MARK: &str = "# Owned by Trimtab: written from kernel.modules.block of the node profile, changes are undone.";

/// The text that blocks these modules. `blacklist` alone stops loading by device alias only; `install` stops it by name
/// and as a dependency, too.
#[must_use]
pub fn render(modules: &[ModuleName]) -> String {
    let mut text = format!("{MARK}\n");
    for module in modules {
        text.push_str(&format!("install {module} /bin/false\nblacklist {module}\n"));
    }
    text
}

/// True if the file is ours by its mark.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}

/// The modules that a text of ours blocks.
#[must_use]
pub fn blocked(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("blacklist ")).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_file_says_whose_it_is() {
        let modules = ["floppy", "usb-storage"].map(|name| ModuleName::parse(name).unwrap());
        let text = render(&modules);
        assert_eq!(
            text,
            "# Owned by Trimtab: written from kernel.modules.block of the node profile, changes are undone.\n\
             install floppy /bin/false\nblacklist floppy\ninstall usb_storage /bin/false\nblacklist usb_storage\n"
        );
        assert!(is_ours(&text) && !is_ours("") && !is_ours("blacklist floppy\n"));
        assert_eq!(blocked(&text), ["floppy", "usb_storage"]);
    }
}
