//! The profile on a real file system: picked up however it is replaced, never put out of force by a bad one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags};
use tempfile::TempDir;
use tokio::sync::watch::Receiver;
use tokio_util::sync::{CancellationToken, DropGuard};
use trimtab::adapters::profile_file::{LoadedProfile, follow, read};

/// Longest wait for something that is expected within milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

struct Scene {
    root: TempDir,
    path: PathBuf,
    state: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("etc");
        fs::create_dir(&mount).unwrap();
        Self { path: mount.join("profile.yaml"), state: root.path().join("state"), root }
    }

    fn mount(&self) -> &Path {
        self.path.parent().unwrap()
    }

    fn follow(&self) -> Followed {
        let cancel = CancellationToken::new();
        let seen = follow(&self.path, &self.state, cancel.clone());
        Followed { seen, _cancel: cancel.drop_guard() }
    }

    /// The kept copy, once it holds this profile.
    async fn kept(&self, name: &str) -> String {
        let copy = async {
            loop {
                match fs::read_to_string(self.state.join("profile.last-good")) {
                    Ok(copy) if copy.ends_with(&text(name)) => return copy,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(LIMIT, copy).await.unwrap_or_else(|_| panic!("{name} is not kept"))
    }

    /// What the kubelet does to a mounted ConfigMap: a new dated directory, `..data` swapped by a rename.
    fn publish(&self, version: &str, text: &str) {
        let mount = self.mount();
        fs::create_dir(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("profile.yaml"), text).unwrap();
        symlink(version, mount.join("..data_tmp")).unwrap();
        let before = fs::read_link(mount.join("..data")).ok();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        match before {
            Some(old) => fs::remove_dir_all(mount.join(old)).unwrap(),
            None => symlink("..data/profile.yaml", &self.path).unwrap(),
        }
    }
}

struct Followed {
    seen: Receiver<LoadedProfile>,
    _cancel: DropGuard,
}

impl Followed {
    fn now(&mut self) -> LoadedProfile {
        self.seen.borrow_and_update().clone()
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&LoadedProfile) -> bool) -> LoadedProfile {
        let seen = self.seen.wait_for(|loaded| condition(loaded));
        if let Ok(Ok(loaded)) = tokio::time::timeout(LIMIT, seen).await {
            return loaded.clone();
        }
        panic!("not seen in time: {what}; last {:?}", self.now())
    }

    async fn until_named(&mut self, name: &str) -> LoadedProfile {
        self.until(name, |loaded| loaded.report.valid && loaded.report.name == name).await
    }
}

fn text(name: &str) -> String {
    format!("apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: {name}}}\nspec: {{}}\n")
}

fn named(loaded: &LoadedProfile) -> Option<&str> {
    loaded.spec.as_ref().map(|spec| spec.name.as_str())
}

/// One way to change a profile: what is there before it is followed, and the one change after.
type Way = (&'static str, fn(&Scene), fn(&Scene));

/// Each change is made alone and once, so that no other event can have been the one that was seen.
const WAYS: &[Way] = &[
    ("made in place", |_| {}, |scene| fs::write(&scene.path, text("new")).unwrap()),
    (
        "edited in place",
        |scene| fs::write(&scene.path, text("old")).unwrap(),
        |scene| fs::write(&scene.path, text("new")).unwrap(),
    ),
    (
        "replaced by a rename",
        |scene| {
            fs::write(&scene.path, text("old")).unwrap();
            fs::write(scene.mount().join(".swp"), text("new")).unwrap();
        },
        |scene| fs::rename(scene.mount().join(".swp"), &scene.path).unwrap(),
    ),
    (
        "made as a hard link, which nobody closes",
        |scene| fs::write(scene.root.path().join("other"), text("new")).unwrap(),
        |scene| fs::hard_link(scene.root.path().join("other"), &scene.path).unwrap(),
    ),
    (
        "made as a symbolic link",
        |scene| fs::write(scene.root.path().join("other"), text("new")).unwrap(),
        |scene| symlink(scene.root.path().join("other"), &scene.path).unwrap(),
    ),
    (
        "written through another name in another directory",
        |scene| {
            fs::write(&scene.path, text("old")).unwrap();
            fs::hard_link(&scene.path, scene.root.path().join("other")).unwrap();
        },
        |scene| fs::write(scene.root.path().join("other"), text("new")).unwrap(),
    ),
    (
        "the target of a link edited",
        |scene| {
            fs::write(scene.root.path().join("other"), text("old")).unwrap();
            symlink("../other", &scene.path).unwrap();
        },
        |scene| fs::write(scene.root.path().join("other"), text("new")).unwrap(),
    ),
    (
        "the missing target of a link made",
        |scene| symlink("../other", &scene.path).unwrap(),
        |scene| fs::write(scene.root.path().join("other"), text("new")).unwrap(),
    ),
    (
        "the directory swapped",
        |scene| {
            fs::write(&scene.path, text("old")).unwrap();
            fs::create_dir(scene.root.path().join("fresh")).unwrap();
            fs::write(scene.root.path().join("fresh/profile.yaml"), text("new")).unwrap();
        },
        |scene| {
            let (fresh, mount) = (scene.root.path().join("fresh"), scene.mount());
            nix::fcntl::renameat2(AT_FDCWD, &fresh, AT_FDCWD, mount, RenameFlags::RENAME_EXCHANGE).unwrap();
        },
    ),
    (
        "still open after the write",
        |scene| fs::write(&scene.path, text("old")).unwrap(),
        |scene| {
            let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&scene.path).unwrap();
            file.write_all(text("new").as_bytes()).unwrap();
            std::mem::forget(file);
        },
    ),
];

#[tokio::test]
async fn a_profile_is_followed_however_it_is_changed() {
    for (name, before, change) in WAYS {
        let scene = Scene::new();
        before(&scene);
        let mut followed = scene.follow();
        assert_ne!(named(&followed.now()), Some("new"), "{name}");
        change(&scene);
        let seen = followed.until(name, |loaded| loaded.report.valid && loaded.report.name == "new").await;
        assert_eq!(named(&seen), Some("new"), "{name}");
    }
}

#[tokio::test]
async fn change_after_change_is_followed() {
    let scene = Scene::new();
    let mut followed = scene.follow();
    assert_eq!(named(&followed.now()), None);
    assert!(!followed.now().report.valid);
    for (name, generation) in [("one", 1), ("two", 2), ("three", 3), ("four", 4)] {
        if generation % 2 == 0 {
            let other = scene.mount().join(".profile.swp");
            fs::write(&other, text(name)).unwrap();
            fs::rename(&other, &scene.path).unwrap();
        } else {
            fs::write(&scene.path, text(name)).unwrap();
        }
        assert_eq!(followed.until_named(name).await.report.generation, generation);
    }
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_links() {
    let scene = Scene::new();
    scene.publish("..2026_01", &text("one"));
    let mut followed = scene.follow();
    assert_eq!(named(&followed.now()), Some("one"));
    for (version, name) in [("..2026_02", "two"), ("..2026_03", "three")] {
        scene.publish(version, &text(name));
        assert_eq!(named(&followed.until_named(name).await), Some(name));
    }
    scene.publish("..2026_04", "kind: Nonsense\n");
    let bad = followed.until("refusal", |loaded| !loaded.report.valid).await;
    assert_eq!((named(&bad), bad.report.generation), (Some("three"), 3));
    scene.publish("..2026_05", &text("five"));
    assert_eq!(followed.until_named("five").await.report.generation, 4);
}

#[tokio::test]
async fn a_whole_directory_may_come_late_go_and_come_back() {
    let scene = Scene::new();
    fs::remove_dir(scene.mount()).unwrap();
    let mut followed = scene.follow();
    assert_eq!(named(&followed.now()), None);
    fs::create_dir(scene.mount()).unwrap();
    fs::write(&scene.path, text("late")).unwrap();
    followed.until_named("late").await;
    fs::write(&scene.path, text("edited")).unwrap();
    followed.until_named("edited").await;
    fs::rename(scene.mount(), scene.root.path().join("aside")).unwrap();
    followed.until("gone", |loaded| !loaded.report.valid).await;
    let fresh = scene.root.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    fs::write(fresh.join("profile.yaml"), text("back")).unwrap();
    fs::rename(&fresh, scene.mount()).unwrap();
    followed.until_named("back").await;
    // A link to another directory, then the link turned.
    fs::remove_dir_all(scene.mount()).unwrap();
    for name in ["left", "right"] {
        fs::create_dir(scene.root.path().join(name)).unwrap();
        fs::write(scene.root.path().join(name).join("profile.yaml"), text(name)).unwrap();
        symlink(scene.root.path().join(name), scene.root.path().join("turn")).unwrap();
        fs::rename(scene.root.path().join("turn"), scene.mount()).unwrap();
        followed.until_named(name).await;
    }
}

#[tokio::test]
async fn a_bad_or_missing_profile_leaves_the_last_good_one_in_force() {
    let scene = Scene::new();
    fs::write(&scene.path, text("good")).unwrap();
    let mut followed = scene.follow();
    assert_eq!(named(&followed.now()), Some("good"));
    let kept = scene.kept("good").await;

    fs::write(&scene.path, text("bad").replace("spec: {}", "spec: {sysctl: {}}")).unwrap();
    let bad = followed.until("refusal", |loaded| !loaded.report.valid).await;
    assert_eq!((named(&bad), bad.report.generation, bad.report.name.as_str()), (Some("good"), 1, "good"));
    assert_eq!(bad.report.errors.len(), 1);
    assert!(bad.report.errors[0].contains("profile.yaml:4:8: spec.sysctl: unknown field"), "{:?}", bad.report.errors);

    fs::remove_file(&scene.path).unwrap();
    let gone = followed.until("removal", |loaded| loaded.report.errors[0].contains("No such file")).await;
    assert_eq!((named(&gone), gone.report.valid), (Some("good"), false));

    fs::create_dir(&scene.path).unwrap();
    let directory = followed.until("directory", |loaded| loaded.report.errors[0].contains("ordinary file")).await;
    assert_eq!(named(&directory), Some("good"));
    fs::remove_dir(&scene.path).unwrap();
    assert_eq!(scene.kept("good").await, kept);

    fs::write(&scene.path, text("good")).unwrap();
    let again = followed.until("the good one again", |loaded| loaded.report.valid).await;
    assert_eq!(again.report.generation, 1, "the same specification is no new generation");
    assert_eq!(again.report.errors, [] as [String; 0]);
}

#[tokio::test]
async fn the_last_good_profile_outlives_a_restart() {
    let scene = Scene::new();
    fs::write(&scene.path, text("good")).unwrap();
    let first = scene.follow();
    scene.kept("good").await;
    drop(first);
    for spoil in ["nonsense: [", ""] {
        fs::write(&scene.path, spoil).unwrap();
        let loaded = scene.follow().now();
        assert_eq!((named(&loaded), loaded.report.valid, loaded.report.generation), (Some("good"), false, 1));
        assert!(loaded.report.source.ends_with("profile.last-good"), "{}", loaded.report.source);
        assert_eq!(loaded.report.errors.len(), 1);
        assert_eq!(loaded.findings, []);
    }
    fs::remove_file(&scene.path).unwrap();
    let mut followed = scene.follow();
    assert_eq!(named(&followed.now()), Some("good"));
    fs::write(&scene.path, text("next")).unwrap();
    assert_eq!(followed.until_named("next").await.report.generation, 2);
    scene.kept("next").await;
}

#[tokio::test]
async fn a_damaged_copy_is_set_aside_and_never_used() {
    let whole = {
        let scene = Scene::new();
        fs::write(&scene.path, text("good")).unwrap();
        let _followed = scene.follow();
        scene.kept("good").await
    };
    let torn = whole[..whole.len() - 5].to_owned();
    let rows = [
        ("torn", torn, "bytes follow the first line"),
        ("edited", whole.replace("good", "evil"), "checksum"),
        ("no header", text("good"), "the first line is not"),
        ("empty", String::new(), "it has no first line"),
        ("later version", whole.replacen(" 1 ", " 2 ", 1), "version 2"),
    ];
    for (name, copy, expected) in rows {
        let scene = Scene::new();
        fs::create_dir(&scene.state).unwrap();
        let path = scene.state.join("profile.last-good");
        fs::write(&path, &copy).unwrap();
        let loaded = scene.follow().now();
        assert_eq!(named(&loaded), None, "{name}");
        let [finding] = loaded.findings.as_slice() else { panic!("{name}: {:?}", loaded.findings) };
        assert_eq!(finding.code, "last-good-profile-damaged");
        assert!(finding.message.contains(expected), "{name}: {}", finding.message);
        assert!(!path.exists(), "{name}");
        let aside = scene.state.join("profile.last-good.damaged-0");
        assert_eq!(fs::read_to_string(aside).unwrap(), copy, "{name}");
    }
}

#[tokio::test]
async fn a_profile_that_cannot_be_kept_is_in_force_all_the_same() {
    let scene = Scene::new();
    fs::write(&scene.state, "a file where the directory should be").unwrap();
    fs::write(&scene.path, text("good")).unwrap();
    let mut followed = scene.follow();
    assert_eq!((named(&followed.now()), followed.now().report.valid), (Some("good"), true));
    let told =
        |loaded: &LoadedProfile| loaded.findings.iter().any(|finding| finding.code == "last-good-profile-not-kept");
    assert_eq!(named(&followed.until("finding", told).await), Some("good"));
    // Once the directory can be made, the next profile is kept, and the finding goes.
    fs::remove_file(&scene.state).unwrap();
    fs::write(&scene.path, text("next")).unwrap();
    followed.until("no finding", |loaded| loaded.report.name == "next" && loaded.findings.is_empty()).await;
    scene.kept("next").await;
}

#[tokio::test]
async fn a_copy_that_could_not_be_written_is_tried_again() {
    let scene = Scene::new();
    fs::write(&scene.state, "a file where the directory should be").unwrap();
    fs::write(&scene.path, text("good")).unwrap();
    let mut followed = scene.follow();
    followed.until("finding", |loaded| loaded.findings.len() == 1).await;
    fs::remove_file(&scene.state).unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    scene.kept("good").await;
    followed.until("no finding", |loaded| loaded.findings.is_empty()).await;
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let scene = Scene::new();
    let missing = read(&scene.path).unwrap_err().to_string();
    assert!(missing.contains("profile.yaml: cannot be read: found No such file"), "{missing}");
    let directory = read(scene.mount()).unwrap_err().to_string();
    assert!(directory.contains("allowed an ordinary file"), "{directory}");
    symlink("profile.yaml", &scene.path).unwrap();
    assert!(read(&scene.path).unwrap_err().to_string().contains("symbolic link"));
    fs::remove_file(&scene.path).unwrap();
    nix::unistd::mkfifo(&scene.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(
        read(&scene.path).unwrap_err().to_string().contains("allowed an ordinary file"),
        "a pipe is not waited for"
    );
}
