//! The five laws that hold for every subsystem, proven by one function for whatever node a fixture stands for:
//! a dry run writes nothing; one pass converges; a second pass writes nothing; drift made by others is healed; one
//! broken step leaves the others done and is made good later.
//!
//! Beyond the five: the empty specification gives everything back.
#![allow(dead_code, reason = "shared by two test binaries, each of which uses its part")]

use std::fmt::Debug;

use trimtab::reconcile::{Class, Step, Subsystem};
use trimtab_domain::plan::Plan;
use trimtab_domain::spec::NodeSpec;

/// A node, real or not, with one subsystem on it.
pub(crate) trait Fixture {
    /// The subsystem under test.
    type Sub: Subsystem;
    /// Everything that the subsystem could change, ledger included, in a form that can be compared.
    type State: PartialEq + Debug;

    /// The subsystem, on the node.
    fn subsystem(&self) -> &Self::Sub;
    /// A specification that needs at least two independent steps on the untouched node.
    fn spec(&self) -> NodeSpec;
    /// What the node (and the ledger) shows now.
    fn state(&self) -> Self::State;
    /// How many writes the subsystem tried so far, if the node can count them; else `None`.
    fn attempts(&self) -> Option<usize>;
    /// Another program changes something that the specification names; called on a converged node.
    fn drift(&self);
    /// Makes one step fail until [`repair`](Self::repair); returns the object that cannot be changed. `None`: this
    /// node has no way to do so, and the fifth law is proven elsewhere.
    fn break_one(&self) -> Option<String>;
    /// Makes that step work again.
    fn repair(&self);
}

/// What one pass did.
pub(crate) struct Pass<S> {
    /// What was planned.
    pub(crate) plan: Plan<S>,
    /// Steps that failed, each with its chain of causes.
    pub(crate) failures: Vec<(S, String)>,
    /// What is left to do afterwards.
    pub(crate) left: Plan<S>,
}

/// One pass as the engine makes it: stages in order, a failure ends its own chain and all later stages.
pub(crate) async fn pass<S: Subsystem>(subsystem: &S, spec: &NodeSpec) -> Pass<S::Step> {
    let desired = S::desired(spec);
    let plan = S::plan(desired, &subsystem.observe(desired).await.unwrap());
    let mut failures = Vec::new();
    for stage in &plan.stages {
        for chain in &stage.chains {
            for step in chain {
                match subsystem.apply(step).await {
                    Ok(()) => continue,
                    Err(error) if error.class == Class::Refused => {}
                    Err(error) => failures.push((step.clone(), error.chain())),
                }
                break;
            }
        }
        if !failures.is_empty() {
            break;
        }
    }
    let left = S::plan(desired, &subsystem.observe(desired).await.unwrap());
    Pass { plan, failures, left }
}

/// What one pass would do.
pub(crate) async fn dry_run<S: Subsystem>(subsystem: &S, spec: &NodeSpec) -> Plan<S::Step> {
    let desired = S::desired(spec);
    S::plan(desired, &subsystem.observe(desired).await.unwrap())
}

/// The steps of a plan as a person reads them.
pub(crate) fn texts<S: std::fmt::Display>(plan: &Plan<S>) -> Vec<String> {
    plan.steps().map(ToString::to_string).collect()
}

/// Proves the five laws, each on a node of its own.
pub(crate) async fn prove_five_laws<F: Fixture>(fresh: impl Fn() -> F) {
    dry_run_writes_nothing(&fresh()).await;
    one_pass_converges_and_a_second_writes_nothing(&fresh()).await;
    drift_is_healed(&fresh()).await;
    a_broken_step_leaves_the_others_done(&fresh()).await;
    the_empty_specification_gives_everything_back(&fresh()).await;
}

async fn dry_run_writes_nothing<F: Fixture>(node: &F) {
    let (before, attempts) = (node.state(), node.attempts());
    let plan = dry_run(node.subsystem(), &node.spec()).await;
    assert!(plan.steps().count() >= 2, "the fixture asks for too little: {:?}", texts(&plan));
    assert_eq!(node.state(), before, "a dry run changed the node");
    assert_eq!(node.attempts(), attempts, "a dry run tried to write");
}

async fn converge<F: Fixture>(node: &F) {
    let pass = pass(node.subsystem(), &node.spec()).await;
    let failures: Vec<&String> = pass.failures.iter().map(|(_, cause)| cause).collect();
    assert!(failures.is_empty(), "steps failed: {failures:?}");
    assert!(pass.left.is_empty(), "one pass left: {:?}", texts(&pass.left));
}

async fn one_pass_converges_and_a_second_writes_nothing<F: Fixture>(node: &F) {
    converge(node).await;
    let (before, attempts) = (node.state(), node.attempts());
    let second = pass(node.subsystem(), &node.spec()).await;
    assert!(second.plan.is_empty(), "a second pass planned: {:?}", texts(&second.plan));
    assert_eq!(node.state(), before, "a second pass changed the node");
    assert_eq!(node.attempts(), attempts, "a second pass tried to write");
}

async fn drift_is_healed<F: Fixture>(node: &F) {
    converge(node).await;
    let held = node.state();
    node.drift();
    assert_ne!(node.state(), held, "the fixture's drift changes nothing");
    let plan = dry_run(node.subsystem(), &node.spec()).await;
    assert!(!plan.is_empty(), "drift was not seen");
    converge(node).await;
    assert_eq!(node.state(), held, "drift was not healed");
}

async fn a_broken_step_leaves_the_others_done<F: Fixture>(node: &F) {
    let Some(broken) = node.break_one() else { return };
    let first = pass(node.subsystem(), &node.spec()).await;
    assert!(!first.failures.is_empty(), "nothing failed although {broken} is broken");
    for (step, cause) in &first.failures {
        let object = Step::object(step);
        assert_eq!(object, Some(broken.as_str()), "{step} failed too: {cause}");
    }
    for step in first.left.steps() {
        let object = Step::object(step);
        assert!(object.is_none_or(|object| object == broken), "{step} was not done because {broken} failed");
    }
    node.repair();
    converge(node).await;
}

async fn the_empty_specification_gives_everything_back<F: Fixture>(node: &F) {
    let before = node.state();
    converge(node).await;
    assert_ne!(node.state(), before, "the fixture's specification changes nothing");
    let pass = pass(node.subsystem(), &NodeSpec::default()).await;
    let failures: Vec<&String> = pass.failures.iter().map(|(_, cause)| cause).collect();
    assert!(failures.is_empty() && pass.left.is_empty(), "failures {failures:?}, left {:?}", texts(&pass.left));
    assert_eq!(node.state(), before, "the roll-back did not restore the node");
}
