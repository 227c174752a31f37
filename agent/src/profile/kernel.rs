//! Section `kernel`: transparent huge pages, huge pages per NUMA node, modules.

use std::collections::BTreeMap;

use trimtab_domain::quantity::Quantity;
use trimtab_domain::spec::kernel::KernelSpec;

use super::reader::{Cursor, Object, Problems};

/// `transparent_hugepage/enabled` (admin-guide/mm/transhuge.rst).
const THP_ENABLED: [&str; 3] = ["always", "madvise", "never"];
/// `transparent_hugepage/defrag`.
const THP_DEFRAG: [&str; 5] = ["always", "defer", "defer+madvise", "madvise", "never"];
/// Highest NUMA node id of any kernel build (`CONFIG_NODES_SHIFT` is at most 10).
const MAX_NUMA_NODE: u64 = 1023;
/// Smallest and largest huge page of any architecture: 64 KiB (arm64) and 16 GiB (powerpc).
const PAGE_SIZES: (u64, u64) = (64 << 10, 16 << 30);
/// Longest module name (`MODULE_NAME_LEN` without the final NUL, 64-bit).
const MAX_MODULE_NAME: usize = 55;

/// Fields:
/// - `transparentHugePages.enabled`: `always`, `madvise`, `never`; `.defrag`: those, `defer`, `defer+madvise`;
/// - `hugePages`: list of `{size: 2Mi, node: 0, count: 16}`; a pair of size and node occurs once;
/// - `modules.load`, `modules.block`: lists of module names; none may be in both.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<KernelSpec> {
    let section = section.object(&["transparentHugePages", "hugePages", "modules"], problems)?;
    let thp = section.field("transparentHugePages").and_then(|cursor| cursor.object(&["enabled", "defrag"], problems));
    let mut word = |name: &str, words: &[&'static str]| {
        let cursor = thp.as_ref().and_then(|thp| thp.field(name))?;
        cursor.choice(words, problems).map(str::to_owned)
    };
    let (thp_enabled, thp_defrag) = (word("enabled", &THP_ENABLED), word("defrag", &THP_DEFRAG));
    let huge_pages = section.field("hugePages").map(|cursor| read_huge_pages(&cursor, problems)).unwrap_or_default();
    let modules = section.field("modules").and_then(|cursor| cursor.object(&["load", "block"], problems));
    let (modules_load, modules_block) = modules.map(|modules| read_modules(&modules, problems)).unwrap_or_default();
    Some(KernelSpec { thp_enabled, thp_defrag, huge_pages, modules_load, modules_block })
}

fn read_huge_pages(pages: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<(u64, u32), u64> {
    let mut counts = BTreeMap::new();
    for item in pages.list("a list of {size, node, count}", problems).unwrap_or_default() {
        let Some(entry) = item.object(&["size", "node", "count"], problems) else { continue };
        let size = entry.required("size", "a page size such as 2Mi", problems);
        let node = entry.required("node", "a NUMA node", problems);
        let count = entry.required("count", "a number of pages", problems);
        let size = size.and_then(|cursor| read_page_size(&cursor, problems));
        let node = node.and_then(|cursor| cursor.integer(0, MAX_NUMA_NODE, problems));
        let count_cursor = count.clone();
        let count = count.and_then(|cursor| cursor.integer(0, u64::from(u32::MAX), problems));
        let (Some(size), Some(node), Some(count)) = (size, node, count) else { continue };
        if let (None, Some(cursor)) = (size.checked_mul(count), count_cursor) {
            problems.refuse(cursor.problem("more memory than can be addressed").allowed("size times count below 16Ei"));
        }
        let Ok(node) = u32::try_from(node) else { continue };
        if counts.insert((size, node), count).is_some() {
            problems
                .refuse(item.problem(format!("pages of this size on node {node} are listed twice")).allowed("once"));
        }
    }
    counts
}

/// Bytes of one page: a quantity that is a power of two.
fn read_page_size(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<u64> {
    let allowed = "a power of two from 64Ki to 16Gi, such as 2Mi or 1Gi";
    let text = cursor.quantity_text(allowed, problems)?;
    let bytes = Quantity::parse(text).ok().and_then(|size| size.as_int64()).and_then(|size| u64::try_from(size).ok());
    let bytes = bytes.filter(|size| size.is_power_of_two() && (PAGE_SIZES.0..=PAGE_SIZES.1).contains(size));
    if bytes.is_none() {
        let unit = if text.ends_with(['M', 'G', 'k']) { format!("did you mean \"{text}i\"?") } else { String::new() };
        problems.refuse(cursor.problem("not a huge page size").allowed(allowed).hint(unit));
    }
    bytes
}

fn read_modules(modules: &Object<'_>, problems: &mut Problems) -> (Vec<String>, Vec<String>) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let mut read = |field: &'static str| {
        let mut names = Vec::new();
        let list = modules.field(field).and_then(|cursor| cursor.list("a list of module names", problems));
        for item in list.unwrap_or_default() {
            let Some(name) = read_module(&item, problems) else { continue };
            // The kernel takes '-' and '_' for the same.
            match seen.insert(name.replace('-', "_"), field) {
                None => names.push(name.to_owned()),
                Some(first) if first == field => {
                    problems.refuse(item.problem("listed twice").allowed("each module once"));
                }
                Some(first) => {
                    let other = format!("is in modules.{first} too");
                    problems.refuse(item.problem(other).allowed("load or block, not both"));
                }
            }
        }
        names
    };
    (read("load"), read("block"))
}

fn read_module<'a>(item: &Cursor<'a>, problems: &mut Problems) -> Option<&'a str> {
    let allowed = "a module name: letters, digits, '_' and '-', at most 55 characters";
    let name = item.text(allowed, problems)?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > MAX_MODULE_NAME || name.starts_with('-') || !name.chars().all(good) {
        let stem = name.split(".ko").next().unwrap_or(name);
        let hint = if stem == name { String::new() } else { format!("did you mean {stem:?}?") };
        problems.refuse(item.problem("not a module name").allowed(allowed).hint(hint));
        return None;
    }
    Some(name)
}
