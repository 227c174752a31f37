//! The adapter on a folder that stands for a host.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A host root with a file outside of it that no path may reach.
fn host() -> (TempDir, HostFs) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("host");
    for directory in ["etc", "proc/sys/net/core", "sys/fs/cgroup/cpu,cpuacct"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(folder.path().join("secret"), "outside\n").unwrap();
    fs::write(root.join("secret"), "inside\n").unwrap();
    fs::write(root.join("proc/sys/net/core/somaxconn"), "128\n").unwrap();
    let files = HostFs::new(&root).unwrap();
    (folder, files)
}

#[test]
fn paths_that_are_not_plain_are_refused() {
    let (_folder, files) = host();
    for path in ["etc/hosts", "", "/etc/../secret", "/../secret", "/proc/sys/../../etc/hosts", "/etc/\0hosts", ".."] {
        let path = Path::new(path);
        let read = files.read(path).unwrap_err();
        assert_eq!(read.source.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        assert!(files.write(path, "1").is_err(), "{path:?}");
        assert!(files.replace(path, "1").is_err(), "{path:?}");
        assert!(files.remove(path).is_err(), "{path:?}");
        assert!(files.mode(path).is_err(), "{path:?}");
    }
}

#[test]
fn links_stay_within_the_host() {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let (folder, files) = host();
        links_stay_within(&folder, &HostFs { resolver, ..files });
    }
}

fn links_stay_within(folder: &TempDir, files: &HostFs) {
    let root = folder.path().join("host");
    symlink("../../secret", root.join("etc/up")).unwrap();
    symlink("/secret", root.join("etc/absolute")).unwrap();
    symlink("/etc", root.join("proc/sys/net/core/escape")).unwrap();
    fs::write(root.join("etc/hosts"), "names\n").unwrap();
    assert_eq!(files.read(Path::new("/etc/up")).unwrap().as_deref(), Some("inside\n"));
    assert_eq!(files.read(Path::new("/etc/absolute")).unwrap().as_deref(), Some("inside\n"));
    assert!(files.read(Path::new("/proc/sys/net/core/escape/hosts")).is_err());
    assert!(files.write(Path::new("/proc/sys/net/core/escape/hosts"), "1").is_err());
    assert!(files.write(Path::new("/etc/up"), "1").is_err(), "a write follows no link at its end");
    assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "names\n");
    assert_eq!(files.read_link(Path::new("/etc/absolute")).unwrap(), Some(PathBuf::from("/secret")));
    assert_eq!(files.read_link(Path::new("/etc/hosts")).unwrap(), None);
}

#[test]
fn both_resolvers_read_the_same() {
    let (folder, files) = host();
    let root = folder.path().join("host");
    for (link, target) in [
        ("a", "b"),
        ("b", "a"),
        ("etc/dots", "../../../../secret"),
        ("etc/self", "."),
        ("etc/deep", "/sys/fs/../../etc/./self/dots"),
        ("etc/gone", "nothing"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    let walking = HostFs { root: files.root.try_clone().unwrap(), resolver: Resolver::Walk };
    for path in [
        "/a",
        "/etc/dots",
        "/etc/self/self/dots",
        "/etc/deep",
        "/etc/gone",
        "/etc",
        "/secret",
        "/proc/sys/net/core/somaxconn",
        "/etc/nothing/x",
        "/secret/x",
    ] {
        let read = |files: &HostFs| files.read(Path::new(path)).map_err(|error| error.source.raw_os_error());
        assert_eq!(read(&walking), read(&files), "{path}");
    }
    let entries = walking.list(Path::new("/")).unwrap();
    assert!(entries.is_some_and(|entries| entries.len() == 6));
    assert_eq!(walking.list(Path::new("/etc")).unwrap(), files.list(Path::new("/etc")).unwrap());
}

#[test]
fn absence_is_a_value() {
    let (_folder, files) = host();
    for path in ["/etc/nothing", "/nowhere/at/all", "/secret/below/a/file"] {
        let path = Path::new(path);
        assert_eq!(files.read(path).unwrap(), None, "{path:?}");
        assert_eq!(files.list(path).unwrap(), None, "{path:?}");
        assert_eq!(files.mode(path).unwrap(), None, "{path:?}");
        assert_eq!(files.read_link(path).unwrap(), None, "{path:?}");
        files.remove(path).unwrap();
    }
}

#[test]
fn a_kernel_file_is_written_but_never_made() {
    let (folder, files) = host();
    let path = Path::new("/proc/sys/net/core/somaxconn");
    files.write(path, "1024").unwrap();
    // An ordinary file keeps the rest of its old text: the adapter does not truncate.
    assert_eq!(files.read(path).unwrap().as_deref(), Some("1024"));
    let error = files.write(Path::new("/proc/sys/net/core/absent"), "1").unwrap_err();
    assert_eq!(error.to_string(), r#"cannot write /proc/sys/net/core/absent (value "1")"#);
    assert!(!folder.path().join("host/proc/sys/net/core/absent").exists());
}

#[test]
fn a_file_is_replaced_whole_and_keeps_its_mode() {
    let (folder, files) = host();
    let path = Path::new("/etc/owned.conf");
    let real = folder.path().join("host/etc/owned.conf");
    files.replace(path, "one\n").unwrap();
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o644);
    fs::set_permissions(&real, Permissions::from_mode(0o600)).unwrap();
    files.replace(path, "two\n").unwrap();
    assert_eq!(files.read(path).unwrap().as_deref(), Some("two\n"));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<String> = files.list(Path::new("/etc")).unwrap().unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["owned.conf"], "no temporary file is left");
    files.remove(path).unwrap();
    assert!(!real.exists());
    assert!(files.replace(Path::new("/missing/owned.conf"), "x").is_err(), "directories are not made");
}

#[test]
fn long_and_undecodable_files_are_errors() {
    let (folder, files) = host();
    let root = folder.path().join("host");
    fs::write(root.join("etc/long"), vec![b'a'; 4 * 1024 * 1024 + 1]).unwrap();
    fs::write(root.join("etc/binary"), [0xff, 0xfe]).unwrap();
    assert_eq!(files.read(Path::new("/etc/long")).unwrap_err().source.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(files.read(Path::new("/etc/binary")).unwrap_err().source.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn entries_are_sorted_and_links_are_no_directories() {
    let (folder, files) = host();
    let root = folder.path().join("host/sys/fs/cgroup");
    symlink("cpu,cpuacct", root.join("cpu")).unwrap();
    let entries = files.list(Path::new("/sys/fs/cgroup")).unwrap().unwrap();
    let entry = |name: &str, is_directory| Entry { name: name.into(), is_directory };
    assert_eq!(entries, [entry("cpu", false), entry("cpu,cpuacct", true)]);
    assert_eq!(files.list(Path::new("/sys/fs/cgroup/cpu")).unwrap(), Some(Vec::new()), "but a path may go through one");
}

#[test]
fn the_mode_tells_whether_this_process_may_write() {
    let (_folder, files) = host();
    let path = Path::new("/proc/sys/net/core/somaxconn");
    assert_eq!(files.mode(path).unwrap(), Some(Mode { readable: true, writable: true, may_write: true }));
}
