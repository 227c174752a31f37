//! The command line: what each command is for, and its exit code.

pub mod check;
pub mod explain;
pub mod history;
pub mod man;
pub mod output;
pub mod plan;
pub mod pods;
pub mod status;
pub mod survey;
pub mod topology;
pub mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{
    AnswerOutput, ApiArgs, ColorChoice, DEFAULT_SOCKET, LogFormat, NodeArgs, Output, RunArgs, program_name,
};

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
    /// Commands that ask the running agent: none answers on the socket; `cluster`: the API server does not answer.
    pub const NO_AGENT: u8 = 4;
    /// `explain`: the agent knows nothing by that name; `cluster status`: nothing is told of that node.
    pub const UNKNOWN: u8 = 5;
    /// The agent answers, but this user may not do that.
    pub const DENIED: u8 = 6;
    /// `rollback`: the node is on its way to another cgroup driver, and could not be brought back; nothing was given back.
    pub const MOVING: u8 = 7;
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
    /// The command line of this process, called by its own name or by that of the plug-in of kubectl.
    ///
    /// # Errors
    /// What is wrong with it, or the text of `--help` and `--version`.
    pub fn of_process() -> Result<Self, clap::Error> {
        if !survey::is_plugin(&program_name()) {
            return Self::try_parse();
        }
        let survey::Plugin { command, color } = survey::Plugin::try_parse()?;
        let command = Command::Cluster { command };
        Ok(Self { command, log: None, log_format: LogFormat::default(), color, no_color: false })
    }

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
3 no valid profile · 4 no agent answers on the socket (cluster: no API server) · 5 explain, cluster status: nothing
by that name · 6 not allowed · 7 rollback: the node is on its way to another cgroup driver ·
64 wrong command line";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hold this node at its profile until told to stop (what the DaemonSet runs)
    ///
    /// Applies the profile, then watches for drift and repairs it, and answers on the socket and over HTTP. A changed
    /// profile is picked up at once; a bad one is refused and the last good one stays in force. SIGTERM ends it; the
    /// node keeps its settings, `trimtab rollback` gives them back.
    Run(Box<RunArgs>),

    /// Show what would change on this node: old -> new per object; changes nothing
    ///
    /// Looks at the node itself. With --running, the running agent is asked: it plans by its own eyes and its own profile, or
    /// by the one of --candidate, without its taking effect.
    Plan(PlanCommandArgs),

    /// Apply the profile once and exit; for a node without a running agent
    Apply(PlanArgs),

    /// Show what the running agent holds, refuses and found
    Status(ClientArgs),

    /// Show which pods hold which CPUs and memory
    Pods(ClientArgs),

    /// Draw the machine: who holds which CPU, what is free, shared, reserved, offline; memory by NUMA node
    Topology(TopologyArgs),

    /// Say who holds a CPU, what a pod or container has, or what became of a sysctl, and why
    Explain(ExplainArgs),

    /// Show what was changed on the node, by whom and why, the newest first
    History(HistoryArgs),

    /// Print a line whenever the state changes, until interrupted
    Watch(WatchArgs),

    /// Have the running agent make a pass now
    Resync(ResyncArgs),

    /// Let the running agent observe and report a subsystem, but not write, for a while
    ///
    /// The pause outlives a restart of the agent and ends by itself. A container runtime that creates containers is still
    /// answered while `pinning` is paused, as they would else run on CPUs that others own.
    Pause(PauseArgs),

    /// End a pause
    Resume(ResumeArgs),

    /// Validate a profile without touching the node
    Check(CheckArgs),

    /// Give back every value that was there before, unless somebody else has changed it since
    ///
    /// Works on a node whose agent has been stopped; a running one would apply the profile again. Where an API server
    /// answers, what it was told of the node goes too (--api-server off: stays). With --for, the running agent gives one
    /// subsystem back and leaves it so for that long.
    Rollback(RollbackArgs),

    /// Turn the configuration of another program into a profile
    Import {
        /// Whose configuration
        #[command(subcommand)]
        from: ImportFrom,
    },

    /// Show the nodes and profiles of a whole cluster (`kubectl trimtab`, if the program is called `kubectl-trimtab`)
    ///
    /// Reads the objects that the agents keep, with the kubeconfig of whoever calls; no agent is asked.
    Cluster {
        /// What to show
        #[command(subcommand)]
        command: survey::ClusterCommand,
    },

    /// Print the CustomResourceDefinitions of this release, for `kubectl apply -f -`
    Crd,

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

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanCommandArgs {
    /// The node and how to print
    #[command(flatten)]
    pub plan: PlanArgs,

    /// Ask the running agent
    #[arg(long)]
    pub running: bool,

    /// With --running: a profile that is not in force; what would it change?
    #[arg(long, value_name = "FILE", requires = "running")]
    pub candidate: Option<PathBuf>,

    /// Unix socket of the agent
    #[arg(long, value_name = "FILE", env = "TRIMTAB_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A CPU (`3`), a pod or container (by name, `namespace/pod`, `namespace/pod/container`, uid or id), a sysctl or another
    /// object of the report
    pub what: String,

    /// How to ask and how to print
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only changes of these subsystems
    #[arg(value_name = "SUBSYSTEM", value_parser = PossibleValuesParser::new(SUBSYSTEMS))]
    pub subsystems: Vec<String>,

    /// Only changes of objects whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub object: String,

    /// Only changes of this last time, e.g. 10m or 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,

    /// How many changes at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,

    /// How to ask and how to print
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only these subsystems
    #[arg(value_name = "SUBSYSTEM", value_parser = PossibleValuesParser::new(SUBSYSTEMS))]
    pub subsystems: Vec<String>,

    /// How to ask and how to print; `json` and `yaml` print one event after the other
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Arguments of `resync`.
#[derive(Debug, Args)]
pub struct ResyncArgs {
    /// Subsystems to pass over [default: all]
    #[arg(value_name = "SUBSYSTEM", value_parser = PossibleValuesParser::new(SUBSYSTEMS))]
    pub subsystems: Vec<String>,

    /// How to ask and how to print
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The subsystem
    #[arg(value_name = "SUBSYSTEM", value_parser = PossibleValuesParser::new(SUBSYSTEMS))]
    pub subsystem: String,

    /// How long, 1s to 24h; then it is held again
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub length: Duration,

    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,

    /// How to ask and how to print
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The subsystem
    #[arg(value_name = "SUBSYSTEM", value_parser = PossibleValuesParser::new(SUBSYSTEMS))]
    pub subsystem: String,

    /// How to ask and how to print
    #[command(flatten)]
    pub client: ClientArgs,
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

    /// The API server, which was told of the node
    #[command(flatten)]
    pub api: ApiArgs,

    /// Show what would be given back; changes nothing
    #[arg(long, conflicts_with = "length")]
    pub dry_run: bool,

    /// Have the running agent give one subsystem back, and leave it so for this long, 1s to 24h
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, requires = "subsystems")]
    pub length: Option<Duration>,

    /// With --for: why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,

    /// With --for: Unix socket of the agent
    #[arg(long, value_name = "FILE", env = "TRIMTAB_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
