//! From a profile's section to one wish per key: globs spread out, contradictions and other programs' keys refused.

use std::collections::{BTreeMap, BTreeSet};

use super::glob::KeyOrPattern;
use super::owner::{Owner, owner_of};
use super::{SysctlKey, order, side_effect, value};
use crate::plan::{Cause, Finding, Refusal, Severity};
use crate::spec::SysctlsSpec;

/// What is asked of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The value as the profile spells it, white space off its ends.
    pub value: String,
    /// The glob that named the key; `None`: the profile names it.
    pub pattern: Option<String>,
}

/// The wishes of a section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// At most one per key.
    pub wishes: BTreeMap<SysctlKey, Wish>,
    /// What is not granted on any node.
    pub refusals: Vec<Refusal>,
    /// What a person should know on any node.
    pub findings: Vec<Finding>,
}

impl Wishes {
    /// Spreads a section over the keys that its globs match now.
    #[must_use]
    pub fn resolve(spec: &SysctlsSpec, expansions: &BTreeMap<String, Vec<SysctlKey>>) -> Self {
        let mut wishes = Self::default();
        let mut patterns = Vec::new();
        for (name, text) in &spec.values {
            match wishes.accept(spec, name, text) {
                Some((KeyOrPattern::Key(key), value)) => wishes.add_key(name, key, value),
                Some((KeyOrPattern::Pattern(pattern), value)) => patterns.push((pattern, value)),
                None => {}
            }
        }
        for (pattern, value) in patterns {
            let keys = expansions.get(pattern.as_str()).map_or(&[] as &[_], Vec::as_slice);
            wishes.add_pattern(pattern.as_str(), keys, &value);
        }
        wishes.refuse_exclusive_pairs();
        wishes.refuse_aliases();
        wishes.refuse_kubelet_keys();
        wishes.find_conflicts();
        wishes
    }

    fn accept(&mut self, spec: &SysctlsSpec, name: &str, text: &str) -> Option<(KeyOrPattern, String)> {
        let key = match KeyOrPattern::parse(name) {
            Ok(key) => key,
            Err(error) => return self.refuse(name, text, Cause::InvalidValue, error.to_string()),
        };
        let dotted = match &key {
            KeyOrPattern::Key(key) => key.as_str(),
            KeyOrPattern::Pattern(pattern) => pattern.as_str(),
        };
        if let Some(Err(violation)) = spec.policy.map(|policy| policy.check(dotted, text)) {
            return self.refuse(dotted, text, Cause::Policy, violation.to_string());
        }
        match value::checked(text) {
            Ok(value) => Some((key, value)),
            Err(error) => self.refuse(dotted, "", Cause::InvalidValue, error.to_string()),
        }
    }

    fn add_key(&mut self, name: &str, key: SysctlKey, value: String) {
        if let Some(first) = self.wishes.get(&key) {
            let detail = format!("{name} is the same key as another spelling of it, which asks for {:?}", first.value);
            self.refuse::<()>(name, &value, Cause::InvalidValue, detail);
            return;
        }
        self.wishes.insert(key, Wish { value, pattern: None });
    }

    fn add_pattern(&mut self, pattern: &str, keys: &[SysctlKey], value: &str) {
        if keys.is_empty() {
            let message = format!("{pattern} matches no key of this kernel now");
            self.find(finding(Severity::Info, "sysctl-glob-matches-nothing", pattern, message, ""));
        }
        for key in keys {
            let wish = Wish { value: value.to_owned(), pattern: Some(pattern.to_owned()) };
            match self.wishes.get(key) {
                // sysctl.d(5): a key that is named is taken out of every glob.
                Some(Wish { pattern: None, .. }) => continue,
                Some(Wish { value: other, pattern: Some(first) }) if other != value => {
                    let message = format!("{first} asks for {other:?} and {pattern} for {value:?}; the latter is used");
                    let remedy = "name the key itself, which goes before every glob";
                    self.find(finding(Severity::Warning, "sysctl-globs-overlap", key.as_str(), message, remedy));
                }
                _ => {}
            }
            self.wishes.insert(key.clone(), wish);
        }
    }

    /// Writing one key of such a pair makes the kernel set the other to 0, so only one of them can have its wish.
    fn refuse_exclusive_pairs(&mut self) {
        for (a, b) in side_effect::EXCLUSIVE {
            let wish = |name: &str| {
                let found = self.wishes.iter().find(|(key, _)| key.as_str() == name);
                found.map(|(key, wish)| (key.clone(), wish.value.clone()))
            };
            let (Some((first, x)), Some((second, y))) = (wish(a), wish(b)) else { continue };
            if value::same(&x, "0") || value::same(&y, "0") {
                continue;
            }
            let message = format!("the kernel sets {first} to 0 when {second} is written, and the other way round");
            self.find(finding(Severity::Error, "sysctl-exclusive-pair", a, message.clone(), "ask for one of the two"));
            for (key, value) in [(first, x), (second, y)] {
                self.wishes.remove(&key);
                let detail = format!("{message}; ask for one of the two");
                self.refuse::<()>(key.as_str(), &value, Cause::InvalidValue, detail);
            }
        }
    }

    fn refuse_aliases(&mut self) {
        for (name, alias) in side_effect::ALIASES {
            let (Ok(name), Ok(alias)) = (SysctlKey::parse(name), SysctlKey::parse(alias)) else { continue };
            let (Some(first), Some(second)) = (self.wishes.get(&name), self.wishes.get(&alias)) else { continue };
            let (first, second) = (first.value.clone(), second.value.clone());
            if !value::same(&first, &second) && !value::same(&second, &first) {
                self.wishes.remove(&alias);
                let detail =
                    format!("it is the same kernel variable as {name}, for which {first:?} is asked; drop one");
                self.refuse::<()>(alias.as_str(), &second, Cause::InvalidValue, detail);
            }
        }
    }

    /// With another value than the kubelet's the node would flip back at the kubelet's next start, or the kubelet
    /// (`protectKernelDefaults`) would not start at all.
    fn refuse_kubelet_keys(&mut self) {
        let keys: Vec<SysctlKey> = self.wishes.keys().cloned().collect();
        for key in keys {
            let Some((required, wish)) = owner_of(&key)
                .filter(|ownership| ownership.owner == Owner::Kubelet)
                .and_then(|ownership| ownership.value)
                .zip(self.wishes.get(&key).map(|wish| wish.value.clone()))
            else {
                continue;
            };
            if value::same(&wish, required) {
                continue;
            }
            self.wishes.remove(&key);
            let message = format!(
                "the kubelet requires {required} and writes it at its start, or does not start with \
                 `protectKernelDefaults`; the profile asks for {wish}"
            );
            let remedy = Owner::Kubelet.remedy();
            self.find(finding(Severity::Error, Owner::Kubelet.finding_code(), key.as_str(), message.clone(), remedy));
            self.refuse::<()>(key.as_str(), &wish, Cause::OwnedByOther, format!("{message}; {remedy}"));
        }
    }

    fn find_conflicts(&mut self) {
        let mut found = BTreeSet::new();
        for (key, wish) in &self.wishes {
            // What a glob asks of hundreds of interfaces is one finding.
            let object = wish.pattern.as_deref().unwrap_or(key.as_str());
            let owner = owner_of(key).filter(|ownership| ownership.owner != Owner::Kubelet);
            let agrees = |value: Option<&str>| value.is_some_and(|value| value::same(&wish.value, value));
            if let Some(ownership) = owner.filter(|ownership| !agrees(ownership.value)) {
                let (owner, writes) = (ownership.owner, ownership.value.unwrap_or("a value of its own"));
                let message = format!("{} writes {writes}; the profile asks for {}", owner.as_str(), wish.value);
                found.insert(finding(Severity::Warning, owner.finding_code(), object, message, owner.remedy()));
            }
            if value::is_octal_trap(&wish.value) {
                let message = format!("the kernel reads a number with a leading 0, as in {:?}, as octal", wish.value);
                let remedy = "write it without the 0";
                found.insert(finding(Severity::Warning, "sysctl-octal-value", object, message, remedy));
            }
        }
        let values = self.wishes.iter().map(|(key, wish)| (key, wish.value.as_str()));
        for (low, high) in order::above_ceiling(values) {
            let message = format!("{low} is asked to exceed {high}");
            let remedy = "raise the latter or lower the former";
            found.insert(finding(Severity::Warning, "sysctl-above-ceiling", low.as_str(), message, remedy));
        }
        self.findings.extend(found);
    }

    fn refuse<T>(&mut self, object: &str, wish: &str, cause: Cause, detail: String) -> Option<T> {
        self.refusals.push(Refusal { object: object.to_owned(), wish: wish.to_owned(), cause, detail });
        None
    }

    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

pub(super) fn finding(severity: Severity, code: &'static str, object: &str, message: String, remedy: &str) -> Finding {
    Finding { severity, code, object: object.to_owned(), message, remedy: remedy.to_owned() }
}
