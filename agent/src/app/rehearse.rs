//! What a profile that is not in force would change, asked of subsystems made for the question.
//!
//! Those that hold the node must not be asked: what they observe for a wish, they tell others (the desk, the answers).

use tokio::sync::mpsc;

use super::node;
use crate::adapters::ledger::DiskLedger;
use crate::config::NodeArgs;
use crate::reconcile::orders::{Done, Rehearsal};

/// Answers one after the other, until nobody can ask any more.
pub(super) async fn answer(args: NodeArgs, mut rehearsals: mpsc::Receiver<Rehearsal>) {
    while let Some(Rehearsal { spec, subsystems, answer }) = rehearsals.recv().await {
        let made = DiskLedger::peek(&args.state_dir).map_err(anyhow::Error::from);
        let made = made.and_then(|(ledger, _)| node::compose(&args, ledger));
        let mut plans = Vec::new();
        match made {
            Ok(node) => {
                for subsystem in node.subsystems.iter().filter(|subsystem| subsystems.contains(&subsystem.name())) {
                    let done = match subsystem.preview(&spec).await {
                        Ok(preview) => Done::from(preview),
                        Err(error) => Done::failed(error.chain()),
                    };
                    plans.push((subsystem.name(), done));
                }
            }
            Err(error) => {
                let failed = |name| (name, Done::failed(format!("{error:#}")));
                plans.extend(subsystems.into_iter().map(failed));
            }
        }
        // Who asked may have gone away.
        let _told = answer.send(plans);
    }
}
