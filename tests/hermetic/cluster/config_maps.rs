//! ConfigMaps of the masquerade agents, read by name and laid down as files that the masquerade subsystem reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use trimtab::adapters::masq_files::MasqFiles;
use trimtab::ports::masq_config::MasqConfig;
use trimtab::profile::ip_masq_agent::{Reading, resolve};
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource};

use super::*;
use crate::support::api_server::Fault;

fn map(name: &str) -> String {
    format!("/api/v1/namespaces/kube-system/configmaps/{name}")
}

fn ask(scene: &Scene, generation: u64, agent: Option<Compat>) -> NodeSpec {
    let config = agent.map(ConfigSource::of_config_maps);
    let ip_masq = agent.map(|_| IpMasqSpec { config, ..IpMasqSpec::default() });
    let spec = NodeSpec { name: "web".into(), ip_masq, ..NodeSpec::default() };
    scene.engine.hold(generation, spec.clone());
    spec
}

fn files(scene: &Scene, agent: &str) -> Option<BTreeMap<String, String>> {
    let directory: PathBuf = scene.engine.state.path().join("config-maps").join(agent);
    let entries = fs::read_dir(directory).ok()?.map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        let content = fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), content)
    };
    Some(entries.map(file).collect())
}

fn wanted(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(pairs.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect())
}

fn read(state: &Path, spec: &NodeSpec) -> Result<Vec<String>, String> {
    let spec = spec.ip_masq.as_ref().unwrap();
    let reading = MasqFiles::new(state).read(spec.config.as_ref().unwrap());
    let (spec, _) = resolve(spec, &reading).map_err(|error| error.to_string())?;
    Ok(spec.non_masquerade_cidrs.iter().map(ToString::to_string).collect())
}

#[tokio::test(start_paused = true)]
async fn azures_maps_are_merged_as_mounted_ones_and_followed() {
    let server = Scene::server();
    let customer = json!({"data": {"ip-masq-agent": "nonMasqueradeCIDRs: [10.1.0.0/16]"}});
    server.put(&map("azure-ip-masq-agent-config"), customer);
    let provider = json!({"data": {"ip-masq-agent-reconciled": "nonMasqueradeCIDRs: [10.2.0.0/16]"}});
    server.put(&map("azure-ip-masq-agent-config-reconciled"), provider);
    // Of the same name, and of somebody else.
    let other = "/api/v1/namespaces/shop/configmaps/azure-ip-masq-agent-config";
    server.put(other, json!({"data": {"ip-masq-evil": "nonMasqueradeCIDRs: [0.0.0.0/0]"}}));
    let scene = Scene::new(&server);
    let spec = ask(&scene, 1, Some(Compat::Azure));
    assert!(read(scene.engine.state.path(), &spec).unwrap_err().contains("has not told of the ConfigMap yet"));
    pass(Duration::from_secs(30)).await;
    assert_eq!(read(scene.engine.state.path(), &spec).unwrap(), ["10.1.0.0/16", "10.2.0.0/16"]);
    server.edit(&map("azure-ip-masq-agent-config"), |map| {
        map["data"] = json!({"ip-masq-agent": "nonMasqueradeCIDRs: [10.3.0.0/16]", "note": "not read"});
    });
    pass(Duration::from_secs(5)).await;
    assert_eq!(read(scene.engine.state.path(), &spec).unwrap(), ["10.3.0.0/16", "10.2.0.0/16"]);
    server.remove(&map("azure-ip-masq-agent-config-reconciled"));
    pass(Duration::from_secs(5)).await;
    assert_eq!(read(scene.engine.state.path(), &spec).unwrap(), ["10.3.0.0/16"]);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_sigs_map_is_one_file_and_none_means_its_defaults() {
    let server = Scene::server();
    let scene = Scene::new(&server);
    let spec = ask(&scene, 1, Some(Compat::KubernetesSigs));
    assert!(read(scene.engine.state.path(), &spec).is_err(), "nobody has told yet that there is none");
    pass(Duration::from_secs(30)).await;
    assert_eq!(files(&scene, "kubernetes-sigs"), wanted(&[]));
    assert!(read(scene.engine.state.path(), &spec).is_ok());
    server.put(&map("ip-masq-agent"), json!({"data": {"config": "nonMasqueradeCIDRs: [10.9.0.0/16]", "x": "y"}}));
    pass(Duration::from_secs(5)).await;
    assert_eq!(read(scene.engine.state.path(), &spec).unwrap(), ["10.9.0.0/16"]);
    assert_eq!(files(&scene, "kubernetes-sigs").unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn binary_entries_are_read_as_a_mounted_volume_shows_them() {
    let server = Scene::server();
    // nonMasqueradeCIDRs: [10.7.0.0/16]
    let binary = "bm9uTWFzcXVlcmFkZUNJRFJzOiBbMTAuNy4wLjAvMTZd";
    server.put(&map("azure-ip-masq-agent-config"), json!({"binaryData": {"ip-masq-agent": binary}}));
    let provider = json!({"data": {"ip-masq-agent-reconciled": "nonMasqueradeCIDRs: [10.2.0.0/16]"}});
    server.put(&map("azure-ip-masq-agent-config-reconciled"), provider);
    server.put(&map("ip-masq-agent"), json!({"binaryData": {"config": binary}, "data": {"other": "x"}}));
    let scene = Scene::new(&server);
    for (generation, agent, expected) in
        [(1, Compat::Azure, &["10.7.0.0/16", "10.2.0.0/16"][..]), (2, Compat::KubernetesSigs, &["10.7.0.0/16"][..])]
    {
        let spec = ask(&scene, generation, Some(agent));
        pass(Duration::from_secs(30)).await;
        assert_eq!(read(scene.engine.state.path(), &spec).unwrap(), expected, "{agent:?}");
    }
    server.edit(&map("ip-masq-agent"), |map| map["binaryData"]["config"] = "/w==".into());
    pass(Duration::from_secs(5)).await;
    let spec = ask(&scene, 3, Some(Compat::KubernetesSigs));
    assert!(read(scene.engine.state.path(), &spec).is_err(), "no text: refused, as a mounted one is");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_unless_a_profile_asks_and_an_outage_leaves_the_files() {
    let server = Scene::server();
    server.put(&map("ip-masq-agent"), json!({"data": {"config": "a"}}));
    let scene = Scene::new(&server);
    ask(&scene, 1, None);
    pass(Duration::from_secs(3600)).await;
    let asked = |server: &Double| server.calls().iter().filter(|call| call.resource == "configmaps").count();
    assert_eq!(asked(&server), 0);
    ask(&scene, 2, Some(Compat::KubernetesSigs));
    pass(Duration::from_secs(30)).await;
    assert_eq!((asked(&server), files(&scene, "kubernetes-sigs")), (2, wanted(&[("ip-masq-agent", "a")])));
    let calls = server.calls();
    let asked_for = calls.iter().filter(|call| call.resource == "configmaps");
    assert!(asked_for.into_iter().all(|call| call.namespace == "kube-system" && call.query["fieldSelector"] == "metadata.name=ip-masq-agent"));
    server.fault(Fault::down());
    server.cut_watches();
    pass(Duration::from_secs(3600)).await;
    assert_eq!(files(&scene, "kubernetes-sigs"), wanted(&[("ip-masq-agent", "a")]));
    server.heal();
    server.edit(&map("ip-masq-agent"), |map| map["data"]["config"] = "b".into());
    pass(Duration::from_secs(120)).await;
    assert_eq!(files(&scene, "kubernetes-sigs"), wanted(&[("ip-masq-agent", "b")]));
    ask(&scene, 3, None);
    pass(Duration::from_secs(10)).await;
    server.forget_calls();
    pass(Duration::from_secs(3 * 3600)).await;
    assert_eq!(asked(&server), 0, "and no more when it does not any more");
}

#[tokio::test(start_paused = true)]
async fn maps_that_may_not_be_read_leave_what_is_there() {
    let server = Scene::server();
    server.permit(|call| call.resource != "configmaps");
    let scene = Scene::new(&server);
    let spec = ask(&scene, 1, Some(Compat::Azure));
    pass(Duration::from_secs(3600)).await;
    let reading = MasqFiles::new(scene.engine.state.path()).read(spec.ip_masq.unwrap().config.as_ref().unwrap());
    assert!(matches!(reading, Reading::Directory(Err(_))), "{reading:?}");
    let tries = server.calls().iter().filter(|call| call.resource == "configmaps").count();
    assert!((2..=2 * 62).contains(&tries), "{tries} tries in an hour");
}
