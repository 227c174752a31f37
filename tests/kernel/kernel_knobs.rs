//! The subsystem `kernel` on the real kernel. Transparent huge pages and the pools of huge pages belong to the whole
//! machine, so each test changes little, one at a time, and puts back exactly what was there, whatever happens.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trimtab::adapters::host_fs::HostFs;
use trimtab::adapters::modprobe::Modprobe;
use trimtab::subsystems::kernel::Kernel;
use trimtab_domain::kernel::huge_pages::Pool;
use trimtab_domain::record::Record;
use trimtab_domain::spec::{KernelSpec, NodeSpec};

use crate::laws::{Fixture, pass, prove_five_laws, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::namespace::{cannot_run, in_user_namespace};

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// The machine has one set of these files, and tests run side by side.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Files whose text is put back in the end.
struct Restored {
    texts: Vec<(PathBuf, String)>,
    _turn: MutexGuard<'static, ()>,
}

impl Restored {
    /// Takes note of the files; `None` if this process may not write them.
    fn of(files: &[PathBuf]) -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = Vec::new();
        for file in files {
            let shown = fs::read_to_string(file).unwrap_or_default();
            let active = shown.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
            let text = active.unwrap_or(shown.trim()).to_owned();
            if text.is_empty() || fs::write(file, &text).is_err() {
                cannot_run(&format!("{} cannot be written", file.display()));
                return None;
            }
            texts.push((file.clone(), text));
        }
        Some(Self { texts, _turn: turn })
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        for (file, text) in &self.texts {
            fs::write(file, text).unwrap();
        }
    }
}

struct Machine {
    subsystem: Kernel<HostFs, Modprobe, FakeLedger>,
    ledger: FakeLedger,
    spec: KernelSpec,
    files: Vec<PathBuf>,
}

impl Machine {
    fn new(spec: KernelSpec, files: &[PathBuf]) -> Self {
        let (root, ledger) = (Path::new("/"), FakeLedger::new());
        let host = Arc::new(HostFs::new(root).unwrap());
        let modules = Arc::new(Modprobe::new("modprobe", root));
        let subsystem = Kernel::new(host, modules, Arc::new(ledger.clone()));
        Self { subsystem, ledger, spec, files: files.to_vec() }
    }
}

impl Fixture for Machine {
    type Sub = Kernel<HostFs, Modprobe, FakeLedger>;
    type State = (Vec<String>, BTreeMap<(String, String), Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.subsystem
    }

    fn spec(&self) -> NodeSpec {
        NodeSpec { kernel: self.spec.clone(), ..NodeSpec::default() }
    }

    fn state(&self) -> Self::State {
        let texts = self.files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        (texts, self.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        None
    }

    fn drift(&self) {
        fs::write(format!("{THP}/defrag"), "madvise").unwrap();
    }

    fn break_one(&self) -> Option<String> {
        // No file of the kernel fails for a while; the double does.
        None
    }

    fn repair(&self) {}
}

fn total_gib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib >> 20
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_five_laws_hold_for_transparent_huge_pages() {
    let files = ["enabled", "defrag"].map(|name| Path::new(THP).join(name));
    let Some(_restored) = Restored::of(&files) else { return };
    let spec = KernelSpec {
        thp_enabled: Some("never".into()),
        thp_defrag: Some("defer+madvise".into()),
        ..KernelSpec::default()
    };
    let untouched = || {
        // What the law before left: the next one starts from an untouched node.
        files.iter().for_each(|file| fs::write(file, "madvise").unwrap());
        Machine::new(spec.clone(), &files)
    };
    run(prove_five_laws(untouched));
}

#[test]
fn a_pool_holds_what_was_asked_and_is_given_back() {
    let pool = Pool { page_bytes: 2 << 20, node: 0 };
    let file = PathBuf::from(pool.folder()).join("nr_hugepages");
    let Some(restored) = Restored::of(std::slice::from_ref(&file)) else { return };
    let before: u64 = restored.texts[0].1.parse().unwrap();
    let spec = KernelSpec { huge_pages: BTreeMap::from([((2 << 20, 0), before + 2)]), ..KernelSpec::default() };
    let machine = Machine::new(spec, std::slice::from_ref(&file));
    let held = run(pass(&machine.subsystem, &machine.spec()));
    assert!(held.failures.is_empty() && held.left.is_empty(), "{:?}", texts(&held.left));
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), (before + 2).to_string());
    let released = run(pass(&machine.subsystem, &NodeSpec::default()));
    assert!(released.failures.is_empty() && released.left.is_empty(), "{:?}", texts(&released.left));
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), before.to_string());
    assert!(machine.ledger.snapshot().is_empty());
}

#[test]
fn more_pages_than_there_is_memory_are_refused_with_what_the_kernel_gave() {
    let pool = Pool { page_bytes: 1 << 30, node: 0 };
    let file = PathBuf::from(pool.folder()).join("nr_hugepages");
    let Some(_restored) = Restored::of(std::slice::from_ref(&file)) else { return };
    if total_gib() > 64 {
        // The kernel would take every free gigabyte of a large machine for a moment.
        eprintln!("skipped: this machine has more than 64 GiB");
        return;
    }
    // Gigantic pages: the kernel looks for whole free gigabytes and does not reclaim half of the machine for them.
    let spec = KernelSpec { huge_pages: BTreeMap::from([((1 << 30, 0), 100_000)]), ..KernelSpec::default() };
    let machine = Machine::new(spec, &[]);
    for _ in 0..2 {
        let held = run(pass(&machine.subsystem, &machine.spec()));
        assert!(held.failures.is_empty() && held.left.is_empty(), "{:?}", texts(&held.left));
        let causes: Vec<&str> = held.left.refusals.iter().map(|refusal| refusal.cause.as_str()).collect();
        assert_eq!(causes, ["insufficient"]);
        assert!(held.left.refusals[0].detail.contains("of 100000 pages"), "{}", held.left.refusals[0].detail);
    }
    let released = run(pass(&machine.subsystem, &NodeSpec::default()));
    assert!(released.failures.is_empty() && released.left.is_empty(), "{:?}", texts(&released.left));
}

#[test]
fn a_rootless_node_gets_refusals_and_no_failure() {
    in_user_namespace("kernel_knobs::a_rootless_node_gets_refusals_and_no_failure", || {
        let spec = KernelSpec {
            thp_enabled: Some("never".into()),
            huge_pages: BTreeMap::from([((2 << 20, 0), 7)]),
            modules_load: vec!["no_such_module".into()],
            modules_block: vec!["floppy".into()],
            ..KernelSpec::default()
        };
        let machine = Machine::new(spec, &[]);
        let held = run(pass(&machine.subsystem, &machine.spec()));
        assert!(held.failures.is_empty() && held.left.is_empty(), "{:?}", texts(&held.left));
        assert!(held.left.refusals.len() >= 3, "{:?}", held.left.refusals);
    });
}
