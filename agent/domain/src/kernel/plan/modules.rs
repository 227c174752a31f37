//! Modules to load, and those that were loaded for a profile that names them no more.

use super::{Planner, forgotten};
use crate::kernel::module::{ModuleName, ModuleState};
use crate::kernel::step::Change;
use crate::plan::Cause;
use crate::record::Original;

/// What the ledger says of a module that we loaded.
const LOADED: &str = "loaded";
/// How it was before.
const UNLOADED: &str = "not loaded";

/// True if a record's object is one of these.
pub(super) fn knows(object: &str) -> bool {
    ModuleName::of_object(object).is_some()
}

impl Planner<'_> {
    pub(super) fn plan_modules(&mut self) {
        let wanted = self.names(&self.spec.modules_load);
        let blocked: Vec<ModuleName> =
            self.spec.modules_block.iter().filter_map(|name| ModuleName::parse(name).ok()).collect();
        for module in &wanted {
            self.hold_module(module, blocked.contains(module));
        }
        let recorded: Vec<ModuleName> =
            self.records.keys().filter_map(|object| ModuleName::of_object(object)).collect();
        for module in recorded.iter().filter(|module| !wanted.contains(module)) {
            self.release_module(module);
        }
    }

    fn hold_module(&mut self, module: &ModuleName, blocked: bool) {
        let object = module.object();
        if blocked {
            let detail = "the profile asks to load it and to block it; drop one".to_owned();
            return self.refuse(&object, LOADED, Cause::InvalidValue, detail);
        }
        let seen = self.seen;
        match seen.modules.get(module) {
            Some(ModuleState::BuiltIn | ModuleState::Loaded { .. }) => return,
            _ if !seen.loadable => {
                let detail =
                    "this kernel was built without loadable modules, and the module is no part of it".to_owned();
                return self.refuse(&object, LOADED, Cause::Unsupported, detail);
            }
            Some(ModuleState::Missing) => {
                let detail =
                    "the host has no such module for the running kernel; check the name, install the package that \
                              brings it (linux-modules-extra, kernel-modules), or restart into the newest kernel"
                        .to_owned();
                return self.refuse(&object, LOADED, Cause::Absent, detail);
            }
            _ => {}
        }
        if let Some(rejection) = seen.rejections.get(&object).filter(|rejection| rejection.wish == LOADED) {
            return self.refuse(&object, LOADED, rejection.cause, rejection.detail.clone());
        }
        self.promise(&object, Original::Absent, "", LOADED);
        self.chain([Change::Load(module.clone())]);
    }

    fn release_module(&mut self, module: &ModuleName) {
        let (seen, object) = (self.seen, module.object());
        let was_absent = self.records.get(object.as_str()).is_some_and(|record| record.original == Original::Absent);
        match seen.modules.get(module) {
            Some(ModuleState::Loaded { .. }) if !was_absent => self.leave(&object, LOADED, &Original::Unknown),
            Some(ModuleState::Loaded { users: Some(0), holders }) if holders.is_empty() => {
                if let Some(rejection) = seen.rejections.get(&object).filter(|rejection| rejection.wish == UNLOADED) {
                    return self.refuse(&object, UNLOADED, rejection.cause, rejection.detail.clone());
                }
                self.chain([Change::Unload(module.clone()), forgotten(&object, "")]);
            }
            Some(ModuleState::Loaded { users, holders }) => {
                let users = users.map_or_else(|| "something".to_owned(), |users| users.to_string());
                let by = if holders.is_empty() { String::new() } else { format!(" ({})", holders.join(", ")) };
                let detail = format!("it is in use by {users}{by}; it is unloaded once nothing uses it");
                self.refuse(&object, UNLOADED, Cause::OwnedByOther, detail);
            }
            _ => self.forget(&object, ""),
        }
    }
}
