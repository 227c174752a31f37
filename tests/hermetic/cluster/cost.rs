//! What many agents together cost the API server: counted on the double, the figures of docs/kubernetes.md.

use super::*;

/// Agents of the simulation, and how many they stand for.
const AGENTS: usize = 50;
const NODES: f64 = 5000.0;

struct Fleet {
    server: Double,
    agents: Vec<(String, Scene)>,
}

impl Fleet {
    /// All agents start at the same moment, as after a power cut.
    fn start() -> Self {
        let server = Double::new();
        server.put(&profile("web"), for_pool("web", 0, 1));
        let agent = |number: usize| {
            let name = format!("n{number}");
            server.put(&format!("/api/v1/nodes/{name}"), json!({"metadata": {"labels": {"pool": "web"}}}));
            let scene = Scene::named(&server, &name, Engine::new(Arc::default()));
            scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
            scene.engine.converge();
            (name, scene)
        };
        let agents = (0..AGENTS).map(agent).collect();
        Self { server, agents }
    }

    /// What agents have asked for themselves.
    fn own_calls(&self) -> Vec<Call> {
        self.server.calls().into_iter().filter(|call| !is_of_the_one_who_counts(call)).collect()
    }

    /// Requests a second of all nodes: the highest of any second, and the mean.
    fn rates(&self) -> (f64, f64) {
        let calls = self.own_calls();
        let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return (0.0, 0.0) };
        let mut seconds = std::collections::BTreeMap::<u64, f64>::new();
        calls.iter().for_each(|call| *seconds.entry((call.at - first.at).as_secs()).or_default() += 1.0);
        let scale = NODES / AGENTS as f64;
        let length = (last.at - first.at).as_secs_f64().max(1.0);
        (seconds.values().fold(0.0, |a: f64, b| a.max(*b)) * scale, calls.len() as f64 / length * scale)
    }
}

#[tokio::test(start_paused = true)]
async fn five_thousand_agents_stay_within_their_budget() {
    let fleet = Fleet::start();
    pass(Duration::from_secs(60)).await;
    let calls = fleet.server.calls().len();
    // List and watch of two kinds, two reads of the Node, conditions, the state, its first change, an event.
    assert!(calls <= AGENTS * 10, "{calls} calls to start {AGENTS} agents");
    let (peak, _) = fleet.rates();
    eprintln!("start at once: {} requests per agent, peak {peak:.0}/s for {NODES} nodes", calls as f64 / AGENTS as f64);

    pass(Duration::from_secs(1800)).await;
    fleet.server.forget_calls();
    pass(Duration::from_secs(2 * 3600)).await;
    let (peak, mean) = fleet.rates();
    eprintln!("steady: {mean:.1}/s, peak {peak:.0}/s for {NODES} nodes");
    assert!(mean <= 20.0, "{mean}");

    let counting = fleet.server.calls().len() - fleet.own_calls().len();
    eprintln!("counting: {counting} requests in two hours, by one agent");
    // A Lease renewed and a list once a minute, a status every five.
    assert!((2 * (58 + 58 + 11)..=2 * (62 + 62 + 13)).contains(&counting), "{counting}");

    fleet.server.forget_calls();
    fleet.server.put(&profile("web"), for_pool("web", 0, 2));
    pass(Duration::from_secs(60)).await;
    let (_, mean) = fleet.rates();
    eprintln!("profile change seen by all: {mean:.1}/s over a minute besides {NODES} watch events");
    assert!(fleet.own_calls().len() <= AGENTS * 2, "{}", fleet.own_calls().len());

    fleet.server.forget_calls();
    fleet.server.cut_watches();
    pass(Duration::from_secs(60)).await;
    let (peak, _) = fleet.rates();
    eprintln!("all watches cut: {} requests, peak {peak:.0}/s for {NODES} nodes", fleet.server.calls().len());
    assert!(fleet.own_calls().len() <= AGENTS * 4);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_agent_that_counts_is_no_storm() {
    let mut fleet = Fleet::start();
    pass(Duration::from_secs(3600)).await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/trimtab-status";
    let holder =
        |fleet: &Fleet| fleet.server.object(path).unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    let first = holder(&fleet);
    fleet.agents.retain(|(name, _)| *name != first);
    fleet.server.forget_calls();
    pass(Duration::from_secs(3600)).await;
    assert_ne!(holder(&fleet), first);
    let asked = fleet.server.count("get", "leases");
    eprintln!("taking over: {asked} of {AGENTS} agents asked for the Lease");
    assert!(asked <= AGENTS, "{asked}");
}
