//! Changes bounds and interrupts, and learns from what the kernel and systemd say to it.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep};
use trimtab_domain::allocatable::interrupt::Interrupt;
use trimtab_domain::allocatable::knob::{Control, Knob};
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::kernel_file::{Rejection, Shown};
use trimtab_domain::plan::Cause;
use trimtab_domain::record::LedgerChange;

use super::Allocatable;
use crate::ports::FileError;
use crate::ports::shown::read_shown;
use crate::ports::units::{UnitChange, UnitError};
use crate::reconcile::{Error, Subsystem};

/// systemd answers before it has written: longest wait for the file to show the property.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two looks at that file.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// No bound, for a property that is a number.
const INFINITY: u64 = u64::MAX;

impl Allocatable {
    pub(super) fn commit(&self, changes: &[LedgerChange]) -> Result<(), Error> {
        let failed = |error| Error::transient("the ledger does not take the records of the bounds", error);
        self.ports.ledger.commit(Self::NAME, changes).map_err(failed)
    }

    pub(super) fn set_bound(&self, knob: &Knob, to: &str) -> Result<(), Error> {
        let hierarchy = self.ports.hierarchies.hierarchy(knob.controller());
        let hierarchy = hierarchy.map_err(|error| Error::transient(format!("cannot set {knob}"), error))?;
        let Some(hierarchy) = hierarchy else { return Ok(()) };
        let directory = Path::new(&hierarchy.mount).join(&knob.cgroup);
        // An empty write(2) never reaches the kernel's handler; a line feed is the empty list.
        let text = if to.is_empty() { "\n" } else { to };
        let mut written = self.ports.files.write(&directory.join(knob.file()), text);
        if knob.control == Control::Cpus && to.is_empty() && written.as_ref().is_err_and(is_populated) {
            // The kernel lets nobody empty a set that has processes; the parent's whole set comes to the same.
            if let Some(all) = self.set_above(&directory, hierarchy.version) {
                written = self.ports.files.write(&directory.join(knob.file()), &all);
            }
        }
        written.map_err(|error| self.bound_failed(knob, to, error))
    }

    fn set_above(&self, directory: &Path, version: Version) -> Option<String> {
        let file = if version == Version::V1 { "cpuset.cpus" } else { "cpuset.cpus.effective" };
        let text = self.ports.files.read(&directory.parent()?.join(file)).ok()??;
        Some(text.trim().to_owned())
    }

    pub(super) async fn set_through_systemd(&self, knob: &Knob, to: &str) -> Result<(), Error> {
        let (Some(unit), Some(property)) = (knob.unit(), knob.unit_property()) else { return Ok(()) };
        let mut change = UnitChange::default();
        if knob.control == Control::Cpus {
            let cpus = CpuSet::parse(to);
            change.cpus = Some(cpus.map_err(|error| Error::terminal(format!("cannot set {knob} to {to:?}"), error))?);
        } else if knob.is_default(to) {
            change.numbers.push((property, INFINITY));
        } else {
            let number = to.parse();
            let number = number.map_err(|error: std::num::ParseIntError| {
                Error::terminal(format!("cannot set {knob} to {to:?}"), error)
            })?;
            change.numbers.push((property, number));
        }
        if let Err(error) = self.ports.units.set(unit, &change).await {
            return Err(self.unit_failed(knob, to, error));
        }
        self.settled(knob, to).await
    }

    /// Waits until the file shows what systemd was asked for; what it never shows is left to the second plan.
    async fn settled(&self, knob: &Knob, to: &str) -> Result<(), Error> {
        let hierarchy = self.ports.hierarchies.hierarchy(knob.controller());
        let hierarchy = hierarchy.map_err(|error| Error::transient(format!("cannot look at {knob}"), error))?;
        let Some(hierarchy) = hierarchy else { return Ok(()) };
        let path = Path::new(&hierarchy.mount).join(&knob.cgroup).join(knob.file());
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            match read_shown(&*self.ports.files, &path) {
                Shown::Value(text, _) if knob.same(&text, to) => return Ok(()),
                // A controller that is not needed any more goes with its files.
                Shown::Absent if knob.is_default(to) => return Ok(()),
                _ if Instant::now() >= deadline => return Ok(()),
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }

    pub(super) fn set_interrupt(&self, interrupt: Interrupt, to: &str) -> Result<(), Error> {
        let what = format!("cannot set {interrupt} to CPUs {to}");
        let cpus = CpuSet::parse(to).map_err(|error| Error::terminal(what.clone(), error))?;
        let written = self.ports.files.write(Path::new(&interrupt.path()), &interrupt.text(&cpus));
        let Err(error) = written else { return Ok(()) };
        let Some(errno) = error.source.raw_os_error().map(Errno::from_raw) else {
            return Err(Error::transient(what, error));
        };
        let (cause, detail) = match errno {
            // kernel/irq/proc.c: irq_can_set_affinity_usr fails for managed and for per-CPU interrupts.
            Errno::EIO | Errno::EPERM => {
                (Cause::Unsupported, "the kernel places it itself (a managed or per-CPU interrupt)".to_owned())
            }
            Errno::EINVAL | Errno::ENOSPC => {
                let detail = "its controller cannot deliver it to any of these CPUs; reserve more CPUs, or use \
                              interruptCPUs: NotIsolated";
                (Cause::Insufficient, detail.to_owned())
            }
            Errno::EACCES | Errno::EROFS => {
                (Cause::NotPermitted, "mount the host's /proc writable into the agent".to_owned())
            }
            // The device went away meanwhile; the next look will not find it.
            Errno::ENOENT => return Ok(()),
            _ => return Err(Error::transient(what, error)),
        };
        self.refused(&interrupt.to_string(), to, cause, detail);
        Err(Error::refused(what, error))
    }

    fn bound_failed(&self, knob: &Knob, to: &str, error: FileError) -> Error {
        let what = format!("cannot set {knob}");
        let Some(errno) = error.source.raw_os_error().map(Errno::from_raw) else {
            return Error::transient(what, error);
        };
        let (cause, remedy) = match (errno, &knob.control) {
            (Errno::EBUSY, Control::Cpus) => {
                (Cause::OwnedByOther, "a cgroup inside it has CPUs beyond these; bound that one first")
            }
            (Errno::EACCES | Errno::ENOSPC, Control::Cpus) => {
                (Cause::InvalidValue, "the cgroup above it does not have these CPUs; widen that one first")
            }
            (Errno::EINVAL | Errno::ERANGE, _) => (Cause::InvalidValue, "reserve an amount that this kernel takes"),
            (Errno::EPERM | Errno::EACCES | Errno::EROFS, _) => {
                (Cause::NotPermitted, "run the agent as root of the host, with the host's cgroups writable")
            }
            (Errno::EOPNOTSUPP | Errno::ENOSYS, _) => (Cause::Unsupported, "this kernel cannot do it"),
            _ => return Error::transient(what, error),
        };
        self.refused(&knob.to_string(), to, cause, format!("{error}: {}; {remedy}", errno.desc()));
        Error::refused(what, error)
    }

    fn unit_failed(&self, knob: &Knob, to: &str, error: UnitError) -> Error {
        let what = format!("cannot set {knob} through systemd");
        let (cause, remedy) = match &error {
            UnitError::Away { .. } => return Error::transient(what, error),
            UnitError::Gone(_) => (Cause::Absent, "the cgroup has the name of a unit that systemd does not know"),
            UnitError::Refused { .. } => (Cause::Unsupported, "see the journal of systemd"),
        };
        self.refused(&knob.to_string(), to, cause, format!("{error}; {remedy}"));
        Error::refused(what, error)
    }

    fn refused(&self, object: &str, wish: &str, cause: Cause, detail: String) {
        self.rejections().insert(object.to_owned(), Rejection { wish: wish.to_owned(), cause, detail });
    }
}

/// ENOSPC: an empty list while processes run in the cgroup.
fn is_populated(error: &FileError) -> bool {
    error.source.raw_os_error() == Some(Errno::ENOSPC as i32)
}
