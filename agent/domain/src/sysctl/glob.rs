//! Keys with globs: one assignment for every entry that the kernel has, for instance one per interface.
//!
//! As in sysctl.d(5): `*`, `?` and `[...]` match within one component, and an explicit key is taken out of every glob.

use std::fmt;

use super::key::{KeyError, checked};

/// A key of which at least one component is a glob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPattern {
    name: String,
}

/// A profile's key: one parameter, or all that a glob matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOrPattern {
    /// Exactly one.
    Key(super::SysctlKey),
    /// As many as the kernel has.
    Pattern(KeyPattern),
}

impl KeyOrPattern {
    /// Reads a profile's key.
    ///
    /// # Errors
    /// [`KeyError`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.contains(['*', '?', '[', ']']) {
            KeyPattern::parse(text).map(Self::Pattern)
        } else {
            super::SysctlKey::parse(text).map(Self::Key)
        }
    }
}

impl KeyPattern {
    /// Reads a pattern; separators follow the rule of plain keys.
    ///
    /// # Errors
    /// [`KeyError`] as for a key, and for a bracket that is not closed.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let name = checked(text)?;
        let unclosed = |part: &str| part.matches('[').count() != part.matches(']').count();
        if name.split('.').any(unclosed) || !name.contains(['*', '?', '[']) {
            return Err(KeyError::Pattern { key: text.to_owned() });
        }
        Ok(Self { name })
    }

    /// The pattern in dot form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The components as patterns of file names, from `/proc/sys` down.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        self.name.split('.').map(|part| Component(part.replace('/', "."))).collect()
    }

    /// True if the key is one of those meant.
    #[must_use]
    pub fn matches(&self, key: &super::SysctlKey) -> bool {
        let names: Vec<String> = key.file_names().collect();
        let components = self.components();
        names.len() == components.len() && names.iter().zip(&components).all(|(name, part)| part.matches(name))
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// One component of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component(String);

impl Component {
    /// The file name if it is a plain one, without globs.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        (!self.0.contains(['*', '?', '['])).then_some(self.0.as_str())
    }

    /// True if the file name matches, as glob(7) has it: a leading dot is matched by a dot only.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('.') && !self.0.starts_with('.') {
            return false;
        }
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        matches_from(&pattern, &name)
    }
}

/// Matching with one point of return: the last `*` takes one character more each time the rest does not fit, so the
/// time is at most the product of both lengths.
fn matches_from(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(read) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, read));
                at += 1;
                continue;
            }
            Some('?') => {
                at += 1;
                read += 1;
                continue;
            }
            Some('[') => {
                if let Some(end) = bracket_matches(pattern.get(at..).unwrap_or_default(), c) {
                    at += end;
                    read += 1;
                    continue;
                }
            }
            Some(&literal) if literal == c => {
                at += 1;
                read += 1;
                continue;
            }
            _ => {}
        }
        let Some((after, taken)) = star else { return false };
        star = Some((after, taken + 1));
        at = after;
        read = taken + 1;
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// The length of the bracket expression at the start of `pattern` if it matches `c`.
fn bracket_matches(pattern: &[char], c: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    // A `]` right after the opening is a member, glob(7).
    let length = pattern.iter().skip(first + 1).position(|&p| p == ']')? + first + 1;
    let members = pattern.get(first..length)?;
    let mut found = false;
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(&high)) => {
                found |= (low..=high).contains(&c);
                at += 3;
            }
            _ => {
                found |= low == c;
                at += 1;
            }
        }
    }
    (found != negated).then_some(length + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::SysctlKey;
    use super::*;

    #[test]
    fn globs_match_within_one_component() {
        let rows = [
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0.rp_filter", true),
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.all.rp_filter", true),
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eno2/100.rp_filter", true),
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.eth0.arp_ignore", false),
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.rp_filter", false),
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.a.b.rp_filter", false),
            ("net.ipv4.conf.eno2/*.rp_filter", "net.ipv4.conf.eno2/100.rp_filter", true),
            ("net/ipv4/conf/eno2.*/rp_filter", "net.ipv4.conf.eno2/100.rp_filter", true),
            ("net.ipv4.conf.eth[0-3].rp_filter", "net.ipv4.conf.eth2.rp_filter", true),
            ("net.ipv4.conf.eth[0-3].rp_filter", "net.ipv4.conf.eth4.rp_filter", false),
            ("net.ipv4.conf.eth[!0].rp_filter", "net.ipv4.conf.eth0.rp_filter", false),
            ("net.ipv4.conf.eth[!0].rp_filter", "net.ipv4.conf.eth1.rp_filter", true),
            ("net.ipv4.conf.eth?.rp_filter", "net.ipv4.conf.eth1.rp_filter", true),
            ("net.ipv4.conf.eth?.rp_filter", "net.ipv4.conf.eth10.rp_filter", false),
            ("net.ipv4.conf.*a*b*.rp_filter", "net.ipv4.conf.xaybz.rp_filter", true),
            ("net.ipv4.conf.*a*b*.rp_filter", "net.ipv4.conf.xbya.rp_filter", false),
            ("net.*.neigh.default.gc_thresh1", "net.ipv6.neigh.default.gc_thresh1", true),
            ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf./hidden.rp_filter", false),
        ];
        for (pattern, key, expected) in rows {
            let (pattern, key) = (KeyPattern::parse(pattern).unwrap(), SysctlKey::parse(key).unwrap());
            assert_eq!(pattern.matches(&key), expected, "{pattern} against {key}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["net.ipv4.conf.[a.x", "net.ipv4.conf.a].x", "net/../*/x", "net.*..x", "*", "net.core.x"] {
            assert!(KeyPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let pattern = KeyPattern::parse(&format!("net.{}b.x", "*a".repeat(60))).unwrap();
        let key = SysctlKey::parse(&format!("net.{}.x", "a".repeat(200))).unwrap();
        assert!(!pattern.matches(&key));
    }
}
