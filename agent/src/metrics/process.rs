//! What the agent itself costs, read when metrics are asked for; names as every Prometheus client library has them.

use std::fmt;

use procfs::WithCurrentSystemInfo;
use procfs::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads `/proc/self`; a file that cannot be read leaves its metric out.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Ok(process) = Process::myself() else { return Ok(()) };
        let Ok(stat) = process.stat() else { return Ok(()) };
        let ticks = stat.utime.saturating_add(stat.stime);
        let seconds = to_float(ticks) / to_float(procfs::ticks_per_second());
        counter(&mut encoder, "process_cpu_seconds", "User and system CPU time of the agent", seconds)?;
        gauge(
            &mut encoder,
            "process_resident_memory_bytes",
            "Resident memory of the agent",
            to_float(stat.rss_bytes().get()),
        )?;
        gauge(&mut encoder, "process_virtual_memory_bytes", "Virtual memory of the agent", to_float(stat.vsize))?;
        if let Ok(threads) = u64::try_from(stat.num_threads) {
            gauge(&mut encoder, "process_threads", "Threads of the agent", to_float(threads))?;
        }
        if let Ok(open) = process.fd_count() {
            let open = to_float(u64::try_from(open).unwrap_or(u64::MAX));
            gauge(&mut encoder, "process_open_fds", "Open file descriptors of the agent", open)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Exact below 2^53: 9 PB of memory, or three million years of CPU ticks.
fn to_float(number: u64) -> f64 {
    number as f64
}
