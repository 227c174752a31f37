//! Instruments of gRPC over TCP: handshakes, renewed certificates, and when they expire.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The client has proved who it is.
    Done,
    /// It has not: no certificate, one that is not valid, or no TLS at all.
    Failed,
    /// It took too long.
    TooLate,
}

/// What became of certificates that were found in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// They are in force.
    InForce,
    /// They are of no use; the old ones stay in force.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

const fn handshake(how: Handshake) -> ResultLabel {
    let result = match how {
        Handshake::Done => "done",
        Handshake::Failed => "failed",
        Handshake::TooLate => "too-late",
    };
    ResultLabel { result }
}

const fn renewal(what: Renewal) -> ResultLabel {
    let result = match what {
        Renewal::InForce => "in-force",
        Renewal::Refused => "refused",
    };
    ResultLabel { result }
}

/// The instruments; a clone counts into the same series.
#[derive(Debug, Clone)]
pub struct TlsMetrics {
    handshakes: Family<ResultLabel, Counter>,
    renewals: Family<ResultLabel, Counter>,
    expiry: Gauge,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { handshakes: Family::default(), renewals: Family::default(), expiry: Gauge::default() };
        registry.register(
            "tls_handshakes",
            "Handshakes with clients over TCP, by how they ended",
            metrics.handshakes.clone(),
        );
        registry.register(
            "tls_renewals",
            "Changes of the certificate files: taken, or refused because they were of no use",
            metrics.renewals.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "When the server's certificate, or one that it is issued by, expires, in seconds since 1970; 0 without gRPC over TCP",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        for how in [Handshake::Done, Handshake::Failed, Handshake::TooLate] {
            let _ = metrics.handshakes.get_or_create(&handshake(how));
        }
        for what in [Renewal::InForce, Renewal::Refused] {
            let _ = metrics.renewals.get_or_create(&renewal(what));
        }
        metrics
    }

    /// A handshake has ended.
    pub fn shaken(&self, how: Handshake) {
        self.handshakes.get_or_create(&handshake(how)).inc();
    }

    /// When the certificates in force expire, in seconds since 1970.
    pub fn expires(&self, at: Option<i64>) {
        self.expiry.set(at.unwrap_or_default());
    }

    /// The files have changed.
    pub fn renewed(&self, what: Renewal) {
        self.renewals.get_or_create(&renewal(what)).inc();
    }
}
