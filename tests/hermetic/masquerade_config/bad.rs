//! Bad configurations: each is refused with the stated words, the rules that were there stay, and the report and the
//! metrics say so.

use std::sync::Arc;

use trimtab::cli::output::Detail;
use trimtab::cli::status::{Status, render};
use trimtab::metrics::Metrics;
use trimtab::reconcile::report::SubsystemReport;
use trimtab_domain::plan::Refusal;

use super::{Node, V4, azure, sigs};
use crate::support::server::{SUBSYSTEMS, TestServer, metric_in, ready_report, within};

/// What every refusal of kubernetes-sigs' agent begins with, and Azure's.
const SIGS: &str = "Error syncing configuration: ";
const AZURE: &str = "the daemon encountered an error: error syncing configuration: ";
const STAYS: &str = "; the last good configuration stays in force and is kept up";

/// Name, file, and what is said behind the beginning.
#[rustfmt::skip]
const FILES: [(&str, &str, &str); 61] = [
    ("a word", "hello", "json: cannot unmarshal string into Go value of type main.MasqConfig"),
    ("a list at the top", "- 10.0.0.0/8\n", "json: cannot unmarshal array into Go value of type main.MasqConfig"),
    ("a number at the top", "64\n", "json: cannot unmarshal number into Go value of type main.MasqConfig"),
    ("a lone star", "*", "yaml: line 1: while scanning an anchor or alias, did not find expected alphabetic or numeric character"),
    ("an unknown alias", "nonMasqueradeCIDRs: *nets\n", "yaml: line 1: while parsing node, found unknown anchor"),
    ("a tab as indentation", "nonMasqueradeCIDRs:\n\t- 10.0.0.0/8\n", "yaml: line 2: tabs disallowed within this context (block indentation)"),
    ("wrong indentation", "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\n - 11.0.0.0/8\n", "yaml: line 3: while parsing a block mapping, did not find expected key"),
    ("an unclosed list", "nonMasqueradeCIDRs: [10.0.0.0/8\n", "yaml: line 1: unclosed bracket '['"),
    ("an unclosed quote", "nonMasqueradeCIDRs: [\"10.0.0.0/8]\n", "yaml: line 1: unclosed quote"),
    ("JSON cut short", "{\"nonMasqueradeCIDRs\": [\"10.0.0.0/8\"", "EOF while parsing a list at line 1 column 36"),
    ("JSON with a trailing comma", "{\"nonMasqueradeCIDRs\": [\"10.0.0.0/8\",]}", "trailing comma at line 1 column 38"),
    ("JSON with a comment", "{} # none", "trailing characters at line 1 column 4"),
    ("JSON without quotes", "{nonMasqueradeCIDRs: [10.0.0.0/8]}", "key must be a string at line 1 column 2"),
    ("something behind JSON", "{}{}", "trailing characters at line 1 column 3"),
    ("JSON in single quotes", "{'cidrLimit': 5}", "key must be a string at line 1 column 2"),
    ("a control character", "masqLinkLocal: true\u{1}\n", "yaml: control characters are not allowed (U+0001)"),
    ("a null key", "? \n: 1\nmasqLinkLocal: true\n", "yaml: line 2: unsupported map key of kind null"),
    ("a list as a key", "[a]: 1\n", "yaml: line 1: unsupported map key of kind array"),
    ("an anchor in itself", "x: &a [*a]\n", "yaml: line 1: an anchor contains itself"),
    ("a merge of a word", "<<: hello\n", "yaml: line 1: map merge requires map or sequence of maps as the value"),
    ("a later YAML", "%YAML 1.2\n---\nmasqLinkLocal: true\n", "yaml: line 2: found incompatible YAML document"),
    ("text as list", "nonMasqueradeCIDRs: 10.0.0.0/8\n", "json: cannot unmarshal string into Go struct field MasqConfig.nonMasqueradeCIDRs of type []string"),
    ("a mapping as list", "nonMasqueradeCIDRs: {a: 10.0.0.0/8}\n", "json: cannot unmarshal object into Go struct field MasqConfig.nonMasqueradeCIDRs of type []string"),
    ("a number in the list", "nonMasqueradeCIDRs: [10]\n", "json: cannot unmarshal number into Go struct field MasqConfig.nonMasqueradeCIDRs of type string"),
    ("a truth value in the list", "nonMasqueradeCIDRs: [yes]\n", "json: cannot unmarshal bool into Go struct field MasqConfig.nonMasqueradeCIDRs of type string"),
    ("a mapping in the list", "nonMasqueradeCIDRs:\n  - cidr: 10.0.0.0/8\n", "json: cannot unmarshal object into Go struct field MasqConfig.nonMasqueradeCIDRs of type string"),
    ("a null in the list", "nonMasqueradeCIDRs: [~]\n", "CIDR \"\" could not be parsed, invalid CIDR address: "),
    ("a quoted truth value", "masqLinkLocal: \"true\"\n", "json: cannot unmarshal string into Go struct field MasqConfig.masqLinkLocal of type bool"),
    ("a number for a truth value", "masqLinkLocal: 1\n", "json: cannot unmarshal number into Go struct field MasqConfig.masqLinkLocal of type bool"),
    ("a word for a truth value", "masqLinkLocalIPv6: perhaps\n", "json: cannot unmarshal string into Go struct field MasqConfig.masqLinkLocalIPv6 of type bool"),
    ("a list for a truth value", "masqLinkLocal: [true]\n", "json: cannot unmarshal array into Go struct field MasqConfig.masqLinkLocal of type bool"),
    ("a quoted limit", "cidrLimit: \"64\"\n", "json: cannot unmarshal string into Go struct field MasqConfig.cidrLimit of type int"),
    ("half a limit", "cidrLimit: 64.5\n", "json: cannot unmarshal number 64.5 into Go struct field MasqConfig.cidrLimit of type int"),
    ("a limit beyond all", "cidrLimit: 99999999999999999999\n", "json: cannot unmarshal number 100000000000000000000 into Go struct field MasqConfig.cidrLimit of type int"),
    ("a fraction in JSON", "{\"cidrLimit\": 64.0}", "json: cannot unmarshal number 64.0 into Go struct field MasqConfig.cidrLimit of type int"),
    ("a limit below the defaults", "cidrLimit: 2\n", "the daemon can only accept up to 2 CIDRs (excluding link-local), but got 3 CIDRs (excluding link local)"),
    ("a limit of zero", "cidrLimit: 0\n", "the daemon can only accept up to 0 CIDRs (excluding link-local), but got 3 CIDRs (excluding link local)"),
    ("a negative limit", "cidrLimit: -1\nnonMasqueradeCIDRs: []\n", "the daemon can only accept up to -1 CIDRs (excluding link-local), but got 0 CIDRs (excluding link local)"),
    ("more than the limit", "cidrLimit: 1\nnonMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.0/8]\n", "the daemon can only accept up to 1 CIDRs (excluding link-local), but got 2 CIDRs (excluding link local)"),
    ("a number as interval", "resyncInterval: 60\n", "json: cannot unmarshal number into Go struct field MasqConfig.resyncInterval of type string"),
    ("an empty interval", "resyncInterval: \"\"\n", "time: invalid duration \"\""),
    ("no interval", "resyncInterval:\n", "time: invalid duration \"\""),
    ("days", "resyncInterval: 1d\n", "time: unknown unit \"d\" in duration \"1d\""),
    ("a blank in the interval", "resyncInterval: 60 s\n", "time: unknown unit \" s\" in duration \"60 s\""),
    ("no unit", "resyncInterval: \"60\"\n", "time: missing unit in duration \"60\""),
    ("an interval beyond all", "resyncInterval: 9999999h\n", "time: invalid duration \"9999999h\""),
    ("a capital unit", "resyncInterval: 5S\n", "time: unknown unit \"S\" in duration \"5S\""),
    ("two signs", "resyncInterval: --5s\n", "time: invalid duration \"--5s\""),
    ("an empty prefix", "nonMasqueradeCIDRs: [\"\"]\n", "CIDR \"\" could not be parsed, invalid CIDR address: "),
    ("a word as prefix", "nonMasqueradeCIDRs: [10.0.0.0/8, private]\n", "CIDR \"private\" could not be parsed, invalid CIDR address: private"),
    ("an address", "nonMasqueradeCIDRs: [10.0.0.0]\n", "CIDR \"10.0.0.0\" could not be parsed, invalid CIDR address: 10.0.0.0"),
    ("a dotted mask", "nonMasqueradeCIDRs: [10.0.0.0/255.0.0.0]\n", "CIDR \"10.0.0.0/255.0.0.0\" could not be parsed, invalid CIDR address: 10.0.0.0/255.0.0.0"),
    ("three parts", "nonMasqueradeCIDRs: [10.0.0/8]\n", "CIDR \"10.0.0/8\" could not be parsed, invalid CIDR address: 10.0.0/8"),
    ("an octal part", "nonMasqueradeCIDRs: [010.0.0.0/8]\n", "CIDR \"010.0.0.0/8\" could not be parsed, invalid CIDR address: 010.0.0.0/8"),
    ("a length too long", "nonMasqueradeCIDRs: [10.0.0.0/33]\n", "CIDR \"10.0.0.0/33\" could not be parsed, invalid CIDR address: 10.0.0.0/33"),
    ("a negative length", "nonMasqueradeCIDRs: [10.0.0.0/-1]\n", "CIDR \"10.0.0.0/-1\" could not be parsed, invalid CIDR address: 10.0.0.0/-1"),
    ("a blank behind", "nonMasqueradeCIDRs: [\"10.0.0.0/8 \"]\n", "CIDR \"10.0.0.0/8 \" could not be parsed, invalid CIDR address: 10.0.0.0/8 "),
    ("host bits", "nonMasqueradeCIDRs: [10.0.0.1/8]\n", "CIDR \"10.0.0.1/8\" is not aligned to a CIDR block, ip: \"10.0.0.1\" network: \"10.0.0.0/8\""),
    ("IPv6 while it is off", "nonMasqueradeCIDRs: [\"fc00::/7\"]\n", "ipv6 is not enabled, but ipv6 cidr fc00::/7 provided. Enable ipv6 using --enable-ipv6 agent flag"),
    ("a zone", "nonMasqueradeCIDRs: [\"fe80::1%eth0/64\"]\n", "CIDR \"fe80::1%eth0/64\" could not be parsed, invalid CIDR address: fe80::1%eth0/64"),
    ("IPv6 with host bits", "nonMasqueradeCIDRs: [\"2001:db8::1/32\"]\n", "CIDR \"2001:db8::1/32\" is not aligned to a CIDR block, ip: \"2001:db8::1\" network: \"2001:db8::/32\""),
];

/// Names and texts.
type Files = &'static [(&'static str, &'static str)];

/// The same for files of Azure's directory.
#[rustfmt::skip]
const DIRECTORIES: [(&str, Files, &str); 8] = [
    ("a file that is no YAML", &[("ip-masq-agent", "*")], "failed to convert config file \"ip-masq-agent\" to JSON, error: yaml: line 1: while scanning an anchor or alias, did not find expected alphabetic or numeric character"),
    ("a file that is no JSON", &[("ip-masq-0", "{*"), ("ip-masq-1", "nonMasqueradeCIDRs: [10.0.0.0/8]\n")], "failed to unmarshal config file \"ip-masq-0\", error: key must be a string at line 1 column 2"),
    ("a list at the top", &[("ip-masq-agent", "- 10.0.0.0/8\n")], "failed to unmarshal config file \"ip-masq-agent\", error: json: cannot unmarshal array into Go value of type main.MasqConfig"),
    ("a wrong type in the second file", &[("ip-masq-0", "{}"), ("ip-masq-1", "masqLinkLocal: 1\n")], "failed to unmarshal config file \"ip-masq-1\", error: json: cannot unmarshal number into Go struct field MasqConfig.masqLinkLocal of type bool"),
    ("more than 64 in one file", &[("ip-masq-agent", MANY)], "config file \"ip-masq-agent\" is invalid: the daemon can only accept up to 64 CIDRs (excluding link-local), but got 65 CIDRs (excluding link local)"),
    ("host bits in a backup", &[("ip-masq-agent", ""), ("ip-masq-agent.bak", "nonMasqueradeCIDRs: [10.0.0.1/8]\n")], "config file \"ip-masq-agent.bak\" is invalid: CIDR \"10.0.0.1/8\" is not aligned to a CIDR block, ip: \"10.0.0.1\" network: \"10.0.0.0/8\""),
    ("IPv6 while it is off", &[("ip-masq-agent", "nonMasqueradeCIDRs: [\"fd00::/8\"]\n")], "config file \"ip-masq-agent\" is invalid: ipv6 is not enabled, but ipv6 cidr fd00::/8 provided. Enable ipv6 using --enable-ipv6 agent flag"),
    ("a null in the list", &[("ip-masq-agent", "nonMasqueradeCIDRs: [~]\n")], "config file \"ip-masq-agent\" is invalid: CIDR \"\" could not be parsed, invalid CIDR address: "),
];

/// 65 entries.
const MANY: &str = concat!(
    "nonMasqueradeCIDRs: [10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8",
    ", 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8, 10.0.0.0/8]"
);

#[tokio::test]
async fn a_bad_configuration_is_refused_in_the_agents_words_and_the_old_rules_stay() {
    let rows = FILES.iter().map(|(name, text, said)| (*name, vec![("ip-masq-agent", *text)], *said, false));
    let rows = rows.chain(DIRECTORIES.iter().map(|(name, files, said)| (*name, files.to_vec(), *said, true)));
    let mut wrong = Vec::new();
    let server = TestServer::start().await;
    for (name, files, said, is_azure) in rows {
        let node = Node::new();
        let (spec, beginning) = if is_azure { (azure(), AZURE) } else { (sigs(), SIGS) };
        node.config.file(Some("nonMasqueradeCIDRs: [9.0.0.0/8]\n"));
        node.config.directory(&[("ip-masq-agent", "nonMasqueradeCIDRs: [9.0.0.0/8]\n")]);
        node.converge(&spec).await;
        let held = node.nat.print(V4);
        node.config.file(Some(files[0].1));
        node.config.directory(&files);
        let outcome = node.pass(&spec).await;
        assert_eq!(node.nat.print(V4), held, "{name}");
        assert!(outcome.steps.is_empty() && outcome.unready.is_none(), "{name}: {outcome:?}");
        let [refusal] = outcome.refusals.as_slice() else { panic!("{name}: {:?}", outcome.refusals) };
        if refusal.detail != format!("{beginning}{said}{STAYS}") {
            wrong.push(format!("{name}: {}", refusal.detail));
        }
        let told = refusal.detail.clone();
        let mut report = ready_report();
        let masquerade = SubsystemReport { refusals: outcome.refusals, ..SubsystemReport::pending("masquerade") };
        *report.subsystems.iter_mut().find(|slot| slot.name == "masquerade").unwrap() = Arc::new(masquerade);
        let metrics = Metrics::new("1.2.3", &SUBSYSTEMS);
        metrics.record_report(&report);
        let refused = "trimtab_refusals{subsystem=\"masquerade\",cause=\"invalid-value\"}";
        assert_eq!(metric_in(&metrics.to_text().unwrap(), refused), 1.0, "{name}");
        server.report.send_replace(Arc::new(report));
        assert!(within(shown_by_status(&server)).await.contains(told.as_str()), "{name}: {told}");
    }
    server.shut_down().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `trimtab status` prints of the report that the server was given last.
async fn shown_by_status(server: &TestServer) -> String {
    let detail = |refusals: &[Refusal]| refusals.first().map(|refusal| refusal.detail.clone());
    let report = server.report.borrow().clone();
    let given = report.subsystems.iter().find_map(|subsystem| detail(&subsystem.refusals));
    loop {
        let mut client = trimtab::client::connect(&server.socket()).await.unwrap();
        // The snapshot follows the report, and who asks too often is told so.
        let Ok(answer) = client.report().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let status = Status::from(answer);
        let shown = status.subsystems.iter().find_map(|subsystem| subsystem.refusals.first());
        if shown.map(|refusal| &refusal.detail) == given.as_ref() {
            return render(&status, Detail::Wide);
        }
    }
}
