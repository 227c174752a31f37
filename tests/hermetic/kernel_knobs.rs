//! The subsystem `kernel` on a node in memory: transparent huge pages, huge pages, modules.

mod huge_pages;
mod modules;
mod transparent;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use trimtab::subsystems::kernel::Kernel;
use trimtab_domain::kernel::step::KernelStep;
use trimtab_domain::plan::{Plan, Refusal};
use trimtab_domain::record::{Original, Record};
use trimtab_domain::spec::{KernelSpec, NodeSpec};

use crate::laws::{Fixture, Pass, pass, prove_five_laws, texts};
use crate::support::fake_host::{Contents, FakeHost};
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_modules::FakeModules;

const THP: &str = "/sys/kernel/mm/transparent_hugepage";
const TREE: &str = "/lib/modules/6.8.0-31-generic";

/// A node with the subsystem on it.
struct Node {
    host: FakeHost,
    modules: FakeModules,
    ledger: FakeLedger,
    subsystem: Kernel<FakeHost, FakeModules, FakeLedger>,
}

impl Node {
    fn new() -> Self {
        let host = FakeHost::new();
        host.file("/proc/sys/kernel/osrelease", "6.8.0-31-generic\n").file("/proc/modules", "");
        host.file(format!("{TREE}/modules.builtin"), "kernel/fs/ext4/ext4.ko\n");
        host.file(
            format!("{TREE}/modules.dep"),
            "kernel/net/br-netfilter.ko.zst: kernel/net/bridge.ko.zst\nkernel/x/floppy.ko:\n",
        );
        host.file(format!("{TREE}/modules.alias"), "alias ip_conntrack nf_conntrack\n");
        host.directory("/etc/modprobe.d");
        choice(&host, "enabled", "always [madvise] never");
        choice(&host, "defrag", "always defer defer+madvise [madvise] never");
        let (modules, ledger) = (FakeModules::new(&host), FakeLedger::new());
        let subsystem = Kernel::new(Arc::new(host.clone()), Arc::new(modules.clone()), Arc::new(ledger.clone()));
        Self { host, modules, ledger, subsystem }
    }

    /// The agent starts anew: only the node and the ledger remember.
    fn restart(&mut self) {
        let (host, modules) = (Arc::new(self.host.clone()), Arc::new(self.modules.clone()));
        self.subsystem = Kernel::new(host, modules, Arc::new(self.ledger.clone()));
    }

    /// A resync: everything is tried again.
    fn subsystem_forgets(&self) {
        use trimtab::reconcile::Subsystem;
        self.subsystem.forget_rejections();
    }

    async fn pass(&self, spec: &KernelSpec) -> Pass<KernelStep> {
        pass(&self.subsystem, &whole(spec)).await
    }

    /// A pass after which nothing is left to do.
    async fn settle(&self, spec: &KernelSpec) -> Pass<KernelStep> {
        let pass = self.pass(spec).await;
        let failures: Vec<&String> = pass.failures.iter().map(|(_, cause)| cause).collect();
        assert!(failures.is_empty() && pass.left.is_empty(), "failures {failures:?}, left {:?}", texts(&pass.left));
        pass
    }

    fn shows(&self, path: impl AsRef<Path>) -> String {
        self.host.text(path.as_ref()).unwrap_or_else(|| panic!("{} is absent", path.as_ref().display()))
    }
}

fn whole(spec: &KernelSpec) -> NodeSpec {
    NodeSpec { kernel: spec.clone(), ..NodeSpec::default() }
}

fn causes(refusals: &[Refusal]) -> Vec<(&str, &str)> {
    refusals.iter().map(|refusal| (refusal.object.as_str(), refusal.cause.as_str())).collect()
}

/// The steps that change the node.
fn changes(plan: &Plan<KernelStep>) -> Vec<String> {
    texts(plan).into_iter().filter(|text| !text.starts_with("ledger")).collect()
}

/// As mm/huge_memory.c has it: a word goes in, all words come out with that one in brackets.
fn choice(host: &FakeHost, name: &str, text: &str) {
    let words: Vec<String> = text.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned()).collect();
    host.file(format!("{THP}/{name}"), format!("{text}\n"));
    host.on_write(format!("{THP}/{name}"), move |written, _| {
        let written = written.trim();
        if !words.iter().any(|word| word == written) {
            return Err(Errno::EINVAL);
        }
        let mark = |word: &String| if word == written { format!("[{word}]") } else { word.clone() };
        Ok(words.iter().map(mark).collect::<Vec<_>>().join(" "))
    });
}

fn pool_folder(node: u32, kib: u64) -> String {
    format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB")
}

/// A pool as mm/hugetlb.c keeps it: it grows as far as there is memory, what is in use stays as surplus.
fn pool(host: &FakeHost, node: u32, kib: u64, used: u64, most: u64) {
    let folder = pool_folder(node, kib);
    let file = move |name: &str| Path::new(&folder).join(name);
    host.file(file("nr_hugepages"), format!("{used}\n")).file(file("free_hugepages"), "0\n");
    host.file(file("surplus_hugepages"), "0\n");
    host.directory(format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB"));
    let (free, surplus) = (file("free_hugepages"), file("surplus_hugepages"));
    host.on_write(file("nr_hugepages"), move |text, contents| {
        let asked: u64 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        let total = asked.min(most).max(used);
        contents.insert(free.clone(), format!("{}\n", total - used));
        contents.insert(surplus.clone(), format!("{}\n", used.saturating_sub(asked)));
        Ok(total.to_string())
    });
}

struct Lawful(Node);

fn lawful() -> Lawful {
    let node = Node::new();
    pool(&node.host, 0, 2048, 0, 1000);
    pool(&node.host, 1, 2048, 4, 1000);
    pool(&node.host, 1, 1_048_576, 0, 2);
    Lawful(node)
}

impl Fixture for Lawful {
    type Sub = Kernel<FakeHost, FakeModules, FakeLedger>;
    type State = (Contents, BTreeMap<(String, String), Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.0.subsystem
    }

    fn spec(&self) -> NodeSpec {
        whole(&KernelSpec {
            thp_enabled: Some("never".into()),
            thp_defrag: Some("defer+madvise".into()),
            huge_pages: BTreeMap::from([((2 << 20, 0), 512), ((2 << 20, 1), 8), ((1 << 30, 1), 2)]),
            modules_load: vec!["br-netfilter".into(), "ext4".into()],
            modules_block: vec!["floppy".into()],
        })
    }

    fn state(&self) -> Self::State {
        (self.0.host.snapshot(), self.0.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.0.host.attempts() + self.0.modules.calls())
    }

    fn drift(&self) {
        self.0.host.write_by_other(format!("{THP}/enabled"), "always");
        self.0.host.write_by_other(pool_folder(0, 2048) + "/nr_hugepages", "0");
        self.0.host.write_by_other(
            "/etc/modprobe.d/trimtab-blocklist.conf",
            &format!("{}\n# edited", self.0.shows("/etc/modprobe.d/trimtab-blocklist.conf")),
        );
        self.0.host.vanish("/sys/module/br_netfilter");
    }

    fn break_one(&self) -> Option<String> {
        self.0.host.fail_writes(format!("{THP}/defrag"), Errno::EIO, usize::MAX);
        Some("transparent_hugepage/defrag".into())
    }

    fn repair(&self) {
        self.0.host.repair();
    }
}

#[tokio::test]
async fn the_five_laws_hold() {
    prove_five_laws(lawful).await;
}

#[tokio::test]
async fn records_that_say_nothing_are_dropped() {
    let node = Node::new();
    let record = |object: &str, original| Record { object: object.into(), original, ordered: "never".into() };
    node.ledger.insert("kernel", record("transparent_hugepage/enabled", Original::Unknown));
    node.ledger.insert("kernel", record("hugepages-2048kB/node7", Original::Value("4".into())));
    node.ledger.insert("kernel", record("module/../../etc", Original::Absent));
    node.ledger.insert("kernel", record("odd", Original::Absent));
    let pass = node.settle(&KernelSpec::default()).await;
    assert_eq!(changes(&pass.plan), Vec::<String>::new());
    assert!(node.ledger.snapshot().is_empty());
    assert_eq!(pass.plan.findings[0].code, "original-unknown");
}
