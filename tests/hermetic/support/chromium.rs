//! A real browser without a window, driven over its debugging pipe (Chrome DevTools Protocol).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tokio::process::{Child, Command};

use super::server::within;

pub(crate) struct Chromium {
    _process: Child,
    _folder: TempDir,
    orders: Sender,
    answers: Receiver,
    unread: Vec<u8>,
    last: u64,
    /// What the browser told without being asked.
    pub(crate) events: Vec<Value>,
}

/// An open page.
#[derive(Clone)]
pub(crate) struct Tab(String);

fn program() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let places =
        ["/usr/bin", "/usr/local/bin"].into_iter().flat_map(|place| names.map(|name| Path::new(place).join(name)));
    places.into_iter().find(|path| path.exists())
}

impl Chromium {
    /// `None` where there is no browser.
    pub(crate) async fn start() -> Option<Self> {
        let program = program()?;
        let folder = TempDir::new().unwrap();
        let (orders, answers) = (folder.path().join("orders"), folder.path().join("answers"));
        for path in [&orders, &answers] {
            nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        }
        // Opened for both ways, so that nobody waits for the other side.
        let orders_in = OpenOptions::new().read_write(true).open_sender(&orders).unwrap();
        let answers_out = OpenOptions::new().read_write(true).open_receiver(&answers).unwrap();
        // The browser wants the pipe at descriptors 3 and 4, where only a shell can put it without unsafe code.
        let script = "exec \"$1\" --headless --remote-debugging-pipe --no-sandbox --disable-gpu --no-first-run \
                      --disable-dev-shm-usage --disable-background-networking --disable-extensions --hide-scrollbars \
                      --force-device-scale-factor=1 --user-data-dir=\"$2\" about:blank 3<\"$3\" 4>\"$4\"";
        let process = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .args([&program, &folder.path().join("profile"), &orders, &answers])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut browser = Self {
            _process: process,
            _folder: folder,
            orders: orders_in,
            answers: answers_out,
            unread: Vec::new(),
            last: 0,
            events: Vec::new(),
        };
        browser.call(None, "Browser.getVersion", json!({})).await;
        Some(browser)
    }

    async fn read(&mut self) -> Value {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).unwrap();
            }
            assert_ne!(within(self.answers.read_buf(&mut self.unread)).await.unwrap(), 0, "the browser ended");
        }
    }

    /// The result of a command.
    pub(crate) async fn call(&mut self, tab: Option<&Tab>, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(Tab(session)) = tab {
            message["sessionId"] = json!(session);
        }
        let text = message.to_string() + "\0";
        within(self.orders.write_all(text.as_bytes())).await.unwrap();
        loop {
            let mut answer = self.read().await;
            if answer["id"] == json!(id) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    /// Opens a page in a window of 1280 by 900.
    pub(crate) async fn open(&mut self, url: &str) -> Tab {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" })).await["targetId"].take();
        let params = json!({ "targetId": target, "flatten": true });
        let session = self.call(None, "Target.attachToTarget", params).await["sessionId"].take();
        let tab = Tab(session.as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility"] {
            self.call(Some(&tab), &format!("{domain}.enable"), json!({})).await;
        }
        self.resize(&tab, 1280, 900).await;
        self.call(Some(&tab), "Page.navigate", json!({ "url": url })).await;
        self.until(&tab, "document.readyState === 'complete' && location.href !== 'about:blank'").await;
        tab
    }

    pub(crate) async fn resize(&mut self, tab: &Tab, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call(Some(tab), "Emulation.setDeviceMetricsOverride", size).await;
    }

    /// What an expression of JavaScript is.
    pub(crate) async fn value(&mut self, tab: &Tab, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call(Some(tab), "Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, tab: &Tab, expression: &str) {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while self.value(tab, expression).await != json!(true) {
            assert!(tokio::time::Instant::now() < deadline, "never came true: {expression}; {:?}", self.complaints());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn press(&mut self, tab: &Tab, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call(Some(tab), "Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key })).await;
        }
    }

    /// `light` or `dark`.
    pub(crate) async fn prefer(&mut self, tab: &Tab, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(Some(tab), "Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Keeps a picture of the whole page below the build directory, to be looked at.
    pub(crate) async fn photograph(&mut self, tab: &Tab, name: &str) {
        let mut shot = self.call(Some(tab), "Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = from_base64(shot["data"].take().as_str().unwrap());
        assert!(picture.starts_with(b"\x89PNG"), "{name} is no picture");
        std::fs::write(folder.join(name).with_extension("png"), picture).unwrap();
    }

    /// Errors of scripts, and everything that a policy has blocked.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            _ => false,
        };
        self.events.iter().filter(bad).map(ToString::to_string).collect()
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|group| {
        let number = group.iter().enumerate().fold(0, |number, (at, digit)| number | digit << (18 - 6 * at));
        number.to_be_bytes()[1..group.len()].to_vec()
    });
    bytes.collect()
}
