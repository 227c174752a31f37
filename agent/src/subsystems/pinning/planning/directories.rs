//! The directories above the containers: they keep covering everything that pods can use.

use trimtab_domain::cgroup::tree::{Cpuset, PodTree};
use trimtab_domain::cpuset::CpuSet;

use super::{Planner, When};
use crate::subsystems::pinning::decide::Rule;
use crate::subsystems::pinning::facts::{self, CPUS, file_object};

impl Planner<'_> {
    pub(super) fn plan_directories(&mut self, tree: &PodTree, file: &'static str) {
        let levels: [(Vec<&Cpuset>, When, When); 3] = [
            (vec![&tree.root], When::WidenRoot, When::NarrowRoot),
            (tree.classes.iter().collect(), When::WidenClasses, When::NarrowClasses),
            (tree.pods.iter().map(|pod| &pod.cpuset).collect(), When::WidenPods, When::NarrowPods),
        ];
        for (directories, widen, narrow) in levels {
            for directory in directories {
                match self.rule(file) {
                    Rule::LeaveAlone => {}
                    Rule::Enforce => self.widen(directory, file, widen),
                    // Version 1 takes no process where either file is empty.
                    Rule::GiveBack if self.needs_filling(directory, file) => {
                        self.widen(directory, file, widen);
                    }
                    Rule::GiveBack => self.restore_directory(directory, file, narrow),
                }
            }
        }
    }

    /// True if memory nodes must be filled in although memory is not pinned, so that CPUs can be.
    fn needs_filling(&self, cpuset: &Cpuset, file: &str) -> bool {
        file != CPUS
            && !self.inherits
            && self.decision.cpus == Rule::Enforce
            && (facts::configured(cpuset, file) == Some("") || self.was_empty(cpuset, file))
    }

    fn widen(&mut self, directory: &Cpuset, file: &'static str, when: When) {
        let Some(text) = facts::configured(directory, file) else { return };
        if text.is_empty() && self.inherits {
            return;
        }
        let all = self.usable(file);
        // A text that is no list is replaced like any other that does not cover everything.
        let set = CpuSet::parse(text).unwrap_or_default();
        if all.is_subset(&set) {
            return;
        }
        let new = set.union(&all).to_string();
        self.promise(&file_object(&directory.path, file), text, &new);
        let step = self.write(directory, file, &new);
        self.push(when, vec![step]);
    }
}
