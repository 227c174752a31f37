//! `modprobe` in memory, acting on the files of a `FakeHost`. What it models, and why:
//!
//! - a loaded module appears below `/sys/module` with `initstate`, `refcnt` and `holders`: that is how the code under
//!   test sees that it worked;
//! - a module that cannot be loaded or unloaded, with each kind of obstacle, a given number of times;
//! - every call: a module that is there already must not be asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use trimtab::ports::modules::{ModuleError, ModuleObstacle, Modules};
use trimtab_domain::kernel::module::ModuleName;

use super::fake_host::FakeHost;

/// Modules of a node in memory.
#[derive(Clone)]
pub(crate) struct FakeModules {
    host: FakeHost,
    failing: Arc<Mutex<BTreeMap<String, (ModuleObstacle, usize)>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl FakeModules {
    pub(crate) fn new(host: &FakeHost) -> Self {
        Self { host: host.clone(), failing: Arc::default(), calls: Arc::default() }
    }

    /// The next `times` calls for this module fail.
    pub(crate) fn fail(&self, module: &str, obstacle: ModuleObstacle, times: usize) {
        self.failing.lock().unwrap().insert(module.to_owned(), (obstacle, times));
    }

    /// Failing modules work again.
    pub(crate) fn repair(&self) {
        self.failing.lock().unwrap().clear();
    }

    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// How many calls were made since they were taken.
    pub(crate) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn call(&self, deed: &str, module: &ModuleName) -> Result<(), ModuleError> {
        self.calls.lock().unwrap().push(format!("{deed} {module}"));
        match self.failing.lock().unwrap().get_mut(module.as_str()) {
            Some((obstacle, times)) if *times > 0 => {
                *times -= 1;
                let (command, status) = (format!("modprobe {deed} {module}"), "exit status: 1".to_owned());
                Err(ModuleError { obstacle: *obstacle, command, status, output: "no".into() })
            }
            _ => Ok(()),
        }
    }
}

impl Modules for FakeModules {
    async fn load(&self, module: &ModuleName) -> Result<(), ModuleError> {
        self.call("load", module)?;
        loaded(&self.host, module.as_str(), 0, &[]);
        Ok(())
    }

    async fn unload(&self, module: &ModuleName) -> Result<(), ModuleError> {
        self.call("unload", module)?;
        self.host.vanish(format!("/sys/module/{module}"));
        Ok(())
    }
}

/// What the kernel shows of a loaded module.
pub(crate) fn loaded(host: &FakeHost, module: &str, users: u32, holders: &[&str]) {
    let folder = format!("/sys/module/{module}");
    host.file(format!("{folder}/initstate"), "live\n").file(format!("{folder}/refcnt"), format!("{users}\n"));
    host.directory(format!("{folder}/holders"));
    for holder in holders {
        host.link(format!("{folder}/holders/{holder}"), format!("../../{holder}"));
    }
}
