//! Transparent huge pages and the blocklist file.

use super::{Held, Planner, forgotten};
use crate::kernel::blocklist;
use crate::kernel::module::{ModuleName, ModuleState};
use crate::kernel::step::{Change, Occasion};
use crate::kernel::thp::{Choice, ThpFile};
use crate::kernel_file::Shown;
use crate::plan::Cause;
use crate::record::{Original, Restoration};

/// True if a record's object is one of these.
pub(super) fn knows(object: &str) -> bool {
    object == blocklist::PATH || ThpFile::ALL.iter().any(|file| file.object() == object)
}

impl Planner<'_> {
    pub(super) fn plan_thp(&mut self) {
        for (file, wish) in [(ThpFile::Enabled, &self.spec.thp_enabled), (ThpFile::Defrag, &self.spec.thp_defrag)] {
            match wish.as_deref() {
                Some(wish) => self.hold_thp(file, wish),
                None => self.release_thp(file),
            }
        }
    }

    fn hold_thp(&mut self, file: ThpFile, wish: &str) {
        let seen = self.seen;
        let object = file.object();
        let (text, access) = match seen.thp.get(&file) {
            Some(Shown::Value(text, access)) => (text, *access),
            Some(Shown::Unreadable(why)) => {
                let detail = format!("{} cannot be read, so it could not be given back: {why}", file.path());
                return self.refuse(object, wish, Cause::Unsupported, detail);
            }
            Some(Shown::Absent) | None => {
                let detail = format!("this kernel has no {}; it was built without transparent huge pages", file.path());
                return self.refuse(object, wish, Cause::Absent, detail);
            }
        };
        let choice = match Choice::parse(text) {
            Ok(choice) => choice,
            Err(error) => {
                let detail = format!("{} is not understood: {error}", file.path());
                return self.refuse(object, wish, Cause::Unsupported, detail);
            }
        };
        let held = Held { object, path: file.path(), wish, access };
        if choice.active == wish {
            if self.records.contains_key(object) {
                self.promise(object, Original::Unknown, wish, wish);
            }
            return;
        }
        if !choice.words.contains(&wish) {
            let detail = format!("this kernel takes {} only", choice.words.join(", "));
            return self.refuse(object, wish, Cause::InvalidValue, detail);
        }
        if self.may_write(&held) {
            let (from, to) = (choice.active.to_owned(), wish.to_owned());
            self.promise(object, Original::Value(from.clone()), &from, wish);
            self.chain([Change::SetThp { file, from, to, occasion: Occasion::Wish }]);
        }
    }

    fn release_thp(&mut self, file: ThpFile) {
        let (seen, object) = (self.seen, file.object());
        let Some(&record) = self.records.get(object) else { return };
        let (text, access) = match seen.thp.get(&file) {
            Some(Shown::Value(text, access)) => (text, *access),
            Some(Shown::Unreadable(_)) => return,
            Some(Shown::Absent) | None => return self.forget(object, "gone"),
        };
        let Ok(choice) = Choice::parse(text) else { return };
        let ours = |now: &str, ordered: &str| self.order(object).map_or(now == ordered, |order| order.is_ours(now));
        let same = |now: &str, other: &str| if other == record.ordered { ours(now, other) } else { now == other };
        match record.restoration(Some(choice.active), same) {
            Restoration::Write(to) => {
                let held = Held { object, path: file.path(), wish: &to, access };
                if self.may_write(&held) {
                    let from = choice.active.to_owned();
                    let set = Change::SetThp { file, from, to, occasion: Occasion::GiveBack };
                    self.chain([set, forgotten(object, "")]);
                }
            }
            Restoration::AlreadyOriginal => self.forget(object, ""),
            Restoration::Remove | Restoration::Leave => self.leave(object, choice.active, &record.original),
        }
    }

    pub(super) fn plan_blocklist(&mut self) {
        let modules = self.names(&self.spec.modules_block);
        self.tell_blocked_but_there(&modules);
        let seen = self.seen;
        let is_ours = seen.blocklist.as_deref().is_some_and(blocklist::is_ours);
        let recorded = self.records.contains_key(blocklist::PATH);
        if modules.is_empty() {
            if let Some(rejection) = seen.rejections.get(blocklist::PATH).filter(|_| is_ours) {
                return self.refuse(blocklist::PATH, "", rejection.cause, rejection.detail.clone());
            }
            match (is_ours, recorded) {
                // Our mark makes it ours, with or without a record: the ledger may have been lost.
                (true, true) => self.chain([Change::RemoveBlocklist, forgotten(blocklist::PATH, "")]),
                (true, false) => self.chain([Change::RemoveBlocklist]),
                (false, true) if seen.blocklist.is_none() => self.forget(blocklist::PATH, ""),
                (false, true) => self.forget(blocklist::PATH, "another program replaced the file"),
                (false, false) => {}
            }
            return;
        }
        let to = blocklist::render(&modules);
        let wish = blocklist::blocked(&to).join(" ");
        if seen.blocklist.as_ref().is_some_and(|text| *text == to) {
            return;
        }
        if seen.blocklist.is_some() && !is_ours {
            let detail = "the file is there without Trimtab's mark in its first line; move it away".to_owned();
            return self.refuse(blocklist::PATH, &wish, Cause::OwnedByOther, detail);
        }
        if !seen.has_modprobe_d {
            let detail = format!("this host has no {}; make it, or drop kernel.modules.block", blocklist::DIRECTORY);
            return self.refuse(blocklist::PATH, &wish, Cause::Absent, detail);
        }
        if let Some(rejection) = seen.rejections.get(blocklist::PATH).filter(|rejection| rejection.wish == to) {
            return self.refuse(blocklist::PATH, &wish, rejection.cause, rejection.detail.clone());
        }
        self.promise(blocklist::PATH, Original::Absent, "", &wish);
        self.chain([Change::WriteBlocklist { from: seen.blocklist.clone(), to }]);
    }

    fn tell_blocked_but_there(&mut self, modules: &[ModuleName]) {
        for module in modules {
            match self.seen.modules.get(module) {
                Some(ModuleState::Loaded { .. }) => {
                    let message = "the module is blocked and loaded: blocking stops later loads only".to_owned();
                    let remedy = "unload it (`modprobe -r`) or restart the node";
                    self.warn("blocked-module-loaded", &module.object(), message, remedy);
                }
                Some(ModuleState::BuiltIn) => {
                    let message = "the module is part of this kernel, so it cannot be blocked".to_owned();
                    let remedy = "start the kernel with initcall_blacklist=, or use another kernel";
                    self.warn("blocked-module-built-in", &module.object(), message, remedy);
                }
                _ => {}
            }
        }
    }

    /// The names of a list; what is none is refused.
    pub(super) fn names(&mut self, list: &[String]) -> Vec<ModuleName> {
        let mut names = Vec::new();
        for text in list {
            match ModuleName::parse(text) {
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(error) => self.refuse(&format!("module/{text}"), text, Cause::InvalidValue, error.to_string()),
            }
        }
        names
    }
}
