//! Commands that ask the running agent: `status`, `pods`.

use crate::cli::ClientArgs;

/// Shows what the agent holds, refuses and found.
pub(super) fn status(_args: &ClientArgs) -> anyhow::Result<u8> {
    anyhow::bail!("the client is not there")
}

/// Shows who holds which CPUs and memory.
pub(super) fn pods(_args: &ClientArgs) -> anyhow::Result<u8> {
    anyhow::bail!("the client is not there")
}
