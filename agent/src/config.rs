//! The process configuration: flags and environment, read once at start. What the node should be is the profile's.

mod remote;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

pub use self::remote::RemoteArgs;

/// The name by which this program was called; empty if the system does not tell.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is where the command line is read")]
pub fn program_name() -> String {
    std::env::args().next().unwrap_or_default()
}

/// Where the profile, the state and the host are; shared by every command that looks at the node itself.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Node profile to hold (YAML or JSON)
    #[arg(long, value_name = "FILE", env = "TRIMTAB_PROFILE", default_value = "/etc/trimtab/profile.yaml")]
    pub profile: PathBuf,

    /// Directory for the ledger and the last good profile; must outlive the container
    #[arg(long, value_name = "DIR", env = "TRIMTAB_STATE_DIR", default_value = "/var/lib/trimtab")]
    pub state_dir: PathBuf,

    /// Prefix of the host's /proc, /sys, /etc, /lib/modules, /run, /var/lib/kubelet and /var/log/pods
    #[arg(long, value_name = "DIR", env = "TRIMTAB_HOST_ROOT", default_value = "/")]
    pub host_root: PathBuf,

    /// The kubelet's --cgroup-root, if it has one
    #[arg(long, value_name = "PATH", env = "TRIMTAB_CGROUP_ROOT", default_value = "/")]
    pub cgroup_root: String,

    /// CRI socket of the container runtime on the host; `auto`: the kubelet's, or the first known one that answers; `off`
    #[arg(long, value_name = "SOCKET", env = "TRIMTAB_CRI_SOCKET", default_value = "auto")]
    pub cri_socket: CriSocket,

    /// Socket of the kubelet's PodResources API on the host; `auto`: below the kubelet's root directory; `off`
    #[arg(long, value_name = "SOCKET", env = "TRIMTAB_POD_RESOURCES_SOCKET", default_value = "auto")]
    pub pod_resources_socket: PodResourcesSocket,

    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
}

/// Flags of the daemon.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The node
    #[command(flatten)]
    pub node: NodeArgs,

    /// Unix socket of the gRPC services
    #[arg(long, value_name = "FILE", env = "TRIMTAB_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// Mode bits of the socket, octal
    #[arg(long, value_name = "MODE", env = "TRIMTAB_SOCKET_MODE", default_value = "0660", value_parser = parse_mode)]
    pub socket_mode: u32,

    /// Group that owns the socket and may call, by number, besides root
    #[arg(long, value_name = "GID", env = "TRIMTAB_SOCKET_GROUP")]
    pub socket_group: Option<u32>,

    /// Users that may change what the agent does (resync, pause, resume, roll back), by number; others may only ask
    /// [default: root and the agent's own]
    #[arg(long, value_name = "UID", env = "TRIMTAB_ADMIN_UID", value_delimiter = ',')]
    pub admin_uid: Vec<u32>,

    /// Clients that are not on this node
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// NRI socket of the container runtime on the host, or `off`
    #[arg(long, value_name = "SOCKET", env = "TRIMTAB_NRI_SOCKET", default_value = "/run/nri/nri.sock")]
    pub nri_socket: NriSocket,

    /// Address of the page, /metrics, /healthz and /readyz, or `off`
    #[arg(long, value_name = "ADDRESS", env = "TRIMTAB_HTTP", default_value = "127.0.0.1:9808")]
    pub http: HttpAddress,

    /// Show the kubelet's metrics of CPU, memory, topology manager and pod resources under the kubelet's own names too
    #[arg(long, env = "TRIMTAB_KUBELET_METRICS", value_parser = BoolishValueParser::new())]
    pub kubelet_metrics: bool,

    /// Name the container that waited in the histogram of the container runtime's waits (OpenMetrics exemplars)
    #[arg(long, env = "TRIMTAB_EXEMPLARS", value_parser = BoolishValueParser::new())]
    pub exemplars: bool,

    /// Whether the page about the node, which names its pods, is served on that address too
    #[arg(long, value_enum, value_name = "WHEN", env = "TRIMTAB_PAGE", default_value_t)]
    pub page: Page,

    /// Time between two passes when nothing happens
    #[arg(long, value_name = "TIME", env = "TRIMTAB_RESYNC", default_value = "60s", value_parser = parse_resync)]
    pub resync: Duration,

    /// The API server
    #[command(flatten)]
    pub kube: KubeArgs,

    /// Calls per second that one caller may make on the socket; 0: no limit
    #[arg(long, value_name = "N", env = "TRIMTAB_RATE_LIMIT", default_value_t = 100)]
    pub rate_limit: u32,
}

/// How the API server is reached and what is taken from it. With none of it, nothing of Kubernetes' client is started.
#[derive(Debug, Clone, Args)]
pub struct KubeArgs {
    /// How it is reached
    #[command(flatten)]
    pub api: ApiArgs,

    /// Where the profile comes from: `auto` (the NodeProfile that selects this node, else the file), `file`, `object`
    #[arg(long, value_enum, value_name = "SOURCE", env = "TRIMTAB_PROFILE_SOURCE", default_value_t)]
    pub profile_source: ProfileSource,

    /// The agent's own pod; set by deploy/components/migration
    #[arg(long, hide = true, value_name = "NAME", env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// Namespace of the agent's own pod; set by deploy/components/migration
    #[arg(long, hide = true, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
}

/// How the API server is reached.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// API server: `auto` (the kubeconfig, else the service account of the pod, else none), `off`, or https://HOST:PORT
    #[arg(long, value_name = "SERVER", env = "TRIMTAB_API_SERVER", default_value = "auto")]
    pub api_server: ApiServerAt,

    /// Kubeconfig to reach the API server by, with its current context
    #[arg(long, value_name = "FILE", env = "TRIMTAB_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Directory of the pod's service account
    #[arg(long, hide = true, value_name = "DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    pub service_account: PathBuf,

    /// Set by the kubelet in every pod
    #[arg(long, hide = true, value_name = "HOST", env = "KUBERNETES_SERVICE_HOST")]
    pub service_host: Option<String>,

    /// Set by the kubelet in every pod
    #[arg(long, hide = true, value_name = "PORT", env = "KUBERNETES_SERVICE_PORT", default_value = "443")]
    pub service_port: String,
}

/// Where the profile comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum ProfileSource {
    /// The object that selects this node; where there is none, and until the API server has first answered, the file.
    #[default]
    Auto,
    /// The file alone.
    File,
    /// Objects of the API server alone.
    Object,
}

/// Where the API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServerAt {
    /// Where the kubeconfig or the pod's environment says; nowhere without both.
    Auto,
    /// It is not spoken with.
    Off,
    /// Here, by the service account of the pod.
    Url(String),
}

impl FromStr for ApiServerAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            url if url.starts_with("https://") && url.len() > "https://".len() => Ok(Self::Url(url.to_owned())),
            _ => Err(format!("{text:?} is neither `auto`, `off` nor an address such as https://10.0.0.1:6443")),
        }
    }
}

/// Where the container runtime is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CriSocket {
    /// At the kubelet's endpoint, or at a known one.
    Auto,
    /// Nowhere.
    Off,
    /// Here, on the host.
    Path(PathBuf),
}

impl FromStr for CriSocket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        auto_off_or_path(text, [Self::Auto, Self::Off], Self::Path, "/run/containerd/containerd.sock")
    }
}

/// Reads `auto`, `off` or an absolute path, which may be written as an address (`unix://`). The example is for people.
fn auto_off_or_path<T>(
    text: &str,
    [auto, off]: [T; 2],
    path: impl FnOnce(PathBuf) -> T,
    example: &str,
) -> Result<T, String> {
    match text {
        "auto" => Ok(auto),
        "off" => Ok(off),
        named => match named.strip_prefix("unix://").unwrap_or(named) {
            named if named.starts_with('/') && !named.contains("/../") => Ok(path(named.into())),
            _ => Err(format!("{text:?} is neither `auto`, `off` nor an absolute path, e.g. {example}")),
        },
    }
}

/// Where the kubelet is asked what it gives out itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodResourcesSocket {
    /// Below the root directory that the kubelet's configuration names.
    Auto,
    /// Nowhere.
    Off,
    /// Here, on the host.
    Path(PathBuf),
}

impl FromStr for PodResourcesSocket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "/var/lib/k0s/kubelet/pod-resources/kubelet.sock";
        auto_off_or_path(text, [Self::Auto, Self::Off], Self::Path, example)
    }
}

/// Default path of the gRPC socket.
pub const DEFAULT_SOCKET: &str = "/run/trimtab/trimtab.sock";

/// Where the container runtime asks its plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NriSocket {
    /// It does not ask.
    Off,
    /// Behind this socket.
    Path(PathBuf),
}

impl FromStr for NriSocket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            // `/var/run` is a link to `/run` that cannot be followed below a host root.
            path if path.starts_with("/var/run/") => Ok(Self::Path(path.trim_start_matches("/var").into())),
            path if path.starts_with('/') => Ok(Self::Path(path.into())),
            _ => Err(format!("{text:?} is neither `off` nor an absolute path, e.g. /run/nri/nri.sock")),
        }
    }
}

/// Where HTTP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpAddress {
    /// Not at all.
    Off,
    /// On this address.
    On(SocketAddr),
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::On)
            .map_err(|_| format!("{text:?} is neither `off` nor ADDRESS:PORT, e.g. 127.0.0.1:9808 or [::]:9808"))
    }
}

/// When the page about the node is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Page {
    /// If the address can be reached from this machine only.
    #[default]
    Auto,
    /// On every address.
    Always,
    /// Never.
    Never,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For files.
    Yaml,
}

/// How the answers of a running agent are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum AnswerOutput {
    /// For people.
    #[default]
    Table,
    /// For people who want to see everything.
    Wide,
    /// For programs.
    Json,
    /// For files.
    Yaml,
}

impl AnswerOutput {
    /// The form, without how much is shown of it.
    #[must_use]
    pub const fn form(self) -> Output {
        match self {
            Self::Table | Self::Wide => Output::Table,
            Self::Json => Output::Json,
            Self::Yaml => Output::Yaml,
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum LogFormat {
    /// One line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is not an octal mode between 0 and 777, e.g. 0660"))
}

fn parse_resync(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; write e.g. 60s or 5m"))?;
    if time < Duration::from_secs(1) {
        return Err("shorter than a second; drift is found by events, the resync is only the safety net".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_flag_values_say_what_is_right() {
        assert!(parse_mode("0660").is_ok_and(|mode| mode == 0o660));
        for text in ["8", "rw", "1777", ""] {
            assert!(parse_mode(text).is_err_and(|error| error.contains("0660")), "{text}");
        }
        assert!(parse_resync("5m").is_ok_and(|time| time == Duration::from_secs(300)));
        for text in ["", "60", "10ms", "0s", "-1s", "soon"] {
            assert!(parse_resync(text).is_err(), "{text}");
        }
        assert_eq!("auto".parse(), Ok(CriSocket::Auto));
        assert_eq!("off".parse(), Ok(CriSocket::Off));
        assert_eq!("unix:///run/x.sock".parse(), Ok(CriSocket::Path("/run/x.sock".into())));
        for text in ["", "on", "run/x.sock", "tcp://[::1]:1", "/run/../x"] {
            assert!(text.parse::<CriSocket>().is_err_and(|error| error.contains("/run/containerd")), "{text}");
        }
        assert_eq!("off".parse(), Ok(NriSocket::Off));
        for text in ["/run/nri.sock", "/var/run/nri.sock"] {
            assert_eq!(text.parse(), Ok(NriSocket::Path("/run/nri.sock".into())));
        }
        for text in ["", "on", "nri.sock", "unix:///run/nri.sock"] {
            assert!(text.parse::<NriSocket>().is_err_and(|error| error.contains("/run/nri/nri.sock")), "{text}");
        }
        assert_eq!("https://a:1".parse(), Ok(ApiServerAt::Url("https://a:1".into())));
        for text in ["", "on", "10.0.0.1", "http://10.0.0.1", "https://"] {
            assert!(text.parse::<ApiServerAt>().is_err_and(|error| error.contains("https://10.0.0.1:6443")), "{text}");
        }
        assert_eq!("off".parse(), Ok(HttpAddress::Off));
        for text in ["9808", "localhost:9808", "127.0.0.1", ":9808"] {
            assert!(text.parse::<HttpAddress>().is_err_and(|error| error.contains("127.0.0.1:9808")), "{text}");
        }
    }
}
