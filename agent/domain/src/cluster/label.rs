//! Labels and selectors, by the rules of Kubernetes (`metav1.LabelSelector`, `validation.IsQualifiedName`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Longest part of a key behind its slash, and longest value.
pub const MAX_NAME: usize = 63;

/// What labels must be like; the empty selector takes everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// Labels that must have these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements; all must hold.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Key of the label.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
    /// The values of [`Operator::In`] and [`Operator::NotIn`]; empty for the others.
    pub values: BTreeSet<String>,
}

/// What is asked of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// It is there with one of the values.
    In,
    /// It is absent, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl Operator {
    /// Every operator.
    pub const ALL: [Self; 4] = [Self::In, Self::NotIn, Self::Exists, Self::DoesNotExist];

    /// The word in a selector.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }

    /// True if the operator compares with values.
    #[must_use]
    pub const fn has_values(self) -> bool {
        matches!(self, Self::In | Self::NotIn)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.operator.as_str())?;
        if self.operator.has_values() {
            let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
            write!(f, " ({})", values.join(", "))?;
        }
        Ok(())
    }
}

impl LabelSelector {
    /// The first requirement that these labels do not meet, in words; `None` if they meet all.
    #[must_use]
    pub fn unmet(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let has = |key: &str| labels.get(key).map_or("is absent".to_owned(), |value| format!("is {value:?}"));
        for (key, wanted) in &self.match_labels {
            if labels.get(key) != Some(wanted) {
                return Some(format!("label {key} {}, not {wanted:?}", has(key)));
            }
        }
        let unmet = self.match_expressions.iter().find(|requirement| !requirement.holds(labels))?;
        Some(format!("label {} {}, asked for is {unmet}", unmet.key, has(&unmet.key)))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// True for a key of a label, an annotation or a resource: `name` or `prefix.example.com/name`.
#[must_use]
pub fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// True for a value of a label; the empty one is.
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// True for the name of most objects: labels of RFC 1123 joined by dots, at most 253 characters.
#[must_use]
pub fn is_dns_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.chars().all(inner)
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= MAX_NAME && ends(name.chars().next()) && ends(name.chars().last()) && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn expression(key: &str, operator: Operator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        LabelSelector {
            match_expressions: vec![Requirement { key: key.into(), operator, values }],
            ..LabelSelector::default()
        }
    }

    #[test]
    fn requirements_hold_as_they_do_in_kubernetes() {
        let node = labels(&[("pool", "web"), ("gpu", "")]);
        let cases: [(&str, LabelSelector, bool); 12] = [
            ("empty takes all", LabelSelector::default(), true),
            ("equal", LabelSelector { match_labels: labels(&[("pool", "web")]), ..LabelSelector::default() }, true),
            ("other", LabelSelector { match_labels: labels(&[("pool", "db")]), ..LabelSelector::default() }, false),
            ("absent", LabelSelector { match_labels: labels(&[("zone", "a")]), ..LabelSelector::default() }, false),
            ("in", expression("pool", Operator::In, &["db", "web"]), true),
            ("in of absent", expression("zone", Operator::In, &["a"]), false),
            ("not in", expression("pool", Operator::NotIn, &["db"]), true),
            ("not in, but it is", expression("pool", Operator::NotIn, &["web"]), false),
            ("not in of absent", expression("zone", Operator::NotIn, &["a"]), true),
            ("exists with an empty value", expression("gpu", Operator::Exists, &[]), true),
            ("exists", expression("zone", Operator::Exists, &[]), false),
            ("does not exist", expression("zone", Operator::DoesNotExist, &[]), true),
        ];
        for (name, selector, expected) in cases {
            assert_eq!(selector.unmet(&node).is_none(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_met_is_said_with_the_value_that_is_there() {
        let node = labels(&[("pool", "web")]);
        let unmet = expression("pool", Operator::In, &["db", "gpu"]).unmet(&node);
        assert_eq!(unmet.as_deref(), Some("label pool is \"web\", asked for is pool In (db, gpu)"));
    }

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for good in ["a", "A.b_c-d", "example.com/a", "a.b.c/D9"] {
            assert!(is_qualified_name(good), "{good}");
        }
        let long = "a".repeat(64);
        let prefix = format!("{}/a", "a".repeat(254));
        for bad in ["", "/", "a/", "/a", "-a", "a-", "a b", "Ex.com/a", "a/b/c", "a\n", "ä", "../a", &long, &prefix] {
            assert!(!is_qualified_name(bad), "{bad:?}");
        }
        assert!(is_label_value("") && is_label_value("a_b") && !is_label_value("a b"));
        assert!(is_dns_subdomain("n1.example") && !is_dns_subdomain("N1") && !is_dns_subdomain("a..b"));
    }
}
