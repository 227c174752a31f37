//! The command line: what each command is for, and its exit code.

pub mod check;
pub mod man;
pub mod output;
pub mod plan;
pub mod pods;
pub mod status;
pub mod topology;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{AnswerOutput, ColorChoice, DEFAULT_SOCKET, LogFormat, NodeArgs, Output, RunArgs};

/// Names of the subsystems, in the order in which they are reported.
pub const SUBSYSTEMS: [&str; 6] = ["sysctl", "kernel", "cgroup", "pinning", "allocatable", "masquerade"];

/// Exit codes, as `--help` lists them.
pub mod exit {
    /// All is well; for `plan`: nothing would change.
    pub const OK: u8 = 0;
    /// The command failed.
    pub const FAILED: u8 = 1;
    /// `plan`: something would change.
    pub const WOULD_CHANGE: u8 = 2;
    /// `check`: the profile is not valid; `plan`, `apply`: there is no valid profile.
    pub const INVALID_PROFILE: u8 = 3;
    /// `status`, `pods`, `topology`: no agent answers on the socket.
    pub const NO_AGENT: u8 = 4;
    /// The command line is wrong (`EX_USAGE` of sysexits.h).
    pub const USAGE: u8 = 64;
}

/// Holds a Kubernetes node at what a profile says: sysctls and other kernel knobs, cgroup driver, pinned CPUs and
/// memory, masquerade rules.
#[derive(Debug, Parser)]
#[command(name = "trimtab", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,

    /// Log level or filter: error, warn, info, debug, trace, or target=level,… [default: info for `run`, else warn]
    #[arg(long, global = true, value_name = "FILTER", env = "TRIMTAB_LOG")]
    pub log: Option<String>,

    /// Form of the log
    #[arg(long, global = true, value_enum, env = "TRIMTAB_LOG_FORMAT", default_value_t)]
    pub log_format: LogFormat,

    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorChoice,

    /// The same as `--color never`
    #[arg(long, global = true, conflicts_with = "color")]
    pub no_color: bool,
}

impl Cli {
    /// When to use colours, by either flag.
    #[must_use]
    pub const fn color(&self) -> ColorChoice {
        if self.no_color { ColorChoice::Never } else { self.color }
    }
}

const AFTER_HELP: &str = "\
A first look, which changes nothing:
  trimtab check profile.yaml                 is the profile valid?
  trimtab plan --profile profile.yaml        what would change on this node?

Exit codes: 0 done (plan: nothing would change) · 1 failed · 2 plan: something would change ·
3 no valid profile · 4 no agent answers on the socket · 64 wrong command line";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hold this node at its profile until told to stop (what the DaemonSet runs)
    ///
    /// Applies the profile, then watches for drift and repairs it, and answers on the socket and over HTTP. A changed
    /// profile is picked up at once; a bad one is refused and the last good one stays in force. SIGTERM ends it; the
    /// node keeps its settings, `trimtab rollback` gives them back.
    Run(RunArgs),

    /// Show what would change on this node: old -> new per object; changes nothing
    Plan(PlanArgs),

    /// Apply the profile once and exit; for a node without a running agent
    Apply(PlanArgs),

    /// Show what the running agent holds, refuses and found
    Status(ClientArgs),

    /// Show which pods hold which CPUs and memory
    Pods(ClientArgs),

    /// Draw the machine: who holds which CPU, what is free, shared, reserved, offline; memory by NUMA node
    Topology(TopologyArgs),

    /// Validate a profile without touching the node
    Check(CheckArgs),

    /// Give back every value that was there before, unless somebody else has changed it since
    ///
    /// Works on a node whose agent has been stopped; a running one would apply the profile again.
    Rollback(RollbackArgs),

    /// Turn the configuration of another program into a profile
    Import {
        /// Whose configuration
        #[command(subcommand)]
        from: ImportFrom,
    },

    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Write the manual pages, one per command, into a directory
    Man {
        /// The directory; made if it does not exist
        directory: PathBuf,
    },
}

/// Arguments of `plan` and `apply`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The node
    #[command(flatten)]
    pub node: NodeArgs,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of the commands that ask a running agent.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Unix socket of the agent
    #[arg(long, value_name = "FILE", env = "TRIMTAB_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: AnswerOutput,
}

/// Arguments of `topology`.
#[derive(Debug, Args)]
pub struct TopologyArgs {
    /// How to ask and how to print
    #[command(flatten)]
    pub client: ClientArgs,

    /// Write an image to this file instead of printing; `-` writes it to standard output
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Programs whose configuration can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// ip-masq-agent of kubernetes-sigs or of Azure (v2)
    ///
    /// Prints a profile that leaves the same rules. To go on using the ConfigMap itself, name it in the profile:
    /// ipMasq.configFile or ipMasq.configDir.
    IpMasq(ImportIpMasqArgs),
}

/// Arguments of `import ip-masq`.
#[derive(Debug, Args)]
pub struct ImportIpMasqArgs {
    /// The agent's files, manifests of its ConfigMaps, or the directory in which they are mounted
    #[arg(required = true)]
    pub files: Vec<PathBuf>,

    /// Whose rules of files apply [default: azure for several files, else kubernetes-sigs]
    #[arg(long, value_enum)]
    pub agent: Option<MasqAgent>,

    /// Name of the profile
    #[arg(long, default_value = "ip-masq")]
    pub name: String,

    /// The command line of the agent's DaemonSet
    #[arg(last = true, allow_hyphen_values = true)]
    pub flags: Vec<String>,
}

/// A masquerade agent that can be stood in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MasqAgent {
    /// kubernetes-sigs/ip-masq-agent
    KubernetesSigs,
    /// Azure/ip-masq-agent-v2
    Azure,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The profile; `-` reads standard input
    pub file: PathBuf,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Subsystems to give back [default: all]
    #[arg(value_name = "SUBSYSTEM", value_parser = PossibleValuesParser::new(SUBSYSTEMS))]
    pub subsystems: Vec<String>,

    /// The node
    #[command(flatten)]
    pub node: NodeArgs,

    /// Show what would be given back; changes nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
