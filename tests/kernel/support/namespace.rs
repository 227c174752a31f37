//! Fresh namespaces for tests on the real kernel.
//!
//! A network namespace has its own `net.*` sysctls and NAT tables, a mount namespace its own mounts; both vanish with
//! the last process in them, so no test changes the machine. A network namespace is a property of a thread: procfs
//! shows `net.*` of the thread that opens the file. A test therefore runs on a thread of its own, and what that
//! thread starts (threads, programs, a current-thread runtime) is inside as well.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Marks the child process of [`in_user_namespace`].
const INSIDE: &str = "TRIMTAB_TEST_IN_USER_NAMESPACE";

/// Tells the child process of [`in_pid_namespace`] the cgroup that it may use, which is removed afterwards.
pub(crate) const CGROUP: &str = "TRIMTAB_TEST_CGROUP";

/// What is mounted afresh inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// Nothing: `/proc/sys/net` follows the thread without it.
    Inherited,
    /// A sysfs of the new network namespace over `/sys` (for `/sys/class/net`); what was mounted below the old one,
    /// cgroups for instance, is not visible then.
    FreshSysfs,
}

/// Runs `test` on a thread of its own inside a fresh network and mount namespace, mounts private. Needs root (or
/// `CAP_SYS_ADMIN`); without it the test is skipped with a word, or fails if `CI` is set. A panic of `test` is passed on.
pub(crate) fn in_fresh_namespaces<T: Send>(mounts: Mounts, test: impl FnOnce() -> T + Send) -> Option<T> {
    let entered = thread::scope(|scope| {
        let body = move || match enter(mounts) {
            Ok(()) => Ok(test()),
            Err(errno) => Err(errno),
        };
        scope.spawn(body).join()
    });
    match entered {
        Ok(Ok(value)) => Some(value),
        Ok(Err(errno)) => {
            cannot_run(&format!("no fresh namespaces: {errno}"));
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn enter(mounts: Mounts) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    if mounts == Mounts::FreshSysfs {
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    }
    Ok(())
}

/// Runs `test` as root of a fresh user namespace (with fresh network and mount namespaces that it owns), as on a
/// rootless node. `name` is the full name of the calling test: a process with several threads cannot enter a user
/// namespace, so the test binary starts itself again below `unshare`, with only that test. Root becomes `nobody`
/// first: a user namespace that maps the real root still owns the files of the node.
pub(crate) fn in_user_namespace(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        test();
        return;
    }
    if let Err(why) = probe() {
        cannot_run(&why);
        return;
    }
    // A copy, because nobody need not be able to reach the folder in which the test was built.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("kernel-tests");
    // By a program: what another thread forks meanwhile might hold a copy of ours open for writing (ETXTBSY).
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&binary).status().unwrap();
    assert!(copied.success());
    let mut child = unshare_command();
    child.arg(binary).args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1").current_dir("/");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside the user namespace:\n{text}");
    assert!(text.contains("1 passed"), "no test is called {name}:\n{text}");
}

/// Runs `test` in fresh PID, network and mount namespaces with a `/run` of its own, so that a container runtime, its shims
/// and its containers end with it. `name` is the full name of the calling test, which starts itself again as in
/// [`in_user_namespace`]. Cgroups have no namespace here: those named by [`CGROUP`] are removed when all has ended.
pub(crate) fn in_pid_namespace(name: &str, test: impl FnOnce()) {
    if std::env::var_os(CGROUP).is_some() {
        let none: Option<&str> = None;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        test();
        return;
    }
    let unshare = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        cannot_run("no fresh PID namespace (root is needed)");
        return;
    }
    let cgroup = format!("trimtab-test-{}-{}", std::process::id(), name.replace(':', "-"));
    let mut child = Command::new("unshare");
    child.args(unshare).arg(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"]).env(CGROUP, &cgroup);
    let output = child.output().unwrap();
    remove_cgroups(Path::new("/sys/fs/cgroup"), &cgroup);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside the namespaces:\n{text}");
    assert!(text.contains("1 passed"), "no test is called {name}:\n{text}");
    // The first line of a test follows its name without a line feed.
    let told = |line: &str| ["measured: ", "skipped: "].iter().find_map(|start| line.find(start));
    for line in text.lines().filter_map(|line| line.get(told(line)?..)) {
        eprintln!("{line}");
    }
}

/// Removes the cgroups of this name from every hierarchy.
fn remove_cgroups(mounts: &Path, name: &str) {
    let hierarchies = std::fs::read_dir(mounts).unwrap().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([mounts.to_owned()]) {
        let directory = hierarchy.join(name);
        // The kernel finishes the exit of the last process a moment after its parent knows.
        let gone = (0..1000).any(|_| {
            remove_tree(&directory);
            let gone = !directory.exists();
            if !gone {
                thread::sleep(Duration::from_millis(2));
            }
            gone
        });
        assert!(gone, "{} could not be removed", directory.display());
    }
}

fn remove_tree(directory: &Path) {
    for child in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    // Tried again by the caller.
    let _busy = std::fs::remove_dir(directory);
}

fn unshare_command() -> Command {
    let unshare = ["--user", "--map-root-user", "--net", "--mount", "--propagation", "private", "--"];
    let mut command = Command::new("unshare");
    if nix::unistd::Uid::effective().is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare"]);
    }
    command.args(unshare);
    command
}

fn probe() -> Result<(), String> {
    match unshare_command().arg("true").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no user namespace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("util-linux is not installed".into()),
        Err(error) => Err(format!("cannot run unshare: {error}")),
    }
}

/// Says why a test is skipped; with `CI` set that is a failure, because there it must run.
pub(crate) fn cannot_run(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "this test must run in CI, but: {why}");
    eprintln!("skipped: {why}");
}

#[test]
fn a_fresh_network_namespace_has_its_own_sysctls() {
    let path = "/proc/sys/net/core/somaxconn";
    let outside = std::fs::read_to_string(path).unwrap();
    let inside = in_fresh_namespaces(Mounts::FreshSysfs, || {
        std::fs::write(path, "77").unwrap();
        let interfaces = std::fs::read_dir("/sys/class/net").unwrap().count();
        let child = Command::new("cat").arg(path).output().unwrap().stdout;
        (std::fs::read_to_string(path).unwrap(), child, interfaces)
    });
    assert_eq!(std::fs::read_to_string(path).unwrap(), outside);
    if let Some((text, child, interfaces)) = inside {
        assert_eq!((text.as_str(), child.as_slice(), interfaces), ("77\n", b"77\n".as_slice(), 1));
    }
}

#[test]
fn a_user_namespace_has_no_rights_on_the_node() {
    in_user_namespace("support::namespace::a_user_namespace_has_no_rights_on_the_node", || {
        let present = std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
        let error = std::fs::write("/proc/sys/vm/swappiness", present).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        std::fs::write("/proc/sys/net/core/somaxconn", "78").unwrap();
    });
}
