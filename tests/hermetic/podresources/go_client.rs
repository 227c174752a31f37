//! The kubelet's own Go client, dialling in each way in which existing clients dial.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::server::TestServer;

/// Debian's compiler and libraries, as `make tools` unpacks them.
const PACKAGES: [&str; 10] = [
    "golang-1.24-go",
    "golang-1.24-src",
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
    "golang-google-genproto-dev",
    "golang-github-golang-protobuf-1-5-dev",
    "golang-github-gogo-protobuf-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
];
/// The kubelet's API, which is in no stable release yet.
const KUBELET: &str = "golang-github-kubernetes-kubelet-dev";

/// Directories of unpacked packages.
fn unpacked(suite: &str, packages: &[&str]) -> Option<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/packages.sh");
    let output = Command::new(script).arg(suite).args(packages).output().ok()?;
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect();
    output.status.success().then_some(lines)
}

/// A link to there, whatever an earlier run left.
fn link(from: &Path, to: &Path) {
    if fs::read_link(to).is_ok_and(|there| there == from) {
        return;
    }
    let _stale = fs::remove_file(to);
    symlink(from, to).unwrap();
}

/// The compiler in one tree, as it would be installed: its two packages link to one another.
fn toolchain(at: &Path, program: &Path, sources: &Path) {
    fs::create_dir_all(at.join("pkg")).unwrap();
    for name in ["bin", "VERSION", "go.env", "pkg/tool"] {
        link(&program.join("usr/lib/go-1.24").join(name), &at.join(name));
    }
    link(&program.join("usr/share/go-1.24/pkg/include"), &at.join("pkg/include"));
    for name in ["src", "lib"] {
        link(&sources.join("usr/share/go-1.24").join(name), &at.join(name));
    }
}

/// The built client; `None` (with a word) where the packages are not there.
fn client() -> Option<PathBuf> {
    let (Some(mut packages), Some(kubelet)) = (unpacked("trixie", &PACKAGES), unpacked("forky", &[KUBELET])) else {
        assert!(std::env::var_os("CI").is_none(), "run make tools: under CI this test must run");
        eprintln!("skipped: Debian's Go compiler and libraries are not on this machine");
        return None;
    };
    packages.extend(kubelet);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let (root, client) = (home.join("root"), home.join("client"));
    toolchain(&root, &packages[0], &packages[1]);
    let libraries: Vec<String> =
        packages.iter().map(|package| package.join("usr/share/gocode").display().to_string()).collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hermetic/podresources/go_client/main.go");
    let mut build = Command::new(root.join("bin/go"));
    build.args(["build", "-trimpath", "-o"]).arg(&client).arg(source);
    build.env("GOROOT", &root).env("GOPATH", libraries.join(":")).env("GOCACHE", home.join("cache"));
    build.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOENV", "off").env("CGO_ENABLED", "0");
    build.env("GOTOOLCHAIN", "local").env("HOME", &home);
    let built = build.stdin(Stdio::null()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(client)
}

#[tokio::test]
async fn the_kubelets_go_client_is_served_however_it_dials() {
    let Some(client) = tokio::task::spawn_blocking(client).await.unwrap() else { return };
    let server = TestServer::start().await;
    let mut asking = tokio::process::Command::new(client);
    let output = asking.arg(server.socket()).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{failed}{told}");
    let expected = [
        "List data/db/exporter [] memory=1048576@01 ",
        "List data/db/server [2 3] memory=1073741824@0 ",
        "List web/shop/app [] ",
        "Allocatable [1 2 3] memory=7516192768@0 memory=8589934592@1 ",
        "Get data/db/exporter [] memory=1048576@01 ",
        "Get data/db/server [2 3] memory=1073741824@0 ",
        "Get absent: rpc error: code = Unknown desc = pod absent in namespace data not found",
        "v1alpha1 data/db 2 containers",
        "v1alpha1 web/shop 1 containers",
    ];
    let ways = ["path and dialer", "passthrough", "new client", "unix target", "own authority"];
    let expected: Vec<String> =
        ways.iter().flat_map(|way| expected.iter().map(move |line| format!("{way}: {line}"))).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    server.shut_down().await;
}
