//! Configurations read, merged and written as profiles.
#![allow(clippy::unwrap_used, reason = "tests")]

use trimtab_domain::spec::ip_masq::Compat;

use super::*;
use crate::profile;

fn file(text: &str) -> Reading {
    Reading::File { content: Ok(Some(text.as_bytes().to_vec())), beside: Vec::new() }
}

fn resolved(arguments: &[&str], agent: Compat, reading: &Reading) -> IpMasqSpec {
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    resolve(&flags::parse(agent, &arguments).unwrap(), reading).unwrap().0
}

#[test]
fn yaml_is_read_as_go_reads_it() {
    let rows = [
        ("anchors and merge keys", "a: &a {masqLinkLocal: on}\n<<: *a\nnonMasqueradeCIDRs: [9.0.0.0/8]\n"),
        (
            "the explicit key goes before the merged",
            "<<: {masqLinkLocal: off}\nmasqLinkLocal: y\nnonMasqueradeCIDRs: [9.0.0.0/8]",
        ),
        (
            "the first of several merged goes first",
            "<<: [{masqLinkLocal: yes}, {masqLinkLocal: no}]\nnonMasqueradeCIDRs: [9.0.0.0/8]",
        ),
        (
            "the spelling that sorts last",
            "nonMasqueradeCIDRs: [9.0.0.0/8]\nNonMasqueradeCIDRs: [8.0.0.0/8]\nMASQLINKLOCAL: true\n",
        ),
        (
            "the last of a repeated key",
            "masqLinkLocal: false\nnonMasqueradeCIDRs: [8.0.0.0/8]\nmasqLinkLocal: true\nnonMasqueradeCIDRs: [9.0.0.0/8]",
        ),
        ("the first document", "nonMasqueradeCIDRs: [9.0.0.0/8]\nmasqLinkLocal: true\n---\n*\n"),
        ("tags", "nonMasqueradeCIDRs: [!!str 9.0.0.0/8]\nmasqLinkLocal: !!bool \"true\"\ncidrLimit: 0x40\n"),
        ("CRLF", "nonMasqueradeCIDRs:\r\n  - 9.0.0.0/8\r\nmasqLinkLocal: true\r\n"),
        ("a mark of byte order", "\u{feff}{nonMasqueradeCIDRs: [9.0.0.0/8], masqLinkLocal: true}"),
    ];
    for (name, text) in rows {
        let spec = resolved(&[], Compat::KubernetesSigs, &file(text));
        let cidrs: Vec<String> = spec.non_masquerade_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!((cidrs, spec.masq_link_local), (vec!["9.0.0.0/8".to_owned()], true), "{name}");
    }
    let wide: Vec<u8> = "\u{feff}masqLinkLocal: true\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let reading = Reading::File { content: Ok(Some(wide)), beside: Vec::new() };
    assert!(resolved(&[], Compat::KubernetesSigs, &reading).masq_link_local, "UTF-16");
}

#[test]
fn json_keys_count_in_their_order() {
    let text = r#" {"NonMasqueradeCIDRs": ["8.0.0.0/8"], "nonMasqueradeCIDRs": ["9.0.0.0/8"], "NonMasqueradeCIDRs": ["7.0.0.0/8"]}"#;
    let spec = resolved(&[], Compat::KubernetesSigs, &file(text));
    assert_eq!(spec.non_masquerade_cidrs, ["7.0.0.0/8".parse().unwrap()]);
}

#[test]
fn an_imported_profile_asks_for_the_same() {
    let many = (0..70).map(|n| format!("10.{n}.0.0/16")).collect::<Vec<_>>().join(", ");
    let rows: [(Compat, &[&str], String); 6] = [
        (Compat::KubernetesSigs, &[], String::new()),
        (
            Compat::KubernetesSigs,
            &["--enable-ipv6", "--masq-chain=IP-MASQ"],
            "nonMasqueradeCIDRs: [\"fd00::/8\", 9.0.0.0/8]\nmasqLinkLocalIPv6: true\n".into(),
        ),
        (
            Compat::KubernetesSigs,
            &["--random-fully=false", "--to-ports=1024-2047,5"],
            "resyncInterval: 1500ms\nnonMasqueradeCIDRs: []\n".into(),
        ),
        (
            Compat::KubernetesSigs,
            &["--nomasq-all-reserved-ranges"],
            format!("cidrLimit: 70\nnonMasqueradeCIDRs: [{many}]\n"),
        ),
        (Compat::Azure, &["--resync-interval=5"], "masqLinkLocal: yes\n".into()),
        (Compat::Azure, &[], "NonMasqueradeCIDRs: [10.0.0.0/8]\n".into()),
    ];
    for (agent, arguments, text) in rows {
        let reading = match agent {
            Compat::KubernetesSigs => file(&text),
            Compat::Azure => Reading::Directory(Ok(vec![Entry {
                name: "ip-masq-agent".into(),
                content: Ok(text.clone().into_bytes()),
            }])),
        };
        let spec = resolved(arguments, agent, &reading);
        let written = import::profile("imported", &spec);
        let read = profile::parse("imported", written.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{written}"));
        assert_eq!(read.spec.ip_masq, Some(spec), "{written}");
    }
}

#[test]
fn a_config_map_is_taken_apart() {
    let manifest = "apiVersion: v1\nkind: ConfigMap\ndata:\n  ip-masq-agent: |\n    masqLinkLocal: true\n  b: x\n";
    let files = import::files_of_config_map(manifest.as_bytes()).unwrap();
    let names: Vec<&str> = files.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["b", "ip-masq-agent"]);
    assert_eq!(files[1].content.as_deref().unwrap(), b"masqLinkLocal: true\n");
    assert_eq!(import::files_of_config_map(b"masqLinkLocal: true\n"), None);
}

#[test]
fn bytes_of_any_kind_never_break_the_readers() {
    let seeds: [&[u8]; 4] = [
        b"nonMasqueradeCIDRs: [9.0.0.0/8]\nresyncInterval: 5s\n",
        b"{\"a\": [1, {\"b\": null}]}",
        b"a: &a [*a, <<]\n",
        b"\xff\xfe\x00",
    ];
    for seed in seeds {
        for cut in 0..=seed.len() {
            for byte in [b'*', b'&', b'{', b'\t', 0, 0xff] {
                let mut bytes = seed.get(..cut).unwrap_or_default().to_vec();
                bytes.push(byte);
                bytes.extend(seed.get(cut..).unwrap_or_default());
                let reading = Reading::File { content: Ok(Some(bytes)), beside: Vec::new() };
                drop(resolve(&flags::parse(Compat::KubernetesSigs, &[]).unwrap(), &reading));
            }
        }
    }
}
