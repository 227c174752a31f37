//! What the ledger keeps of an order for one key: the wish, and what the kernel made of it.
//!
//! The kernel clamps, rounds and respells some values. What it showed right after our own write of a wish counts as
//! that wish from then on, over restarts too; anything else that shows later is drift.

use super::value;

/// An order, as the ledger's `ordered` text holds it: the wish on the first line, then `= ` and what the kernel showed
/// instead, then `- ` and the older order that may still stand if the agent stopped before the write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ordered {
    /// What was wished for, white space collapsed.
    pub wish: String,
    /// What the kernel showed right after the write, if that is another value.
    pub read_back: Option<String>,
    /// What we had ordered before, until it is overwritten.
    pub before: Option<String>,
}

impl Ordered {
    /// An order of this wish, not yet carried out.
    #[must_use]
    pub fn new(wish: &str) -> Self {
        Self { wish: value::collapsed(wish), read_back: None, before: None }
    }

    /// Reads the ledger's text; unknown lines are ignored, so that an older agent can read a newer one's.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let wish = lines.next().unwrap_or_default().to_owned();
        let mut ordered = Self { wish, read_back: None, before: None };
        for line in lines {
            match line.split_at_checked(2) {
                Some(("= ", value)) => ordered.read_back = Some(value.to_owned()),
                Some(("- ", value)) => ordered.before = Some(value.to_owned()),
                _ => {}
            }
        }
        ordered
    }

    /// The ledger's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.wish.clone();
        for (mark, value) in [("= ", &self.read_back), ("- ", &self.before)] {
            if let Some(value) = value {
                text.push('\n');
                text.push_str(mark);
                text.push_str(value);
            }
        }
        text
    }

    /// True if this value is what the kernel makes of this wish.
    #[must_use]
    pub fn grants(&self, wish: &str, shown: &str) -> bool {
        self.wish == wish && self.read_back.as_deref().is_some_and(|read_back| read_back == value::collapsed(shown))
    }

    /// True if this value came from us: nobody else has changed it since.
    #[must_use]
    pub fn is_ours(&self, shown: &str) -> bool {
        let shown = value::collapsed(shown);
        let stands = |text: &Option<String>| text.as_deref() == Some(shown.as_str());
        value::same(&self.wish, &shown) || stands(&self.read_back) || stands(&self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_ledger() {
        let some = |text: &str| Some(text.to_owned());
        let rows = [
            Ordered { wish: "1024".into(), read_back: None, before: None },
            Ordered { wish: "1 2 3".into(), read_back: some("1 2 4"), before: None },
            Ordered { wish: String::new(), read_back: some(""), before: some("- = odd") },
        ];
        for ordered in rows {
            assert_eq!(Ordered::parse(&ordered.to_text()), ordered);
        }
    }

    #[test]
    fn ours_is_the_wish_its_effect_or_the_older_order() {
        let ordered = Ordered { wish: "010".into(), read_back: Some("9".into()), before: Some("1 2".into()) };
        for (shown, ours) in [("8", true), ("9\n", true), ("1\t2\n", true), ("7", false), ("", false)] {
            assert_eq!(ordered.is_ours(shown), ours, "{shown:?}");
        }
        assert!(ordered.grants("010", "9") && !ordered.grants("11", "9"));
    }
}
