//! A drop-in of the agent's own for CRI-O, beside those of others: whether a file is one, and who has the last word.

use std::path::Path;

use trimtab_domain::spec::cgroup::CgroupDriver;

use crate::adapters::runtime_config::edit::crio_drop_in;

/// Whether this is the whole text of a drop-in of ours; nothing that others wrote is replaced.
pub(super) fn is_ours(text: &str) -> bool {
    [CgroupDriver::Systemd, CgroupDriver::Cgroupfs].iter().any(|driver| text == crio_drop_in(*driver))
}

/// Whether CRI-O hears this source after the file, or instead of it: flags, files of the same directory by name, and what lies in
/// another directory of drop-ins, since there is only one of them (crio(8), `--config-dir`).
pub(super) fn is_overruled_by(file: &Path, source: &str) -> bool {
    let other = Path::new(source);
    let is_file = other.is_absolute();
    match (other.parent(), file.parent()) {
        (Some(theirs), Some(ours)) if is_file && theirs.starts_with(ours) => other > file,
        (Some(theirs), _) if is_file => theirs.extension().is_some_and(|ending| ending == "d"),
        _ => !source.starts_with("default of"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_of_flags_later_names_and_another_directory() {
        let file = Path::new("/etc/crio/crio.conf.d/99-trimtab-cgroup-manager.conf");
        for (source, overruled) in [
            ("default of CRI-O", false),
            ("/etc/crio/crio.conf", false),
            ("/opt/crio/crio.conf", false),
            ("/etc/crio/crio.conf.d/10-x.conf", false),
            ("/etc/crio/crio.conf.d/99-trimtab-cgroup-manager.conf", false),
            ("/etc/crio/crio.conf.d/99-z.conf", true),
            ("/etc/crio/crio.conf.d/more/1.conf", true),
            ("/opt/crio/crio.conf.d/10-x.conf", true),
            ("command line of the running CRI-O", true),
        ] {
            assert_eq!(is_overruled_by(file, source), overruled, "{source}");
        }
    }

    #[test]
    fn only_a_file_that_is_ours_as_a_whole_counts_as_ours() {
        let ours = crio_drop_in(CgroupDriver::Cgroupfs);
        assert!(is_ours(&ours) && is_ours(&crio_drop_in(CgroupDriver::Systemd)));
        assert!(!is_ours(&format!("{ours}\n[crio.image]\n")) && !is_ours("[crio.runtime]\n") && !is_ours(""));
    }
}
