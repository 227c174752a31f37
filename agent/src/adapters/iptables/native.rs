//! The tables of our own in nftables, beside iptables' own tables.

use std::io;

use nix::errno::Errno;
use trimtab_domain::masquerade::{Family, GUARD_TABLE, GuardView, NATIVE_TABLE, Native, NativeGuard, NativeView};
use trimtab_domain::plan::Cause;

use crate::adapters::nftables::{guard, table};
use crate::ports::{NatError, NativeSaved};

pub(super) fn read(family: Family) -> Result<NativeSaved<NativeView>, NatError> {
    saved(table::read(family), NATIVE_TABLE, family)
}

pub(super) fn read_guard(family: Family) -> Result<NativeSaved<GuardView>, NatError> {
    saved(guard::read(family), GUARD_TABLE, family)
}

fn saved<V>(read: io::Result<V>, table: &str, family: Family) -> Result<NativeSaved<V>, NatError> {
    match read {
        Ok(view) => Ok(NativeSaved::View(view)),
        Err(error) => match lasting(family, &error) {
            Some((cause, detail)) => Ok(NativeSaved::Unavailable { cause, detail }),
            None => Err(failed(("read", table), family, &error)),
        },
    }
}

pub(super) fn write(family: Family, to: Option<&Native>) -> Result<(), NatError> {
    let done = match to {
        Some(native) => table::write(family, native),
        None => table::remove(family),
    };
    done.map_err(|error| failed((verb(to.is_some()), NATIVE_TABLE), family, &error))
}

pub(super) fn write_guard(family: Family, to: Option<&NativeGuard>) -> Result<(), NatError> {
    let done = match to {
        Some(wanted) => guard::write(family, wanted),
        None => guard::remove(family),
    };
    done.map_err(|error| failed((verb(to.is_some()), GUARD_TABLE), family, &error))
}

const fn verb(writes: bool) -> &'static str {
    if writes { "write" } else { "remove" }
}

/// What says something lasting about the node.
fn lasting(family: Family, error: &io::Error) -> Option<(Cause, String)> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => {
            let detail = "the agent needs CAP_NET_ADMIN in the host's network namespace".to_owned();
            Some((Cause::NotPermitted, detail))
        }
        Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::EINVAL) => {
            let detail = format!(
                "this kernel has no nftables for {family}; load nf_tables, or choose an iptables back end (ipMasq.backend)"
            );
            Some((Cause::Unsupported, detail))
        }
        _ => None,
    }
}

fn failed((deed, table): (&str, &str), family: Family, error: &io::Error) -> NatError {
    let mut output = error.to_string();
    let mut cause = error.get_ref().and_then(|inner| inner.source());
    while let Some(source) = cause {
        output.push_str(": ");
        output.push_str(&source.to_string());
        cause = source.source();
    }
    let command = format!("nf_tables: {deed} table {table} for {family}");
    // Memory, another transaction at the same time, a module that is just being loaded.
    NatError { command, status: "refused".into(), output, transient: true }
}
