//! One rule as `iptables-save` prints it, and the form in which two rules are compared.

use std::net::IpAddr;

use ipnet::IpNet;

/// A rule whose words cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quote without an end in rule {0:?}")]
pub struct RuleError(pub String);

/// The words behind `-A CHAIN`, kept as they were printed so that the very same rule can be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: String,
    terms: Vec<Term>,
}

/// One option with its arguments, and the extension that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Term {
    /// `""` for the basic options, `-m NAME` or `-j NAME` for those of an extension.
    scope: String,
    negated: bool,
    name: String,
    arguments: Vec<String>,
}

impl Rule {
    /// Reads the part of a saved line behind `-A CHAIN `.
    ///
    /// # Errors
    /// [`RuleError`] if a quote is not closed.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let words = split_words(text).ok_or_else(|| RuleError(text.to_owned()))?;
        let mut terms = read_terms(&words);
        terms.retain(|term| !term.matches_everything());
        terms.sort();
        Ok(Self { text: text.trim().to_owned(), terms })
    }

    /// The rule as it was printed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether both rules do the same: order of matches and options, quoting and the spelling of addresses aside.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.terms == other.terms
    }

    /// Target of `-j` or `-g`; `None` for a rule that only counts.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.name == "-j" || term.name == "-g")?;
        term.arguments.first().map(String::as_str)
    }

    /// The comment, unquoted.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.name == "--comment")?;
        term.arguments.first().map(String::as_str)
    }

    /// Whether every packet matches: nothing but comments and a target.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        self.terms.iter().all(|term| term.scope == "-m comment" || term.scope.starts_with("-j "))
    }

    /// The one prefix that the source must be in; `None`: any, or another kind of condition.
    #[must_use]
    pub fn source(&self) -> Option<IpNet> {
        let term = self.terms.iter().find(|term| term.name == "-s" && !term.negated)?;
        term.arguments.first()?.parse().ok()
    }

    /// Whether the rule sets the source of packets that it matches.
    #[must_use]
    pub fn sets_source(&self) -> bool {
        matches!(self.target(), Some("MASQUERADE" | "SNAT"))
    }

    /// Whether the packet's mark is tested, as kube-proxy does.
    #[must_use]
    pub fn tests_mark(&self) -> bool {
        self.terms.iter().any(|term| term.name == "--mark")
    }

    /// Whether the state of the packet's connection is tested, as rules for answers do.
    #[must_use]
    pub fn tests_connection(&self) -> bool {
        self.terms.iter().any(|term| matches!(term.name.as_str(), "--ctstate" | "--state"))
    }

    /// Whether the rule tests nothing but (at most) that the destination is not this node.
    pub(super) fn tests_only_non_local(&self) -> bool {
        self.terms.iter().all(|term| match term.scope.as_str() {
            "-m comment" => true,
            "-m addrtype" => match term.name.as_str() {
                "-m" => true,
                "--dst-type" => term.negated && term.arguments == ["LOCAL"],
                _ => false,
            },
            scope => scope.starts_with("-j "),
        })
    }
}

impl Term {
    /// `-d 0.0.0.0/0` says nothing, and is not printed again.
    fn matches_everything(&self) -> bool {
        matches!(self.name.as_str(), "-s" | "-d")
            && !self.negated
            && self.arguments.first().and_then(|net| net.parse::<IpNet>().ok()).is_some_and(|net| net.prefix_len() == 0)
    }
}

/// A word and whether any of it was quoted; a quoted word is never an option.
struct Word {
    text: String,
    quoted: bool,
}

/// Splits as `iptables-restore` does (`xshared.c`, `add_param_to_argv`): blanks separate, double quotes hold
/// together, a backslash inside quotes takes the next character as it is. `None`: a quote was left open.
fn split_words(text: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut open = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if !open && character.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_with(|| Word { text: String::new(), quoted: false });
        match character {
            '"' => {
                open = !open;
                current.quoted = true;
            }
            '\\' if open => current.text.push(characters.next()?),
            other => current.text.push(other),
        }
    }
    words.extend(word);
    (!open).then_some(words)
}

fn read_terms(words: &[Word]) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    let mut scope = String::new();
    let mut negated = false;
    // `--comment` takes one word, whatever it looks like.
    let mut literal = false;
    for word in words {
        let is_option = !literal && !word.quoted && word.text.len() > 1 && word.text.starts_with('-');
        if !literal && !word.quoted && word.text == "!" {
            negated = true;
        } else if is_option {
            let name = short_name(&word.text);
            if name.len() == 2 {
                scope.clear();
            }
            literal = name == "--comment";
            terms.push(Term { scope: scope.clone(), negated, name: name.to_owned(), arguments: Vec::new() });
            negated = false;
        } else if let Some(term) = terms.last_mut() {
            literal = false;
            if term.arguments.is_empty() && matches!(term.name.as_str(), "-m" | "-j" | "-g") {
                let kind = if term.name == "-m" { "-m" } else { "-j" };
                scope = format!("{kind} {}", word.text);
                term.scope.clone_from(&scope);
            }
            term.arguments.push(canonical_argument(&term.name, &word.text));
        }
    }
    terms
}

/// The spelling that `iptables-save` uses.
fn short_name(option: &str) -> &str {
    match option {
        "--source" | "--src" => "-s",
        "--destination" | "--dst" => "-d",
        "--protocol" | "--proto" => "-p",
        "--in-interface" => "-i",
        "--out-interface" => "-o",
        "--match" => "-m",
        "--jump" => "-j",
        "--goto" => "-g",
        other => other,
    }
}

fn canonical_argument(option: &str, argument: &str) -> String {
    match option {
        "-s" | "-d" => canonical_network(argument).unwrap_or_else(|| argument.to_owned()),
        "--probability" => canonical_probability(argument).unwrap_or_else(|| argument.to_owned()),
        _ => argument.to_owned(),
    }
}

/// `8.8.8.8` becomes `8.8.8.8/32`; `None` for what is not a plain prefix, a mask with holes for instance.
fn canonical_network(text: &str) -> Option<String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    Some(network.trunc().to_string())
}

/// The kernel keeps 31 bits of a probability (`xt_statistic.h`, `nth`), and prints what it kept.
fn canonical_probability(text: &str) -> Option<String> {
    let probability: f64 = text.parse().ok()?;
    Some(format!("{:.0}/2^31", (probability * 2_147_483_648.0).round()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::parse(text).unwrap()
    }

    #[test]
    fn rules_are_compared_by_meaning() {
        let rows = [
            ("length of a host prefix", "-d 8.8.8.8 -j RETURN", "-d 8.8.8.8/32 -j RETURN", true),
            ("everything", "-d 0.0.0.0/0 -j RETURN", "-j RETURN", true),
            ("everything, IPv6", "-d ::/0 -j RETURN", "-j RETURN", true),
            ("not everything", "! -d 0.0.0.0/0 -j RETURN", "-j RETURN", false),
            ("spelling of IPv6", "-d 2001:0DB8::/32 -j RETURN", "-d 2001:db8::/32 -j RETURN", true),
            ("host IPv6", "-d FD00::1 -j RETURN", "-d fd00::1/128 -j RETURN", true),
            ("quotes around one word", "-m comment --comment \"x\" -j A", "-m comment --comment x -j A", true),
            (
                "order of matches",
                "-m addrtype ! --dst-type LOCAL -m comment --comment \"a b\" -j A",
                "-m comment --comment \"a b\" -m addrtype ! --dst-type LOCAL -j A",
                true,
            ),
            ("negation counts", "-m addrtype ! --dst-type LOCAL -j A", "-m addrtype --dst-type LOCAL -j A", false),
            (
                "target options",
                "-j MASQUERADE --random-fully --to-ports 1-2",
                "-j MASQUERADE --to-ports 1-2 --random-fully",
                true,
            ),
            (
                "probability",
                "-m statistic --mode random --probability 0.469292562840114 -j A",
                "-m statistic --mode random --probability 0.46929256292 -j A",
                true,
            ),
            (
                "another probability",
                "-m statistic --mode random --probability 0.4693 -j A",
                "-m statistic --mode random --probability 0.46929256292 -j A",
                false,
            ),
            ("long options", "--destination 10.0.0.0/8 --jump RETURN", "-d 10.0.0.0/8 -j RETURN", true),
            ("quotes inside", "-m comment --comment \"\\\"x y\\\"\" -j A", "-m comment --comment \"x y\" -j A", false),
            ("goto is no jump", "-g A", "-j A", false),
            ("comment like an option", "-m comment --comment -j -j A", "-m comment --comment \"-j\" -j A", true),
            ("source is not destination", "-s 10.0.0.0/8 -j A", "-d 10.0.0.0/8 -j A", false),
        ];
        for (name, left, right, expected) in rows {
            assert_eq!(rule(left).same(&rule(right)), expected, "{name}");
        }
    }

    #[test]
    fn comment_and_target_are_read() {
        let jump = rule("-m comment --comment \"\\\"ip-masq-agent: it's\\\"\" -m addrtype ! --dst-type LOCAL -j X");
        assert_eq!(jump.comment(), Some("\"ip-masq-agent: it's\""));
        assert_eq!(jump.target(), Some("X"));
        assert!(!jump.is_unconditional());
        assert!(rule("-m comment --comment all -j MASQUERADE --random-fully").is_unconditional());
        assert!(!rule("-o eth0 -j MASQUERADE").is_unconditional());
        assert!(rule("-m mark ! --mark 0x4000/0x4000 -j RETURN").tests_mark());
        assert_eq!(rule("-s 1.2.3.4/32").target(), None);
    }

    #[test]
    fn an_open_quote_is_refused() {
        for text in ["-m comment --comment \"x", "-m comment --comment \"x\\\"", "\"\\"] {
            assert_eq!(Rule::parse(text), Err(RuleError(text.into())));
        }
    }
}
