//! Flags of gRPC over TCP.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Where clients that are not on this node reach the agent, and how they prove who they are.
#[derive(Debug, Clone, Default, Args)]
pub struct RemoteArgs {
    /// Address of the gRPC services over TCP, for clients with a certificate [default: only the unix socket]
    #[arg(long, value_name = "ADDRESS", env = "TRIMTAB_GRPC_LISTEN", requires_all = ["tls_cert", "tls_key", "tls_client_ca"])]
    pub grpc_listen: Option<SocketAddr>,

    /// The server's certificate and its intermediate ones, in PEM form; read again when it changes
    #[arg(long, value_name = "FILE", env = "TRIMTAB_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of that certificate, in PEM form
    #[arg(long, value_name = "FILE", env = "TRIMTAB_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Authorities whose clients may ask, in PEM form
    #[arg(long, value_name = "FILE", env = "TRIMTAB_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,

    /// Names in client certificates (URI such as a SPIFFE id, DNS name or common name) whose clients may also change
    /// what the agent does
    #[arg(long, value_name = "NAME", env = "TRIMTAB_ADMIN_NAME", value_delimiter = ',')]
    pub admin_name: Vec<String>,
}
