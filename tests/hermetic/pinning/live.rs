//! A runtime asks, pods come and go, settings change, CPUs go offline, sessions end: at no moment are two containers on
//! a CPU that one of them owns, nobody moves without cause, and everything is given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::watch;
use trimtab::reconcile::node_view::NodeView;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::{self, BestEffort, Burstable, Guaranteed};

use super::{converge, static_cpus};
use crate::laws::{pass, texts};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::node_runtime::{Made, NodeRuntime};

#[derive(Debug, Clone)]
enum Event {
    Pod {
        qos: QosClass,
        milli: u64,
    },
    Join {
        pod: usize,
        milli: u64,
    },
    Exit(usize),
    StartAgain(usize),
    StopPod(usize),
    Resize {
        container: usize,
        milli: u64,
    },
    /// Somebody sets CPUs through the runtime.
    Hand(usize),
    /// The agent is killed and starts again.
    Kill,
    /// The session ends, and the agent does not notice anything for a while.
    Disconnect,
    Connect,
    Settings(usize),
    Offline(u32),
    Online,
}

fn event() -> impl Strategy<Value = (Event, bool)> {
    let ask = prop_oneof![Just(1000_u64), Just(2000), Just(3000), Just(1500), Just(500)];
    let qos = prop_oneof![4 => Just(Guaranteed), 1 => Just(Burstable), 1 => Just(BestEffort)];
    let event = prop_oneof![
        8 => (qos, ask.clone()).prop_map(|(qos, milli)| Event::Pod { qos, milli }),
        4 => (any::<usize>(), ask.clone()).prop_map(|(pod, milli)| Event::Join { pod, milli }),
        4 => any::<usize>().prop_map(Event::Exit),
        5 => any::<usize>().prop_map(Event::StartAgain),
        4 => any::<usize>().prop_map(Event::StopPod),
        2 => (any::<usize>(), ask).prop_map(|(container, milli)| Event::Resize { container, milli }),
        1 => any::<usize>().prop_map(Event::Hand),
        1 => Just(Event::Kill),
        1 => Just(Event::Disconnect),
        2 => Just(Event::Connect),
        1 => (0_usize..3).prop_map(Event::Settings),
        1 => prop_oneof![2_u32..6, 8_u32..12].prop_map(Event::Offline),
        1 => Just(Event::Online),
    ];
    (event, any::<bool>())
}

fn ask(qos: QosClass, milli: u64) -> Ask {
    if qos == BestEffort { Ask { milli: 0, memory: None } } else { Ask { milli, memory: Some(1 << 28) } }
}

fn settings(which: usize) -> NodeSpec {
    let mut spec = static_cpus(if which == 1 { "0-1,6-7" } else { "0,6" });
    let managers = spec.resource_managers.as_mut().unwrap();
    managers.extensions.resize_in_place = true;
    if which == 2 {
        managers.cpu_manager_policy_options.insert("full-pcpus-only".into(), "true".into());
    }
    spec
}

/// What a container owns, by pod and name.
type Owned = BTreeMap<(String, String), CpuSet>;

/// The node, the runtime, the agent, and what is expected of them.
struct Play {
    node: FakeCgroups,
    runtime: NodeRuntime,
    agent: Pinning,
    view: watch::Receiver<Arc<NodeView>>,
    spec: NodeSpec,
    owned: Owned,
    /// What containers that are over owned, while nothing happened that would let them lose it.
    kept: Owned,
    online: CpuSet,
    hands: u32,
    pods: u32,
}

impl Play {
    async fn new(driver: CgroupDriver) -> Self {
        let node = FakeCgroups::new(Version::V2, driver, Shape { nodes: 2, cores_per_node: 3, threads: 2 });
        let (agent, view) = Pinning::new(node.ports());
        let (owned, kept) = (Owned::new(), Owned::new());
        let runtime = NodeRuntime::new(&node);
        let (spec, online) = (settings(0), CpuSet::range(0, 11));
        let mut play = Self { node, runtime, agent, view, spec, owned, kept, online, hands: 0, pods: 0 };
        converge(&play.agent, &play.spec).await;
        play.runtime.connect(play.agent.desk());
        play
    }

    fn connected(&self) -> bool {
        self.runtime.plugin.is_some()
    }

    fn whole(made: &Made, qos: QosClass) -> Option<usize> {
        let whole = qos == Guaranteed && made.ask.milli.is_multiple_of(1000);
        whole.then(|| usize::try_from(made.ask.milli / 1000).unwrap())
    }

    /// What holds at every moment while a runtime asks: nobody runs on CPUs that another one owns.
    fn check_exclusive(&self, when: &str) {
        let living = self.runtime.living();
        for (pod, name, made) in &living {
            let Some(cpus) = self.owned.get(&(pod.sandbox.uid.0.clone(), (*name).to_owned())) else { continue };
            let effective = self.node.effective(&made.path);
            assert_eq!(effective, cpus.intersection(&self.online), "{}/{name} {when}", pod.sandbox.uid);
            for (other_pod, other_name, other) in &living {
                if other.path != made.path {
                    let theirs = self.node.effective(&other.path);
                    assert!(
                        theirs.is_disjoint(cpus),
                        "{}/{other_name} runs on {theirs}, {}/{name} owns {cpus}, {when}",
                        other_pod.sandbox.uid,
                        pod.sandbox.uid
                    );
                }
            }
        }
    }

    /// A container was created with an answer: who is entitled has its CPUs from the first moment.
    fn note_created(&mut self, uid: &str, name: &str) {
        let key = (uid.to_owned(), name.to_owned());
        let pod = &self.runtime.pods[uid];
        let made = &pod.containers[name];
        if !self.connected() {
            self.kept.remove(&key);
            return;
        }
        if let Some(count) = Self::whole(made, pod.qos) {
            let cpus = self.node.effective(&made.path);
            assert_eq!(cpus.len(), count, "{uid}/{name} was created on {cpus}");
            if let Some(before) = self.kept.remove(&key).filter(|before| before.len() == count) {
                assert_eq!(cpus, before, "{uid}/{name} started again on other CPUs");
            }
            self.owned.insert(key, cpus);
        }
        self.check_exclusive("after a create");
    }

    /// After a pass: what the agent says is what the kernel does, and nobody moved.
    fn check_after_pass(&mut self, may_move: bool) {
        let view = self.view.borrow().clone();
        let mut now = Owned::new();
        for (pod, name, made) in self.runtime.living() {
            let key = (pod.sandbox.uid.0.clone(), name.to_owned());
            let mut shown = view.pods.iter().flat_map(|pod| &pod.containers);
            let shown = shown.find(|container| container.id == made.container.id);
            let Some(shown) = shown else { panic!("{key:?} is not shown") };
            let cpus: CpuSet = shown.exclusive_cpus.iter().copied().collect();
            if cpus.is_empty() {
                assert!(may_move || !self.owned.contains_key(&key), "{key:?} lost its CPUs");
                continue;
            }
            assert_eq!(Some(cpus.len()), Self::whole(made, pod.qos), "{key:?}");
            if let Some(before) = self.owned.get(&key).filter(|_| !may_move) {
                assert_eq!(before, &cpus, "{key:?} was moved");
            }
            now.insert(key, cpus);
        }
        self.owned = now;
        self.check_exclusive("after a pass");
    }

    async fn pass(&mut self, may_move: bool) {
        // The engine makes another pass at once while something is left, for instance records that are of no use any more.
        for last in [false, true] {
            let done = pass(&self.agent, &self.spec).await;
            assert!(done.failures.is_empty(), "{:?}", done.failures);
            self.check_after_pass(may_move);
            assert!(done.left.is_empty() || !last, "two passes left {:?}", texts(&done.left));
        }
        self.node.host.take_attempts();
        converge(&self.agent, &self.spec).await;
        assert_eq!(self.node.host.take_attempts(), 0, "a second pass wrote");
    }

    fn pick<T: Clone>(list: &[T], which: usize) -> Option<T> {
        (!list.is_empty()).then(|| list[which % list.len()].clone())
    }

    fn containers(&self, alive: bool) -> Vec<(String, String)> {
        let living: Vec<(String, String)> = self
            .runtime
            .living()
            .iter()
            .map(|(pod, name, _)| (pod.sandbox.uid.0.clone(), (*name).to_owned()))
            .collect();
        if alive {
            return living;
        }
        let all = self.runtime.pods.iter();
        let all = all.flat_map(|(uid, pod)| pod.containers.keys().map(move |name| (uid.clone(), name.clone())));
        all.filter(|key| !living.contains(key)).collect()
    }

    fn create(&mut self, uid: &str, name: &str, milli: u64) {
        let qos = self.runtime.pods[uid].qos;
        let known = self.containers(false).contains(&(uid.to_owned(), name.to_owned()));
        match self.runtime.create(uid, name, ask(qos, milli)) {
            Ok(()) => self.note_created(uid, name),
            Err(refused) => {
                assert!(self.connected() && qos == Guaranteed, "{refused}");
                assert!(
                    ["UnexpectedAdmissionError", "SMTAlignmentError"].contains(&refused.reason.as_str()),
                    "{refused}"
                );
                let kept = self.kept.get(&(uid.to_owned(), name.to_owned()));
                assert!(
                    !known || kept.is_none_or(|kept| kept.len() as u64 * 1000 != milli),
                    "a start again was refused: {refused}"
                );
                let held = self.agent.desk().view().held;
                assert!(held.iter().any(|held| held.uid.0 == uid && held.container == name), "{held:?}");
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
    async fn happen(&mut self, event: Event) -> bool {
        let pods: Vec<String> = self.runtime.pods.keys().cloned().collect();
        match event {
            Event::Pod { qos, milli } => {
                self.pods += 1;
                let uid = format!("{:04x}", self.pods * 7919 % 65536);
                self.runtime.run_pod(qos, &uid, &[]);
                self.create(&uid, "main", milli);
            }
            Event::Join { pod, milli } => {
                if let Some(uid) = Self::pick(&pods, pod) {
                    // What is over is taken for an init container now, whose CPUs the next one may use.
                    self.kept.retain(|(pod, _), _| *pod != uid);
                    let name = format!("c{}", self.runtime.pods[&uid].containers.len());
                    self.create(&uid, &name, milli);
                }
            }
            Event::Exit(which) => {
                if let Some((uid, name)) = Self::pick(&self.containers(true), which) {
                    self.runtime.exit(&uid, &name);
                    let owned = self.owned.remove(&(uid.clone(), name.clone()));
                    // What is over while another one of its pod comes may be lent to that one.
                    if let Some(cpus) =
                        owned.filter(|_| self.connected() && self.runtime.pods[&uid].containers.len() == 1)
                    {
                        self.kept.insert((uid, name), cpus);
                    }
                }
            }
            Event::StartAgain(which) => {
                if let Some((uid, name)) = Self::pick(&self.containers(false), which) {
                    let milli = self.runtime.pods[&uid].containers[&name].ask.milli;
                    self.create(&uid, &name, milli);
                }
            }
            Event::StopPod(which) => {
                if let Some(uid) = Self::pick(&pods, which) {
                    self.runtime.stop_pod(&uid);
                    self.owned.retain(|(pod, _), _| *pod != uid);
                    self.kept.retain(|(pod, _), _| *pod != uid);
                }
            }
            Event::Resize { container, milli } => self.resize(container, milli),
            Event::Hand(which) => self.hand(which),
            Event::Kill => {
                self.runtime.disconnect();
                (self.agent, self.view) = Pinning::new(self.node.ports());
                self.kept.clear();
                self.pass(false).await;
                self.runtime.connect(self.agent.desk());
                self.check_exclusive("after a synchronisation");
            }
            Event::Disconnect => {
                self.runtime.disconnect();
                self.kept.clear();
            }
            Event::Connect => {
                if !self.connected() {
                    self.runtime.connect(self.agent.desk());
                    self.pass(false).await;
                }
            }
            Event::Settings(which) => {
                self.spec = settings(which);
                self.kept.clear();
                return true;
            }
            Event::Offline(cpu) if self.online.len() > 9 => {
                self.online.remove(cpu);
                self.node.offline(cpu);
                self.kept.clear();
                return true;
            }
            Event::Online => {
                let all = CpuSet::range(0, 11);
                all.difference(&self.online).iter().for_each(|cpu| self.node.online(cpu));
                self.online = all;
                self.kept.clear();
                return true;
            }
            Event::Offline(_) => {}
        }
        false
    }

    fn resize(&mut self, which: usize, milli: u64) {
        let Some((uid, name)) = Self::pick(&self.containers(true), which) else { return };
        let qos = self.runtime.pods[&uid].qos;
        let key = (uid.clone(), name.clone());
        let before = self.owned.get(&key).cloned();
        if qos == BestEffort || !self.connected() || self.runtime.resize(&uid, &name, ask(qos, milli)).is_err() {
            return;
        }
        self.owned.remove(&key);
        let made = &self.runtime.pods[&uid].containers[&name];
        if let Some(count) = Self::whole(made, qos) {
            let cpus = self.node.effective(&made.path);
            assert_eq!(cpus.len(), count, "{key:?} was resized to {cpus}");
            if let Some(before) = before {
                assert!(before.is_subset(&cpus) || cpus.is_subset(&before), "{key:?} went from {before} to {cpus}");
            }
            self.owned.insert(key, cpus);
        }
        self.check_exclusive("after a resize");
    }

    /// A hand is undone at once; that it shows again and again is for another test.
    fn hand(&mut self, which: usize) {
        let Some((uid, name)) = Self::pick(&self.containers(true), which) else { return };
        if self.connected() && self.hands == 0 {
            self.hands += 1;
            self.runtime.change_cpus(&uid, &name, "3").unwrap();
            self.check_exclusive("after a hand");
        }
    }
}

async fn play(driver: CgroupDriver, links: bool, events: Vec<(Event, bool)>) {
    let mut play = Play::new(driver).await;
    play.runtime.links = links;
    let mut may_move = false;
    for (event, and_pass) in events {
        let cause = play.happen(event).await;
        may_move |= cause;
        // Settings and CPUs are looked at by a pass; without a session nothing else tells of containers either.
        if and_pass || cause || !play.connected() {
            play.pass(may_move).await;
            may_move = false;
        }
    }
    let all: Vec<String> = play.runtime.pods.keys().cloned().collect();
    if !play.connected() {
        play.runtime.connect(play.agent.desk());
    }
    all.iter().for_each(|uid| play.runtime.stop_pod(uid));
    play.pass(true).await;
    let desk = play.agent.desk().view();
    assert!(desk.places.is_empty() && desk.roster.is_empty() && desk.held.is_empty(), "{desk:?}");
    let records = play.node.ledger.snapshot();
    assert!(records.is_empty(), "{records:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn nobody_runs_on_cpus_of_another_at_any_moment(
        systemd in any::<bool>(),
        links in any::<bool>(),
        events in proptest::collection::vec(event(), 1..30),
    ) {
        let driver = if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(driver, links, events));
    }
}

/// 200 pods come and go on a node that holds a dozen; every moment is checked.
#[tokio::test]
async fn two_hundred_pods_come_and_go() {
    let mut play = Play::new(CgroupDriver::Systemd).await;
    let qos = [Guaranteed, Guaranteed, Burstable, Guaranteed, BestEffort];
    for number in 0..200_usize {
        play.happen(Event::Pod { qos: qos[number % qos.len()], milli: 1000 + 1000 * (number as u64 % 3) }).await;
        if number % 3 == 0 {
            play.happen(Event::Exit(number * 7)).await;
            play.happen(Event::StartAgain(number)).await;
        }
        if play.runtime.pods.len() > 8 {
            play.happen(Event::StopPod(number * 13)).await;
        }
        if number % 10 == 9 {
            play.pass(false).await;
        }
    }
    let uids: Vec<String> = play.runtime.pods.keys().cloned().collect();
    uids.iter().for_each(|uid| play.runtime.stop_pod(uid));
    play.pass(false).await;
    let desk = play.agent.desk().view();
    assert!(desk.places.is_empty() && desk.roster.is_empty());
    assert_eq!(play.view.borrow().shared_cpus, (0..12).collect::<Vec<u32>>());
    let _ = pass(&play.agent, &NodeSpec::default()).await;
    assert!(play.node.ledger.snapshot().is_empty());
}
