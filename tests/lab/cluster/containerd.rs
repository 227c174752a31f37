//! A real containerd from Debian's packages, beside the system: its own root, its own state, hand-made images.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cri::{Cri, VersionRequest, VersionResponse};
use super::wait::until;

/// Where it listens for CRI.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where it listens for NRI.
pub(crate) const NRI_SOCKET: &str = "/run/nri/nri.sock";
const LIMIT: Duration = Duration::from_secs(60);

/// The Debian release that a containerd comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// containerd 1.6, which has no NRI.
    Bookworm,
    /// containerd 1.7, NRI off by default.
    Trixie,
    /// containerd 2.1, NRI on by default; Debian testing, so it changes.
    Forky,
}

impl Release {
    fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    /// What its version begins with.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Bookworm => "1.6.",
            Self::Trixie => "1.7.",
            Self::Forky => "2.",
        }
    }
}

/// Unpacked programs and an archive of images.
pub(crate) struct Files {
    release: Release,
    /// Directories of programs.
    path: Vec<PathBuf>,
    images: PathBuf,
}

/// Fetches what a containerd needs, or finds it in the cache; an error says why it cannot be had.
pub(crate) fn fetch(release: Release, folder: &Path) -> Result<Files, String> {
    let containerd = script("packages.sh", &[release.suite(), "containerd"])?;
    // A newer runc does not run on an older C library; this one runs on all.
    let runc = script("packages.sh", &["bookworm", "runc"])?;
    let path = vec![format!("{}/usr/bin", containerd.trim()).into(), format!("{}/usr/sbin", runc.trim()).into()];
    Ok(Files { release, path, images: make_images(folder)? })
}

/// Runs a script of the lab; its output, or what it complained of.
fn script(name: &str, arguments: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab").join(name);
    let output = Command::new(&path).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", path.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Loads an archive of images with `ctr`, and waits until pods can be made of them.
pub(crate) fn load_images(mut ctr: Command, archive: &Path) {
    ctr.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import"]).arg(archive);
    let output = ctr.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cri = Cri::connect(Path::new(SOCKET)).unwrap();
    until("the images are known", LIMIT, || {
        let unknown = ["localhost/pause:1", "localhost/app:1"].into_iter().find(|image| !cri.has_image(image));
        unknown.map_or(Ok(()), |image| Err(image.to_owned()))
    });
}

/// Makes the images in a folder.
pub(crate) fn make_images(folder: &Path) -> Result<PathBuf, String> {
    let busybox = script("packages.sh", &["bookworm", "busybox-static"])?;
    let images = folder.join("images.tar");
    script("images.sh", &[&format!("{}/bin/busybox", busybox.trim()), images.to_str().unwrap()])?;
    Ok(images)
}

/// A running containerd.
pub(crate) struct Containerd {
    files: Files,
    folder: PathBuf,
    child: Child,
}

impl Containerd {
    /// Starts it in namespaces that have a `/run` of their own, and loads the images. What it keeps is below `folder`.
    pub(crate) fn start(files: Files, folder: &Path) -> Self {
        fs::create_dir_all("/run/containerd").unwrap();
        fs::write(folder.join("config.toml"), config(files.release, &folder.join("root"), false)).unwrap();
        let child = spawn(&files, folder);
        let containerd = Self { files, folder: folder.to_owned(), child };
        containerd.await_answer();
        load_images(containerd.program("ctr"), &containerd.files.images);
        containerd
    }

    fn program(&self, name: &str) -> Command {
        program(&self.files, name)
    }

    fn await_answer(&self) {
        until("containerd answers", LIMIT, || {
            let cri = Cri::connect(Path::new(SOCKET)).map_err(|_| self.log())?;
            let version: VersionResponse =
                cri.call("Version", VersionRequest { version: "v1".into() }).map_err(|_| self.log())?;
            assert!(version.runtime_version.starts_with(self.files.release.version()), "{version:?}");
            Ok(())
        });
    }

    /// Ends it and starts it again; the containers go on meanwhile.
    pub(crate) fn restart(&mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.files, &self.folder);
        self.await_answer();
    }

    /// Everything that it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("containerd.log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Its shims and containers end with the PID namespace.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn program(files: &Files, name: &str) -> Command {
    let mut path = files.path.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>();
    path.push("/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let mut command = Command::new(files.path[0].join(name));
    command.env("PATH", path.join(":")).stdin(Stdio::null());
    command
}

fn spawn(files: &Files, folder: &Path) -> Child {
    let log = || fs::OpenOptions::new().create(true).append(true).open(folder.join("containerd.log")).unwrap();
    let mut command = program(files, "containerd");
    command.arg("--config").arg(folder.join("config.toml")).stdout(log()).stderr(log()).spawn().unwrap()
}

/// Its configuration: no network, no registry; the snapshotter that needs nothing of the file system.
pub(crate) fn config(release: Release, root: &Path, systemd: bool) -> String {
    let version = if release == Release::Forky { 3 } else { 2 };
    let mut text = format!("version = {version}\nroot = '{}'\nstate = '/run/containerd'\n", root.display());
    let mut section = |name: &str, lines: &str| writeln!(text, "[plugins.'io.containerd.{name}]\n{lines}").unwrap();
    if release == Release::Trixie {
        section("nri.v1.nri'", &format!("disable = false\nsocket_path = '{NRI_SOCKET}'"));
    }
    // Without CAP_SYS_RESOURCE no process may lower its score, and runc ends with a puzzling error.
    let score = "restrict_oom_score_adj = true";
    let runtimes = if release == Release::Forky {
        section("cri.v1.images'", "snapshotter = 'native'");
        section("cri.v1.images'.pinned_images", "sandbox = 'localhost/pause:1'");
        section("cri.v1.runtime'", score);
        "cri.v1.runtime'.containerd.runtimes.runc"
    } else {
        section("grpc.v1.cri'", &format!("sandbox_image = 'localhost/pause:1'\n{score}"));
        section("grpc.v1.cri'.containerd", "snapshotter = 'native'");
        "grpc.v1.cri'.containerd.runtimes.runc"
    };
    section(runtimes, "runtime_type = 'io.containerd.runc.v2'");
    section(&format!("{runtimes}.options"), &format!("SystemdCgroup = {systemd}"));
    text
}
