//! Recorded runs of kubernetes-sigs/ip-masq-agent whose configuration a profile can express. The format is told in
//! `tests/vectors/ipmasq.README.md`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use trimtab_domain::masquerade::Family;
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::Compat;

/// The agent's default list, and the further ranges of `--nomasq-all-reserved-ranges`.
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
const RESERVED: [&str; 8] = [
    "100.64.0.0/10",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
];

/// One recorded run.
pub(crate) struct Case {
    pub(crate) id: String,
    /// The configuration.
    pub(crate) spec: IpMasqSpec,
    /// Rules that were loaded first.
    pub(crate) before: Vec<(Family, String)>,
    v4: Vec<String>,
    v6: Vec<String>,
}

/// The agent's configuration file; keys that no profile has make a case one that is not expressible.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    /// Absent is the default list, null the empty one.
    #[serde(rename = "nonMasqueradeCIDRs", default, deserialize_with = "present")]
    non_masquerade_cidrs: Option<Option<Vec<String>>>,
    masq_link_local: Option<bool>,
    #[serde(rename = "masqLinkLocalIPv6")]
    masq_link_local_ipv6: Option<bool>,
    #[serde(rename = "resyncInterval")]
    _resync_interval: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(given: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::deserialize(given).map(Some)
}

impl Case {
    fn read(line: &str) -> Option<Self> {
        let case: Value = serde_json::from_str(line).unwrap();
        let is = |key: &str| case[key].as_bool() == Some(true);
        let other = case["agent"] != "kubernetes-sigs" || is("defect") || is("no_config_dir");
        let failed = !case["expect"]["error"].is_null() || !case["expect"]["exit_code"].is_null();
        if other || failed || !case["tool_version"].is_null() || !case["absent_tools"].is_null() {
            return None;
        }
        let lines = |key: &str| case["expect"][key].as_array().into_iter().flatten().map(text).collect();
        let before = [(Family::V4, "preexisting"), (Family::V6, "preexisting_v6")].into_iter();
        let before = before.filter_map(|(family, key)| Some((family, case[key].as_str()?.to_owned())));
        Some(Self {
            id: text(&case["id"]),
            spec: spec(&case)?,
            before: before.collect(),
            v4: lines("nat_v4"),
            v6: lines("nat_v6"),
        })
    }

    /// The rules that the original left, chain by chain; chains without rules too.
    pub(crate) fn expected(&self, family: Family) -> BTreeMap<String, Vec<String>> {
        Self::by_chain(&if family == Family::V4 { &self.v4 } else { &self.v6 }.join("\n"))
    }

    /// The order of rules matters within a chain only. Built-in chains without rules are left out.
    pub(crate) fn by_chain(text: &str) -> BTreeMap<String, Vec<String>> {
        let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(rule) = line.strip_prefix("-A ") {
                let chain = rule.split(' ').next().unwrap().to_owned();
                chains.entry(chain).or_default().push(line.to_owned());
            } else if let Some((name, policy)) = line.strip_prefix(':').and_then(|line| line.split_once(' '))
                && policy.starts_with('-')
            {
                chains.entry(name.to_owned()).or_default();
            }
        }
        chains
    }
}

/// Every recorded case that a profile can express.
pub(crate) fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ipmasq.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().filter_map(Case::read).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn spec(case: &Value) -> Option<IpMasqSpec> {
    let config = match &case["files"]["ip-masq-agent"] {
        Value::Null => Config::default(),
        Value::String(text) if text.trim().is_empty() => Config::default(),
        Value::String(text) => serde_saphyr::from_str::<Option<Config>>(text).ok()?.unwrap_or_default(),
        _ => return None,
    };
    let mut spec = IpMasqSpec {
        non_masquerade_cidrs: Vec::new(),
        masq_link_local: config.masq_link_local.unwrap_or(false),
        masq_link_local_ipv6: config.masq_link_local_ipv6.unwrap_or(false),
        enable_ipv6: false,
        masq_chain: "IP-MASQ-AGENT".into(),
        random_fully: true,
        to_ports: Vec::new(),
        compat: Some(Compat::KubernetesSigs),
        ..IpMasqSpec::default()
    };
    let mut defaults: Vec<&str> = PRIVATE.into();
    for flag in case["flags"].as_array().into_iter().flatten().map(text) {
        match flag.split_once('=').unwrap_or((flag.as_str(), "")) {
            ("--enable-ipv6", "") => spec.enable_ipv6 = true,
            ("--nomasq-all-reserved-ranges", "") => defaults.extend(RESERVED),
            ("--random-fully", "false") => spec.random_fully = false,
            ("--masq-chain", name) => spec.masq_chain = name.to_owned(),
            ("--to-ports", ranges) => spec.to_ports = ranges.split(',').map(range).collect::<Option<_>>()?,
            _ => return None,
        }
    }
    let listed = config.non_masquerade_cidrs.map(Option::unwrap_or_default);
    let listed = listed.unwrap_or_else(|| defaults.into_iter().map(str::to_owned).collect());
    spec.non_masquerade_cidrs = listed.iter().map(|network| network.parse().ok()).collect::<Option<_>>()?;
    Some(spec)
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}
