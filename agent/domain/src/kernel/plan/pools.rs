//! Huge pages per NUMA node and size.

use std::collections::BTreeSet;

use super::{Held, Planner, forgotten};
use crate::kernel::huge_pages::{Counts, Pool};
use crate::kernel::observation::PoolShown;
use crate::kernel::step::{Change, Occasion};
use crate::plan::Cause;
use crate::record::{Original, Restoration};

/// True if a record's object is one of these.
pub(super) fn knows(object: &str) -> bool {
    Pool::parse(object).is_some()
}

impl Planner<'_> {
    pub(super) fn plan_pools(&mut self) {
        let spec = self.spec;
        let wished =
            spec.huge_pages.iter().map(|(&(page_bytes, node), &pages)| (Pool { page_bytes, node }, Some(pages)));
        let wished: Vec<(Pool, Option<u64>)> = wished.collect();
        let names: BTreeSet<Pool> = wished.iter().map(|(pool, _)| *pool).collect();
        let recorded = self.records.keys().filter_map(|object| Pool::parse(object));
        let mut pools: Vec<(Pool, Option<u64>)> =
            recorded.filter(|pool| !names.contains(pool)).map(|p| (p, None)).collect();
        pools.extend(wished);
        let before = self.chains.len();
        for (pool, wish) in pools {
            match wish {
                Some(pages) => self.hold_pool(pool, pages),
                None => self.release_pool(pool),
            }
        }
        // Shrinking makes room for what grows; larger pages need it most, because theirs must be in one piece.
        let mut chains = self.chains.split_off(before);
        chains.sort_by_key(|chain| match chain.first().map(|step| step.change()) {
            Some(Change::SetPages { from, to, .. }) if to < from => (0, 0),
            Some(Change::SetPages { pool, .. }) => (1, u64::MAX - pool.page_bytes),
            _ => (2, 0),
        });
        self.chains.append(&mut chains);
    }

    fn hold_pool(&mut self, pool: Pool, pages: u64) {
        let (seen, object, wish) = (self.seen, pool.to_string(), pages.to_string());
        let (counts, access, free_bytes) = match seen.pools.get(&pool) {
            Some(PoolShown::Value { counts, access, free_bytes }) => (*counts, *access, *free_bytes),
            Some(PoolShown::Unreadable(why)) => {
                return self.refuse(&object, &wish, Cause::Unsupported, format!("it is not understood: {why}"));
            }
            Some(PoolShown::Absent) | None => {
                let detail = self.why_absent(pool);
                return self.refuse(&object, &wish, Cause::Absent, detail);
            }
        };
        let ordered = counts.ordered();
        self.tell_in_use(pool, counts, pages);
        if ordered == pages {
            if self.records.contains_key(object.as_str()) {
                self.promise(&object, Original::Unknown, &wish, &wish);
            }
            return;
        }
        let now = ordered.to_string();
        let is_best = self.order(&object).is_some_and(|order| order.grants(&wish, &now));
        let missing = pages.saturating_sub(ordered).saturating_mul(pool.page_bytes);
        // What the kernel once gave instead is all it has, until more memory is free than is missing.
        let in_vain = seen.rejections.get(&object).is_some_and(|rejection| rejection.wish == wish);
        if is_best && (in_vain || free_bytes.is_none_or(|free| free <= missing)) {
            let detail = too_few(pages, ordered, free_bytes);
            return self.refuse(&object, &wish, Cause::Insufficient, detail);
        }
        let path = pool.folder();
        if self.may_write(&Held { object: &object, path: &path, wish: &wish, access }) {
            self.promise(&object, Original::Value(now.clone()), &now, &wish);
            self.chain([Change::SetPages { pool, from: ordered, to: pages, occasion: Occasion::Wish }]);
        }
    }

    fn release_pool(&mut self, pool: Pool) {
        let (seen, object) = (self.seen, pool.to_string());
        let Some(&record) = self.records.get(object.as_str()) else { return };
        let (counts, access) = match seen.pools.get(&pool) {
            Some(PoolShown::Value { counts, access, .. }) => (*counts, *access),
            Some(PoolShown::Unreadable(_)) => return,
            Some(PoolShown::Absent) | None => return self.forget(&object, "gone"),
        };
        let now = counts.ordered().to_string();
        let is_ours = self.order(&object).is_some_and(|order| order.is_ours(&now));
        match record.restoration(Some(&now), |a, b| if b == record.ordered { is_ours } else { a == b }) {
            Restoration::Write(was) => match was.parse() {
                Ok(to) => {
                    self.tell_in_use(pool, counts, to);
                    let path = pool.folder();
                    if self.may_write(&Held { object: &object, path: &path, wish: &was, access }) {
                        let set = Change::SetPages { pool, from: counts.ordered(), to, occasion: Occasion::GiveBack };
                        self.chain([set, forgotten(&object, "")]);
                    }
                }
                Err(_) => self.leave(&object, &now, &Original::Unknown),
            },
            Restoration::AlreadyOriginal => self.forget(&object, ""),
            Restoration::Remove | Restoration::Leave => self.leave(&object, &now, &record.original),
        }
    }

    /// Pages in use are never taken away: the kernel counts them as surplus and frees each when it is released.
    fn tell_in_use(&mut self, pool: Pool, counts: Counts, pages: u64) {
        if counts.in_use() > pages {
            let over = counts.in_use() - pages;
            let message = format!(
                "{} of {} pages are in use and {pages} are to stay: {over} pages remain until they are released",
                counts.in_use(),
                counts.total
            );
            self.warn(
                "huge-pages-in-use",
                &pool.to_string(),
                message,
                "stop what uses them if the memory is needed now",
            );
        }
    }

    fn why_absent(&self, pool: Pool) -> String {
        let list = |numbers: &mut dyn Iterator<Item = String>| numbers.collect::<Vec<_>>().join(", ");
        if !self.seen.numa_nodes.contains(&pool.node) {
            let nodes = list(&mut self.seen.numa_nodes.iter().map(ToString::to_string));
            return format!("this machine has no NUMA node {}; it has {nodes}", pool.node);
        }
        if self.seen.page_sizes.is_empty() {
            return "this kernel was built without huge pages".to_owned();
        }
        let sizes = list(&mut self.seen.page_sizes.iter().map(|bytes| format!("{} KiB", bytes / 1024)));
        format!("this machine has no huge pages of {} KiB; it has {sizes}", pool.page_bytes / 1024)
    }
}

/// Why a pool stays too small, with the numbers.
#[must_use]
pub fn too_few(asked: u64, given: u64, free_bytes: Option<u64>) -> String {
    let free = free_bytes.map_or_else(String::new, |bytes| format!("; {} MiB of the node are free", bytes >> 20));
    format!(
        "the kernel gave {given} of {asked} pages{free}; reserve them at boot (hugepages=), free memory on the node, or ask \
         for fewer"
    )
}
