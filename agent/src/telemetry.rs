//! The log: one line per event on stderr.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ColorChoice, LogFormat};

/// The client's library.
const LIBRARY: &str = "kube_client";

/// Starts logging. `filter` is a level (`info`) or a list of `target=level`; a filter that cannot be read counts as
/// `info` and is named in the first line.
pub fn start(filter: &str, format: LogFormat, color: ColorChoice) {
    let (parsed, wrong) = match with_quiet_library(filter).parse::<Targets>() {
        Ok(parsed) => (parsed, None),
        Err(error) => {
            (Targets::new().with_default(LevelFilter::INFO).with_target(LIBRARY, LevelFilter::OFF), Some(error))
        }
    };
    let colored = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(parsed);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(colored).with_target(false);
    let started = match format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "a log was there already");
    }
    if let Some(error) = wrong {
        tracing::warn!(filter, %error, "the log filter cannot be read; `info` is used");
    }
}

/// The client's library says of each failed request that it has failed, as an error; the agent says it once, with what it
/// means. Who names the library in the filter hears it.
fn with_quiet_library(filter: &str) -> String {
    if filter.contains(LIBRARY) { filter.to_owned() } else { format!("{LIBRARY}=off,{filter}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_clients_library_is_silent_unless_it_is_named() {
        let rows = [
            ("info", "kube_client=off,info"),
            ("trimtab=debug,warn", "kube_client=off,trimtab=debug,warn"),
            ("kube_client=debug,info", "kube_client=debug,info"),
            ("", "kube_client=off,"),
        ];
        for (filter, expected) in rows {
            assert_eq!(with_quiet_library(filter), expected);
            expected.parse::<Targets>().unwrap();
        }
    }
}
