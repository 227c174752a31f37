//! What a person should know about the rules around the chain.

use ipnet::IpNet;

use super::chain::{ChainValue, check_chain_name};
use super::rule::Rule;
use super::view::{Nested, TableView};
use super::{POSTROUTING, TableId};
use crate::plan::{Finding, Severity};
use crate::spec::IpMasqSpec;
use crate::spec::ip_masq::Compat;

/// Findings about one chain of a table.
pub(super) fn findings(table: TableId, view: &TableView, spec: &IpMasqSpec) -> Vec<Finding> {
    let (chain, compat) = (spec.masq_chain.as_str(), spec.compat);
    let about = Subject { table, chain, object: table.object(chain), pods: &spec.cluster.pods };
    let mut found = about.decided_earlier(view);
    found.extend(about.decided_in_chains(view));
    found.extend(about.other_forms(view, compat));
    found.extend(about.repeated(view, compat));
    found.extend(about.referenced_elsewhere(view));
    found.extend(about.other_chains(view));
    found
}

struct Subject<'a> {
    table: TableId,
    chain: &'a str,
    object: String,
    pods: &'a [IpNet],
}

impl Subject<'_> {
    fn finding(&self, severity: Severity, code: &'static str, message: String, remedy: String) -> Finding {
        Finding { severity, code, object: self.object.clone(), message, remedy }
    }

    /// The first NAT rule that matches a packet decides; what stands ahead of the jump leaves the chain nothing.
    fn decided_earlier(&self, view: &TableView) -> Vec<Finding> {
        let ahead = view.postrouting.iter().take(self.rules_ahead(view));
        let ahead = ahead.filter(|rule| rule.sets_source() && !rule.tests_mark());
        ahead
            .map(|rule| {
                let (severity, effect) = if rule.is_unconditional() {
                    (Severity::Warning, "decides for every packet, so the chain has no effect")
                } else if self.is_of_pods(rule) {
                    (Severity::Warning, "decides for packets of pods, whatever the chain exempts")
                } else {
                    (Severity::Info, "decides for the packets that it matches, whatever the chain exempts")
                };
                let message = format!("-A {POSTROUTING} {} stands ahead of the jump and {effect}", rule.as_str());
                let remedy = format!(
                    "if that is not meant, turn it off where it comes from (often the CNI plug-in's own masquerading), \
                     or move it: {} -t nat -D {POSTROUTING} {}",
                    self.table.tool(),
                    rule.as_str()
                );
                self.finding(severity, "masquerade-decided-earlier", message, remedy)
            })
            .collect()
    }

    /// The same where a rule leads to a chain of a CNI plug-in or of an administrator.
    fn decided_in_chains(&self, view: &TableView) -> Vec<Finding> {
        let ahead = self.rules_ahead(view);
        let nested = view.nested.iter().filter(|nested| nested.place <= ahead);
        nested
            .map(|Nested { place, chain, rule, count }| {
                let of_pods = self.is_of_pods(rule) || view.postrouting.get(place - 1).is_some_and(|outer| self.is_of_pods(outer));
                let severity = if of_pods { Severity::Warning } else { Severity::Info };
                let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                let message = format!(
                    "rule {place} of {POSTROUTING}, ahead of the jump, leads to -A {chain} {}{more}, which decides for the \
                     packets that it matches, whatever the chain exempts",
                    rule.as_str()
                );
                let remedy = "if that is not meant, turn it off where it comes from (often the CNI plug-in's ipMasq)".to_owned();
                self.finding(severity, "masquerade-decided-earlier", message, remedy)
            })
            .collect()
    }

    /// Rules of POSTROUTING ahead of the jump, or of the place where it would be appended.
    fn rules_ahead(&self, view: &TableView) -> usize {
        let jumps = view.chains.get(self.chain).map(|found| found.jumps.as_slice()).unwrap_or_default();
        jumps.first().map_or(view.postrouting.len(), |jump| jump.place - 1)
    }

    fn is_of_pods(&self, rule: &Rule) -> bool {
        let source = rule.source();
        source.is_some_and(|source| self.pods.iter().any(|pods| pods.contains(&source) || source.contains(pods)))
    }

    fn other_forms(&self, view: &TableView, compat: Option<Compat>) -> Vec<Finding> {
        let jumps = view.chains.get(self.chain).map(|found| found.jumps.as_slice()).unwrap_or_default();
        let ours = ChainValue::jump(self.chain, compat);
        let foreign = jumps.iter().filter(|jump| ours.as_ref().is_none_or(|ours| !ours.same(&jump.rule)));
        foreign
            .map(|jump| {
                let message =
                    format!("rule {} of {POSTROUTING} is a jump as {} writes it", jump.place, jump.form.writer());
                let remedy = "it is replaced; if it comes back, remove the other agent from this node".to_owned();
                self.finding(Severity::Warning, "masquerade-other-agent", message, remedy)
            })
            .collect()
    }

    /// With `compat` the originals' habit is kept; natively the repetition is removed and nothing is left to tell.
    fn repeated(&self, view: &TableView, compat: Option<Compat>) -> Option<Finding> {
        let found = view.chains.get(self.chain)?;
        let ours = ChainValue::jump(self.chain, compat)?;
        let times = found.jumps.iter().filter(|jump| ours.same(&jump.rule)).count();
        (compat.is_some() && times > 1).then(|| {
            let message =
                format!("the jump stands {times} times in {POSTROUTING}; exempt packets pass the chain as often");
            let tool = self.table.tool();
            let remedy = format!(
                "remove one: {tool} -t nat -D {POSTROUTING} {}; without ipMasq.compat it is done by itself",
                ours.as_str()
            );
            self.finding(Severity::Info, "masquerade-repeated-jump", message, remedy)
        })
    }

    fn referenced_elsewhere(&self, view: &TableView) -> Vec<Finding> {
        let references = view.chains.get(self.chain).map(|found| found.references.as_slice()).unwrap_or_default();
        references
            .iter()
            .map(|rule| {
                let message = format!("another rule leads to the chain: {rule}");
                let remedy =
                    "the rule is left alone, and keeps the chain from being removed while it is there".to_owned();
                self.finding(Severity::Info, "masquerade-chain-referenced", message, remedy)
            })
            .collect()
    }

    /// What the first chain exempts, a second one may masquerade all the same.
    fn other_chains(&self, view: &TableView) -> Vec<Finding> {
        let others = view.other_agents_chains.iter();
        others
            .map(|other| {
                let message = format!(
                    "chain {other} of a masquerade agent is active too; each masquerades what the other exempts"
                );
                // The name goes into a command that a person may paste.
                let remedy = if check_chain_name(other).is_ok() {
                    format!("set ipMasq.masqChain to {other} to take it over, or remove that agent and its chain")
                } else {
                    "remove that agent and its chain".to_owned()
                };
                self.finding(Severity::Warning, "masquerade-second-chain", message, remedy)
            })
            .collect()
    }
}
