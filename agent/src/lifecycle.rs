//! Start and end of the process: signals.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit status after a second signal, as a shell reports SIGTERM.
pub const FORCED_EXIT: i32 = 143;

/// Cancels the token at the first SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn cancel_on_signal(cancel: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let first = next(&mut terminate, &mut interrupt).await;
        info!(signal = first, "ending after the step in hand; the node keeps its settings");
        cancel.cancel();
        let second = next(&mut terminate, &mut interrupt).await;
        warn!(signal = second, "ending at once");
        #[expect(clippy::exit, reason = "a second signal asks for exactly this")]
        std::process::exit(FORCED_EXIT);
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
