//! The command lines of the two agents, read as Go's `flag` package reads them.

use std::path::PathBuf;

use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource};

/// Where both agents look for their configuration.
pub const CONFIG_DIRECTORY: &str = "/etc/config";

/// A command line that the agent would not start with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// It does not know the flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// Not a flag at all.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A value is missing.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// Not a truth value.
    #[error("invalid boolean value {value:?} for -{flag}: parse error")]
    Boolean {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
    },
    /// Another value that is not allowed.
    #[error("invalid value {value:?} for flag -{flag}: parse error")]
    Value {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
    },
    /// `--to-ports` is not a list of ranges.
    #[error("Invalid --to-ports flag {value:?}: {cause}")]
    Ports {
        /// Its value.
        value: String,
        /// What is wrong.
        cause: PortsError,
    },
    /// `--help`: the agent prints its usage and ends well.
    #[error("flag: help requested")]
    Help,
}

/// What is wrong with a list of port ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// A range from high to low.
    #[error("first is greater than last in {0:?}")]
    Turned(String),
    /// More than two numbers.
    #[error("invalid interval {0:?}")]
    Interval(String),
    /// Not a number.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
}

/// Flags of klog, which change nothing about the rules; true: a boolean.
const LOG_FLAGS: [(&str, bool); 15] = [
    ("v", false),
    ("vmodule", false),
    ("logtostderr", true),
    ("alsologtostderr", true),
    ("stderrthreshold", false),
    ("log_dir", false),
    ("log_file", false),
    ("log_file_max_size", false),
    ("log_backtrace_at", false),
    ("one_output", true),
    ("skip_headers", true),
    ("skip_log_headers", true),
    ("add_dir_header", true),
    ("alsologtostderrthreshold", false),
    ("legacy_stderr_threshold_behavior", true),
];

/// What the agent would do with these flags, as a section of a profile that reads its configuration in place.
///
/// # Errors
/// [`FlagError`] in the agent's words; it ends with 2, with 1 for [`FlagError::Ports`], with 0 for help.
pub fn parse(agent: Compat, arguments: &[String]) -> Result<IpMasqSpec, FlagError> {
    let directory = PathBuf::from(CONFIG_DIRECTORY);
    let config = match agent {
        Compat::KubernetesSigs => ConfigSource::File(directory.join(super::FILE_NAME)),
        Compat::Azure => ConfigSource::Directory(directory),
    };
    let mut spec = IpMasqSpec {
        compat: Some(agent),
        config: Some(config),
        random_fully: agent == Compat::KubernetesSigs,
        ..IpMasqSpec::default()
    };
    let mut all_reserved = false;
    let mut ports = String::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(text) = argument.strip_prefix('-').filter(|text| !text.is_empty()) else { break };
        let text = text.strip_prefix('-').unwrap_or(text);
        if text.is_empty() {
            break;
        }
        let (name, given) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        if name.is_empty() || name.starts_with('-') {
            return Err(FlagError::Syntax(argument.clone()));
        }
        let mut value = || given.clone().or_else(|| rest.next().cloned()).ok_or(FlagError::NoValue(name.to_owned()));
        match (name, agent) {
            ("masq-chain", _) => spec.masq_chain = value()?,
            ("nomasq-all-reserved-ranges", _) => all_reserved = boolean(name, given.as_deref())?,
            ("enable-ipv6", _) => spec.enable_ipv6 = boolean(name, given.as_deref())?,
            ("random-fully", Compat::KubernetesSigs) => spec.random_fully = boolean(name, given.as_deref())?,
            ("to-ports", Compat::KubernetesSigs) => ports = value()?,
            ("resync-interval", Compat::Azure) => spec.resync_interval = Some(seconds(name, value()?)?),
            ("help" | "h", _) => return Err(FlagError::Help),
            _ => log_flag(name, agent, given.as_deref(), value)?,
        }
    }
    spec.non_masquerade_cidrs = IpMasqSpec::default_cidrs(all_reserved);
    spec.to_ports = read_ports(&ports).map_err(|cause| FlagError::Ports { value: ports.clone(), cause })?;
    Ok(spec)
}

fn log_flag(
    name: &str,
    agent: Compat,
    given: Option<&str>,
    value: impl FnOnce() -> Result<String, FlagError>,
) -> Result<(), FlagError> {
    let known = LOG_FLAGS.into_iter().find(|(flag, _)| *flag == name);
    let newer = matches!(name, "alsologtostderrthreshold" | "legacy_stderr_threshold_behavior");
    match known.filter(|_| agent == Compat::KubernetesSigs || !newer) {
        Some((_, true)) => boolean(name, given).map(drop),
        Some((_, false)) => value().map(drop),
        None => Err(FlagError::Unknown(name.to_owned())),
    }
}

fn boolean(flag: &str, value: Option<&str>) -> Result<bool, FlagError> {
    match value {
        None | Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some(other) => Err(FlagError::Boolean { flag: flag.to_owned(), value: other.to_owned() }),
    }
}

/// Whole seconds; less than one would spin.
fn seconds(flag: &str, value: String) -> Result<std::time::Duration, FlagError> {
    match value.parse::<i64>() {
        Ok(seconds) => Ok(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))),
        Err(_) => Err(FlagError::Value { flag: flag.to_owned(), value }),
    }
}

/// `N` or `N-M`, comma-separated; no upper bound is checked here.
fn read_ports(text: &str) -> Result<Vec<(u32, u32)>, PortsError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let number = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let known = digits.parse::<u32>().ok().filter(|_| !digits.starts_with(['+', '-']));
        known.ok_or_else(|| PortsError::Number(text.to_owned()))
    };
    let range = |part: &str| {
        let ends: Vec<&str> = part.split('-').collect();
        match ends.as_slice() {
            [only] => Ok((number(only)?, number(only)?)),
            [first, last] => {
                let range = (number(first)?, number(last)?);
                if range.0 > range.1 { Err(PortsError::Turned(part.to_owned())) } else { Ok(range) }
            }
            _ => Err(PortsError::Interval(part.to_owned())),
        }
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn line(agent: Compat, text: &str) -> Result<IpMasqSpec, String> {
        let arguments: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        parse(agent, &arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_line_says_what_it_says_to_go() {
        use Compat::{Azure, KubernetesSigs as Sigs};
        let sigs = |text| line(Sigs, text).unwrap();
        assert_eq!(sigs("-masq-chain X --enable-ipv6").masq_chain, "X");
        assert!(sigs("--enable-ipv6=T --masq-chain=X").enable_ipv6);
        // A boolean takes its value only with `=`: what follows ends the flags.
        let positional = sigs("--enable-ipv6 false --masq-chain=X");
        assert!(positional.enable_ipv6 && positional.masq_chain == "IP-MASQ-AGENT");
        assert_eq!(sigs("--nomasq-all-reserved-ranges -v 2 --logtostderr").non_masquerade_cidrs.len(), 11);
        assert_eq!(sigs("--to-ports=1-70000,5").to_ports, [(1, 70_000), (5, 5)]);
        assert!(sigs("-- --nonsense").random_fully && !line(Azure, "").unwrap().random_fully);
        assert_eq!(line(Azure, "--resync-interval=0").unwrap().resync_interval.unwrap().as_secs(), 1);
    }

    #[test]
    fn a_wrong_command_line_is_refused_in_the_agents_words() {
        use Compat::{Azure, KubernetesSigs as Sigs};
        let rows = [
            (Sigs, "--resync-interval=5", "flag provided but not defined: -resync-interval"),
            (Azure, "--random-fully", "flag provided but not defined: -random-fully"),
            (Azure, "--resync-interval=60s", "invalid value \"60s\" for flag -resync-interval: parse error"),
            (Sigs, "--version", "flag provided but not defined: -version"),
            (Sigs, "--enable-ipv6=yes", "invalid boolean value \"yes\" for -enable-ipv6: parse error"),
            (Sigs, "--masq-chain", "flag needs an argument: -masq-chain"),
            (Sigs, "---x", "bad flag syntax: ---x"),
            (Sigs, "--to-ports=1-2-3", "Invalid --to-ports flag \"1-2-3\": invalid interval \"1-2-3\""),
            (Sigs, "--to-ports=2-1", "Invalid --to-ports flag \"2-1\": first is greater than last in \"2-1\""),
            (Sigs, "--to-ports=x", "Invalid --to-ports flag \"x\": strconv.Atoi: parsing \"x\": invalid syntax"),
        ];
        for (agent, text, expected) in rows {
            assert_eq!(line(agent, text).unwrap_err(), expected, "{text}");
        }
    }
}
