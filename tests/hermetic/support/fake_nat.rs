//! iptables' table `nat`, and the table of our own in nftables, in memory. What it models, and why:
//!
//! - a text for `iptables-restore --noflush` is applied whole or not at all: a failed transaction changes nothing;
//! - naming a chain creates or empties it; `-D` needs a rule that is there, `-X` an empty chain that nothing refers to;
//! - MASQUERADE in a chain that OUTPUT leads to is refused, as the kernel does;
//! - rules are printed as `iptables-save` does, not as they were given: `/32`, no `/0`, eleven digits, quotes only
//!   where needed, addresses ahead of matches;
//! - a generation that counts changes (nft), or none as soon as there is a table (legacy);
//! - changes of other programs, which the counts of our own reads and writes leave out;
//! - an agent that is started in another network than the node's;
//! - table `filter` beside it, with writes of its own that can fail;
//! - tables of our own in nftables, two per family, written whole or removed, which counts as a change like any other;
//! - families that are missing, locked, or that change while they are being read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use trimtab::ports::{BackendChoice, NatError, NatTable, NativeSaved, Saved};
use trimtab_domain::masquerade::{
    Backend, Family, GUARD_TABLE, GuardView, NATIVE_TABLE, Native, NativeGuard, NativeView, Network, TableId,
};
use trimtab_domain::plan::Cause;

/// Chains by name; `true` for built-in ones, which are printed with a policy.
type Chains = BTreeMap<String, (bool, Vec<Vec<String>>)>;

/// iptables in memory. Clones share the same node.
#[derive(Clone)]
pub(crate) struct FakeNat {
    node: Arc<Mutex<Node>>,
}

struct Node {
    backend: Backend,
    tables: BTreeMap<TableId, Chains>,
    filters: BTreeMap<TableId, Chains>,
    native: BTreeMap<Family, NativeView>,
    guards: BTreeMap<Family, GuardView>,
    generation: u64,
    locked: Option<Family>,
    filter_locked: Option<Family>,
    missing: Option<Family>,
    unreadable: Option<Family>,
    release: Option<String>,
    network: Network,
    changes_during_save: Vec<(TableId, String)>,
    saves: usize,
    restores: usize,
}

impl FakeNat {
    pub(crate) fn new(backend: Backend) -> Self {
        let node = Node {
            backend,
            tables: BTreeMap::new(),
            filters: BTreeMap::new(),
            native: BTreeMap::new(),
            guards: BTreeMap::new(),
            generation: 1,
            locked: None,
            filter_locked: None,
            missing: None,
            unreadable: None,
            release: None,
            network: Network::OfNode,
            changes_during_save: Vec::new(),
            saves: 0,
            restores: 0,
        };
        Self { node: Arc::new(Mutex::new(node)) }
    }

    fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap()
    }

    /// Another program changes the rules.
    pub(crate) fn other(&self, table: TableId, text: &str) {
        self.node().change(table, text).unwrap();
    }

    /// Another program changes the table of our own, or with `Absent` removes it.
    pub(crate) fn other_native(&self, family: Family, view: NativeView) {
        self.node().change_native(family, view);
    }

    /// The kubelet shows another backend.
    pub(crate) fn use_backend(&self, backend: Backend) {
        self.node().backend = backend;
    }

    /// The backend that the kubelet shows.
    pub(crate) fn backend_in_use(&self) -> Backend {
        self.node().backend
    }

    /// Another program holds the lock of one family: writes fail.
    pub(crate) fn lock(&self, family: Option<Family>) {
        self.node().locked = family;
    }

    /// The same for table `filter` and the table of our own that guards.
    pub(crate) fn lock_filter(&self, family: Option<Family>) {
        self.node().filter_locked = family;
    }

    /// Another program changes the table of our own that guards, or with `Absent` removes it.
    pub(crate) fn other_guard(&self, family: Family, view: GuardView) {
        self.node().change_guard(family, view);
    }

    /// Table `filter` as `iptables-save` would print it, or the table of our own that guards.
    pub(crate) fn print_filter(&self, table: TableId) -> String {
        self.node().print_filter(table)
    }

    /// The tools of one family are not installed.
    pub(crate) fn remove_tools(&self, family: Option<Family>) {
        self.node().missing = family;
    }

    /// Reading one family fails.
    pub(crate) fn fail_reads(&self, family: Option<Family>) {
        self.node().unreadable = family;
    }

    /// The tools say that they are of this release, which is too old for random ports.
    pub(crate) fn release(&self, release: Option<&str>) {
        self.node().release = release.map(str::to_owned);
    }

    /// The agent is started in this network.
    pub(crate) fn network(&self, network: Network) {
        self.node().network = network;
    }

    /// Another program changes the rules while the next read is under way, right after the text was made.
    pub(crate) fn change_during_save(&self, table: TableId, text: &str) {
        self.node().changes_during_save.push((table, text.to_owned()));
    }

    /// What `iptables-save` would print, or the table of our own, read past the counters.
    pub(crate) fn print(&self, table: TableId) -> String {
        self.node().print(table)
    }

    /// How many processes `iptables-save` and `iptables-restore` would have been so far.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let node = self.node();
        (node.saves, node.restores)
    }
}

impl NatTable for FakeNat {
    async fn backend(&self) -> BackendChoice {
        BackendChoice { backend: self.node().backend, reason: "the test says so".into() }
    }

    fn network(&self) -> Network {
        self.node().network
    }

    async fn too_old_for_random(&self, _: TableId) -> Option<String> {
        self.node().release.clone()
    }

    fn generation(&self, table: TableId) -> Option<u64> {
        let node = self.node();
        (table.backend != Backend::Legacy || !node.tables.contains_key(&table)).then_some(node.generation)
    }

    async fn save(&self, table: TableId) -> Result<Saved, NatError> {
        let mut node = self.node();
        if node.missing == Some(table.family) {
            let detail = format!("{}-save is not installed; install the package iptables", table.tool());
            return Ok(Saved::Unavailable { cause: Cause::Unsupported, detail });
        }
        node.saves += 1;
        if node.unreadable == Some(table.family) {
            return Err(failure("iptables-save", "no memory"));
        }
        let text = node.print(table);
        for (table, change) in std::mem::take(&mut node.changes_during_save) {
            node.change(table, &change).unwrap();
        }
        Ok(Saved::Text(text))
    }

    async fn save_filter(&self, table: TableId) -> Result<Saved, NatError> {
        let mut node = self.node();
        node.saves += 1;
        Ok(Saved::Text(node.print_filter(table)))
    }

    fn read_guard(&self, family: Family) -> Result<NativeSaved<GuardView>, NatError> {
        Ok(NativeSaved::View(self.node().guards.get(&family).cloned().unwrap_or(GuardView::Absent)))
    }

    fn write_guard(&self, family: Family, to: Option<&NativeGuard>) -> Result<(), NatError> {
        let mut node = self.node();
        node.restores += 1;
        if node.filter_locked == Some(family) {
            return Err(failure("nf_tables", "another transaction is under way"));
        }
        node.change_guard(family, to.map_or(GuardView::Absent, |guard| GuardView::Holds(guard.clone())));
        Ok(())
    }

    async fn restore(&self, table: TableId, text: &str) -> Result<(), NatError> {
        let mut node = self.node();
        node.restores += 1;
        let locked = if text.starts_with("*filter") { node.filter_locked } else { node.locked };
        if locked == Some(table.family) {
            return Err(failure("iptables-restore", "Another app is currently holding the xtables lock."));
        }
        node.change(table, text).map_err(|why| failure("iptables-restore", &why))
    }

    fn read_native(&self, family: Family) -> Result<NativeSaved, NatError> {
        let node = self.node();
        if node.missing == Some(family) {
            let detail = format!("this kernel has no nftables for {family}; load nf_tables");
            return Ok(NativeSaved::Unavailable { cause: Cause::Unsupported, detail });
        }
        if node.unreadable == Some(family) {
            return Err(failure("nf_tables", "no memory"));
        }
        Ok(NativeSaved::View(node.native.get(&family).cloned().unwrap_or(NativeView::Absent)))
    }

    fn write_native(&self, family: Family, to: Option<&Native>) -> Result<(), NatError> {
        let mut node = self.node();
        node.restores += 1;
        if node.locked == Some(family) {
            return Err(failure("nf_tables", "another transaction is under way"));
        }
        node.change_native(family, to.map_or(NativeView::Absent, |native| NativeView::Holds(native.clone())));
        Ok(())
    }
}

fn failure(command: &str, output: &str) -> NatError {
    NatError { command: command.into(), status: "exit status: 4".into(), output: output.into(), transient: true }
}

impl Node {
    fn change_native(&mut self, family: Family, view: NativeView) {
        let after = view.clone();
        let before = self.native.insert(family, view).unwrap_or(NativeView::Absent);
        self.generation += u64::from(before != after);
    }

    fn change_guard(&mut self, family: Family, view: GuardView) {
        let after = view.clone();
        let before = self.guards.insert(family, view).unwrap_or(GuardView::Absent);
        self.generation += u64::from(before != after);
    }

    fn print_filter(&self, table: TableId) -> String {
        if table.backend == Backend::Native {
            return match self.guards.get(&table.family) {
                None | Some(GuardView::Absent) => String::new(),
                Some(GuardView::Odd(why)) => format!("table {GUARD_TABLE}: {why}\n"),
                Some(GuardView::Holds(held)) => format!("table {GUARD_TABLE}\n{}", held.to_text(table.family)),
            };
        }
        text_of("filter", &self.filters.get(&table).cloned().unwrap_or_else(|| fresh("filter")))
    }

    fn print(&self, table: TableId) -> String {
        if table.backend == Backend::Native {
            return match self.native.get(&table.family) {
                None | Some(NativeView::Absent) => String::new(),
                Some(NativeView::Odd(why)) => format!("table {NATIVE_TABLE}: {why}\n"),
                Some(NativeView::Holds(held)) => format!("table {NATIVE_TABLE}\n{}", held.to_text(table.family)),
            };
        }
        text_of("nat", &self.tables.get(&table).cloned().unwrap_or_else(|| fresh("nat")))
    }

    fn change(&mut self, table: TableId, text: &str) -> Result<(), String> {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let [first, commands @ .., last] = lines.as_slice() else { return Err("an empty text".into()) };
        let name = match (*first, *last) {
            ("*nat", "COMMIT") => "nat",
            ("*filter", "COMMIT") => "filter",
            _ => return Err(format!("a text from {first} to {last}")),
        };
        let tables = if name == "nat" { &mut self.tables } else { &mut self.filters };
        let before = tables.get(&table).cloned().unwrap_or_else(|| fresh(name));
        let mut chains = before.clone();
        for (number, line) in (2..).zip(commands) {
            command(&mut chains, line).map_err(|why| format!("line {number} failed: {why}: {line}"))?;
        }
        if name == "nat" {
            forbid_masquerade_behind_output(&chains)?;
        }
        self.generation += u64::from(chains != before);
        tables.insert(table, chains);
        Ok(())
    }
}

fn text_of(name: &str, chains: &Chains) -> String {
    let mut text = format!("# Generated by a double\n*{name}\n");
    for (name, (built_in, _)) in chains {
        text += &format!(":{name} {} [12:720]\n", if *built_in { "ACCEPT" } else { "-" });
    }
    for (name, (_, rules)) in chains {
        for rule in rules {
            let words: Vec<String> = rule.iter().map(|word| quoted(word)).collect();
            text += &format!("-A {name} {}", words.join(" "));
            text = text.trim_end().to_owned() + "\n";
        }
    }
    text + "COMMIT\n"
}

fn fresh(table: &str) -> Chains {
    let names: &[&str] = match table {
        "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        _ => &["INPUT", "FORWARD", "OUTPUT"],
    };
    names.iter().map(|name| ((*name).to_owned(), (true, Vec::new()))).collect()
}

fn command(chains: &mut Chains, line: &str) -> Result<(), String> {
    if let Some(declaration) = line.strip_prefix(':') {
        let name = declaration.split(' ').next().unwrap().to_owned();
        let built_in = chains.get(&name).is_some_and(|chain| chain.0);
        chains.insert(name, (built_in, Vec::new()));
        return Ok(());
    }
    let mut given = split(line)?.into_iter();
    let (verb, name) = (given.next().unwrap(), given.next().ok_or("no chain")?);
    let mut words: Vec<String> = given.collect();
    if verb == "-X" {
        let unused = !chains.values().flat_map(|chain| &chain.1).any(|rule| target(rule) == Some(&name));
        let empty = chains.get(&name).is_some_and(|chain| !chain.0 && chain.1.is_empty());
        chains.remove(&name).filter(|_| unused && empty).ok_or("Device or resource busy")?;
        return Ok(());
    }
    let place: usize = if verb == "-I" { words.remove(0).parse().map_err(|_| "a place is missing")? } else { 0 };
    let rule = normal(&words)?;
    let known = ["ACCEPT", "DROP", "RETURN", "MASQUERADE", "MARK", "SNAT", "DNAT", "REJECT"];
    if let Some(target) = target(&rule).filter(|target| !known.contains(&target.as_str())) {
        chains.get(target).ok_or("No chain/target/match by that name")?;
    }
    let rules = &mut chains.get_mut(&name).ok_or("No chain/target/match by that name")?.1;
    match verb.as_str() {
        "-A" => rules.push(rule),
        "-I" if (1..=rules.len() + 1).contains(&place) => rules.insert(place - 1, rule),
        "-D" => {
            let found = rules.iter().position(|known| *known == rule).ok_or("does a matching rule exist?")?;
            rules.remove(found);
        }
        _ => return Err("a command that is not modelled, or a place that is not there".into()),
    }
    Ok(())
}

fn forbid_masquerade_behind_output(chains: &Chains) -> Result<(), String> {
    let mut open = vec!["OUTPUT".to_owned()];
    let mut seen = Vec::new();
    while let Some(name) = open.pop().filter(|name| !seen.contains(name)) {
        for rule in chains.get(&name).map(|chain| chain.1.as_slice()).unwrap_or_default() {
            match target(rule).map(String::as_str) {
                Some("MASQUERADE") => return Err("Invalid argument: MASQUERADE behind OUTPUT".into()),
                Some(target) => open.push(target.to_owned()),
                None => {}
            }
        }
        seen.push(name);
    }
    Ok(())
}

fn target(rule: &[String]) -> Option<&String> {
    rule.iter().position(|word| word == "-j" || word == "-g").and_then(|at| rule.get(at + 1))
}

/// The words in the order and spelling in which they are printed.
fn normal(words: &[String]) -> Result<Vec<String>, String> {
    let (mut addresses, mut rest) = (Vec::new(), Vec::new());
    let mut given = words.iter().peekable();
    while let Some(word) = given.next() {
        if matches!(word.as_str(), "-s" | "-d" | "-p" | "-i" | "-o") {
            let negated = rest.last().is_some_and(|last: &String| last == "!").then(|| rest.pop()).flatten();
            let argument = given.next().ok_or("an argument is missing")?;
            let argument = if matches!(word.as_str(), "-s" | "-d") { network(argument)? } else { argument.clone() };
            if !argument.ends_with("/0") {
                addresses.extend(negated.into_iter().chain([word.clone(), argument]));
            }
        } else if word == "--probability" {
            let number: f64 = given.next().and_then(|text| text.parse().ok()).ok_or("no probability")?;
            let kept = (number * 2_147_483_648.0).round() / 2_147_483_648.0;
            rest.extend([word.clone(), format!("{kept:.11}")]);
        } else {
            rest.push(word.clone());
        }
    }
    addresses.extend(rest);
    Ok(addresses)
}

fn network(text: &str) -> Result<String, String> {
    let (address, length) = text.split_once('/').unwrap_or((text, if text.contains(':') { "128" } else { "32" }));
    let address: std::net::IpAddr = address.parse().map_err(|_| format!("host/network {text} not found"))?;
    Ok(format!("{address}/{length}"))
}

fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut open) = (Vec::new(), String::new(), false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => open = !open,
            '\\' if open => word.extend(characters.next()),
            ' ' if !open => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            other => word.push(other),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    if open { Err("a quote is open".into()) } else { Ok(words) }
}

/// `xtables_save_string`: quotes only where a character asks for them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,!=".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped: String = word.chars().flat_map(|c| ["\"'\\".contains(c).then_some('\\'), Some(c)]).flatten().collect();
    format!("\"{escaped}\"")
}
