//! `trimtab import`: the configuration of another program as a profile.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource};

use crate::adapters::masq_files;
use crate::cli::{ImportIpMasqArgs, MasqAgent, exit, output};
use crate::profile;
use crate::profile::ip_masq_agent::{self, Entry, Reading, flags, import};

/// Prints the profile; what a person should know goes to standard error.
pub(super) fn ip_masq(args: &ImportIpMasqArgs) -> anyhow::Result<u8> {
    let entries = read_all(&args.files)?;
    let agent = match args.agent {
        Some(MasqAgent::KubernetesSigs) => Compat::KubernetesSigs,
        Some(MasqAgent::Azure) => Compat::Azure,
        // One file in a directory of many may be either's; several can only be Azure's.
        None if entries.len() > 1 => Compat::Azure,
        None => Compat::KubernetesSigs,
    };
    let spec = match flags::parse(agent, &args.flags) {
        Ok(spec) => spec,
        Err(error) => {
            output::warn(&format!("error {error}\n"));
            return Ok(exit::INVALID_PROFILE);
        }
    };
    let reading = match agent {
        Compat::Azure => Reading::Directory(Ok(entries.into_iter().map(import::renamed).collect())),
        Compat::KubernetesSigs => {
            anyhow::ensure!(
                entries.len() <= 1,
                "kubernetes-sigs' agent reads one file, and {} were found",
                entries.len()
            );
            let content = entries.into_iter().next().map(|entry| entry.content).transpose();
            Reading::File { content, beside: Vec::new() }
        }
    };
    match ip_masq_agent::resolve(&spec, &reading) {
        Ok((spec, findings)) => {
            for finding in findings {
                output::warn(&format!("warning {}: {}; {}\n", finding.object, finding.message, finding.remedy));
            }
            print(&args.name, &spec)
        }
        Err(error) => {
            output::warn(&format!("error {}\n", output::printable(&error.to_string())));
            Ok(exit::INVALID_PROFILE)
        }
    }
}

/// A profile that the agent would refuse is of no use.
fn print(name: &str, spec: &IpMasqSpec) -> anyhow::Result<u8> {
    let text = import::profile(name, spec);
    let verdict = profile::check::check("the imported profile", text.as_bytes());
    if !verdict.valid {
        output::warn(&crate::cli::check::render(&verdict));
        return Ok(exit::INVALID_PROFILE);
    }
    output::write(text.as_bytes())?;
    Ok(exit::OK)
}

/// The files that the arguments stand for: a file is itself or, as a manifest, a ConfigMap's; a directory is all that
/// Azure's agent would read in it.
fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    let mut all = Vec::new();
    for path in paths {
        match masq_files::read(&ConfigSource::Directory(path.clone())) {
            Reading::Directory(Ok(entries)) => {
                all.extend(entries.into_iter().filter(|entry| entry.name.starts_with(ip_masq_agent::NAME_PREFIX)));
            }
            _ => all.extend(read_file(path)?),
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let Reading::File { content, .. } = masq_files::read(&ConfigSource::File(path.to_owned())) else {
        return Ok(Vec::new());
    };
    let bytes = content.map_err(anyhow::Error::msg)?.with_context(|| format!("{} does not exist", path.display()))?;
    if let Some(files) = import::files_of_config_map(&bytes) {
        return Ok(files);
    }
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    Ok(vec![Entry { name, content: Ok(bytes) }])
}
