//! Labels or annotations of an object, stored tightly and shared by all copies.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Texts by key, in byte order of the keys. They never change once they are told, and a node has a thousand such lists, so
/// a copy costs nothing and there is no room for more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The text under this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// All keys and texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Labels {
    /// Of texts under the same key the last one counts.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(texts: I) -> Self {
        let sorted: BTreeMap<String, String> = texts.into_iter().collect();
        Self(sorted.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<const N: usize> From<[(String, String); N]> for Labels {
    fn from(texts: [(String, String); N]) -> Self {
        texts.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_their_key_whatever_the_order_they_came_in() {
        let text = |text: &str| text.to_owned();
        let labels = Labels::from([(text("b"), text("2")), (text("a"), text("1")), (text("c"), text("3"))]);
        let found: Vec<_> = ["a", "b", "c", "", "d"].into_iter().map(|key| labels.get(key)).collect();
        assert_eq!(found, [Some("1"), Some("2"), Some("3"), None, None]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!((labels.len(), labels.is_empty()), (3, false));
        assert_eq!(labels, Labels::from([(text("c"), text("3")), (text("a"), text("1")), (text("b"), text("2"))]));
    }

    #[test]
    fn of_two_texts_under_one_key_the_last_one_counts() {
        let text = |text: &str| text.to_owned();
        let labels = Labels::from([(text("a"), text("1")), (text("a"), text("2"))]);
        assert_eq!((labels.get("a"), labels.len()), (Some("2"), 1));
        assert!(Labels::default().is_empty());
    }
}
