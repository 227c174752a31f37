//! The log: one line per event on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{ColorChoice, LogFormat};

/// Starts logging. `filter` is a level (`info`) or a list of `target=level`; a filter that cannot be read counts as
/// `info` and is named in the first line.
pub fn start(filter: &str, format: LogFormat, color: ColorChoice) {
    let (parsed, wrong) = match EnvFilter::try_new(filter) {
        Ok(parsed) => (parsed, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let colored = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => std::io::stderr().is_terminal(),
    };
    let builder = fmt().with_env_filter(parsed).with_writer(std::io::stderr).with_ansi(colored).with_target(false);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "a log was there already");
    }
    if let Some(error) = wrong {
        tracing::warn!(filter, %error, "the log filter cannot be read; `info` is used");
    }
}
