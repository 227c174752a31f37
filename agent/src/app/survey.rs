//! `cluster status` and `cluster profiles`: what the agents tell of a whole cluster, read with the caller's own rights.

use std::collections::BTreeSet;

use anyhow::Context;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::adapters::api_server::{
    Access, ApiError, ApiServer, Collection, Form, NODE_PROFILES, NODE_STATES, NODES, connect, escape,
};
use crate::cli::exit;
use crate::cli::output::{self, Detail};
use crate::cli::survey::{
    ClusterArgs, ClusterCommand, ClusterStatusArgs, NodeRow, ProfileRow, render_node, render_nodes, render_profiles,
};
use crate::config::AnswerOutput;

/// Objects of one page; a page of states is some 2 MB.
const PAGE: u32 = 500;
/// Pages of one list; more is a server that leads in circles.
const MAX_PAGES: u32 = 1000;

/// A question that was not answered.
type Refused = (Collection, ApiError);

/// Runs a command; the number is the exit code.
pub(super) fn run(command: &ClusterCommand) -> anyhow::Result<u8> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the client's runtime")?;
    runtime.block_on(async {
        match command {
            ClusterCommand::Status(args) => status(args).await,
            ClusterCommand::Profiles(args) => profiles(args).await,
        }
    })
}

async fn api(args: &ClusterArgs) -> anyhow::Result<ApiServer> {
    let access = Access::User { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
    Ok(connect(&access).await?)
}

const fn detail(output: AnswerOutput) -> Detail {
    if matches!(output, AnswerOutput::Wide) { Detail::Wide } else { Detail::Normal }
}

async fn status(args: &ClusterStatusArgs) -> anyhow::Result<u8> {
    let api = api(&args.cluster).await?;
    if let Some(node) = &args.node {
        return one_node(&api, node, &args.cluster).await;
    }
    let mut nodes = Vec::new();
    if let Err(refused) = list(&api, NODE_STATES, Form::Whole, "", |state| nodes.push(NodeRow::of(&state))).await {
        return Ok(complain(refused));
    }
    if let Some(selector) = &args.selector {
        let mut selected = BTreeSet::new();
        let name =
            |node: Value| selected.extend(node.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned));
        let labels = format!("&labelSelector={}", escape(selector));
        if let Err(refused) = list(&api, NODES, Form::Metadata, &labels, name).await {
            return Ok(complain(refused));
        }
        nodes.retain(|node| selected.contains(&node.node));
    }
    let output = args.cluster.output;
    output::print(output.form(), &nodes, |nodes| render_nodes(nodes, detail(output)))?;
    Ok(exit::OK)
}

async fn one_node(api: &ApiServer, node: &str, args: &ClusterArgs) -> anyhow::Result<u8> {
    let mut state = match api.read(&NODE_STATES.object(node), Form::Whole).await {
        Ok(Some(state)) => state,
        Ok(None) => {
            output::complain(&anyhow::anyhow!(
                "nothing is told of a node {node}: there is none, its agent has not reached the API server, or the \
                 definitions are missing (trimtab crd | kubectl apply -f -)"
            ));
            return Ok(exit::UNKNOWN);
        }
        Err(error) => return Ok(complain((NODE_STATES, error))),
    };
    if let Some(metadata) = state.get_mut("metadata").and_then(Value::as_object_mut) {
        // Longer than all the rest, and for nobody.
        metadata.remove("managedFields");
    }
    output::print(args.output.form(), &state, render_node)?;
    Ok(exit::OK)
}

async fn profiles(args: &ClusterArgs) -> anyhow::Result<u8> {
    let api = api(args).await?;
    let mut profiles = Vec::new();
    let shape = |profile: Value| profiles.push(ProfileRow::of(&profile));
    if let Err(refused) = list(&api, NODE_PROFILES, Form::Whole, "", shape).await {
        return Ok(complain(refused));
    }
    output::print(args.output.form(), &profiles, |profiles| render_profiles(profiles, detail(args.output)))?;
    Ok(exit::OK)
}

/// Every object of a collection, page by page, so that what is kept of one is all that stays of it.
async fn list(
    api: &ApiServer,
    collection: Collection,
    form: Form,
    narrowed: &str,
    mut take: impl FnMut(Value),
) -> Result<(), Refused> {
    let mut next = String::new();
    for _ in 0..MAX_PAGES {
        let from = if next.is_empty() { String::new() } else { format!("&continue={}", escape(&next)) };
        let query = format!("{}?limit={PAGE}{narrowed}{from}", collection.path());
        let mut page = api.list(&query, form).await.map_err(|error| (collection, error))?;
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            items.into_iter().for_each(&mut take);
        }
        next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
        if next.is_empty() {
            return Ok(());
        }
    }
    Err((collection, ApiError::Garbled { detail: format!("a list of more than {MAX_PAGES} pages") }))
}

/// Says what was refused in the words of the caller's world; the exit code.
fn complain((collection, error): Refused) -> u8 {
    let Collection { plural, kind, .. } = collection;
    let (code, error) = match error {
        ApiError::Forbidden { detail } => (
            exit::DENIED,
            anyhow::anyhow!("you may not read {plural}: {detail}; the ClusterRole trimtab-view permits it"),
        ),
        ApiError::Unauthorized { detail } => {
            (exit::DENIED, anyhow::anyhow!("the API server does not know you: {detail}; log in again"))
        }
        ApiError::Absent { .. } => (
            exit::FAILED,
            anyhow::anyhow!("this cluster has no kind {kind}; install it: trimtab crd | kubectl apply -f -"),
        ),
        error @ ApiError::Away { .. } => (exit::NO_AGENT, anyhow::Error::from(error)),
        error => (exit::FAILED, anyhow::Error::from(error).context(format!("cannot read {plural}"))),
    };
    output::complain(&error);
    code
}
