//! systemd's units, their properties, starts and stops, over D-Bus: the system bus, or systemd's own socket where no bus
//! runs.
//!
//! org.freedesktop.systemd1(5). A connection is made when it is needed and kept while it works.

mod peer;
mod services;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use trimtab_domain::cgroup::Quota;
use trimtab_domain::cpuset::CpuSet;
use zbus::connection::{Builder, Connection};
use zbus::{DynamicType, Error, Message, Variant};

use self::peer::Peer;
use crate::ports::units::{Answer, UnitChange, UnitError, Units};

/// The system bus (dbus-daemon(1)).
const BUS: &str = "run/dbus/system_bus_socket";
/// systemd's own socket, for root; there are no names on it, one peer at the other end.
const PRIVATE: &str = "run/systemd/private";
/// Longest wait for a connection or an answer. The manager answers in milliseconds, after a reload in seconds.
const DEADLINE: Duration = Duration::from_secs(5);
const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The first version with `AllowedCPUs` and `AllowedMemoryNodes` (NEWS).
const FIRST_VERSION: u32 = 244;
/// The answers that mean that there is no such unit.
const NO_SUCH_UNIT: [&str; 2] = ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject"];

/// The manager of units, behind a socket below the host root.
pub struct Systemd {
    sockets: [(PathBuf, Speech); 2],
    connected: Mutex<Option<Connection>>,
}

/// How one speaks to a socket.
#[derive(Debug, Clone, Copy)]
enum Speech {
    Bus,
    Peer,
}

impl Systemd {
    /// The sockets of this host; nothing is opened yet.
    #[must_use]
    pub fn new(host_root: &Path) -> Self {
        let sockets = [(host_root.join(BUS), Speech::Bus), (host_root.join(PRIVATE), Speech::Peer)];
        Self { sockets, connected: Mutex::default() }
    }

    /// A connection to a manager that is new enough.
    async fn connection(&self) -> Result<Connection, UnitError> {
        let mut connected = self.connected.lock().await;
        if let Some(connection) = &*connected {
            return Ok(connection.clone());
        }
        let mut problems = Vec::new();
        for (socket, speech) in &self.sockets {
            match timeout(DEADLINE, open(socket, *speech)).await {
                Ok(Ok(connection)) => return Ok(connected.insert(connection).clone()),
                Ok(Err(problem)) => problems.push(format!("{}: {problem}", socket.display())),
                Err(_) => problems.push(format!("{}: no answer within {DEADLINE:?}", socket.display())),
            }
        }
        Err(UnitError::Away { method: "Hello", detail: problems.join("; ") })
    }

    /// Makes a call; `unit` is for messages.
    async fn call<B>(&self, call: Call<'_>, body: &B) -> Result<Message, UnitError>
    where
        B: Serialize + DynamicType + Sync,
    {
        let Call { path, interface, method, unit } = call;
        let connection = self.connection().await?;
        let call = connection.call_method(Some(DESTINATION), path, Some(interface), method, body);
        let problem = match timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Error::MethodError(name, detail, _))) => {
                return Err(refusal(method, unit, name.as_str(), detail.unwrap_or_default()));
            }
            Ok(Err(Error::FDO(error))) => {
                return Err(refusal(method, unit, "", error.to_string()));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {DEADLINE:?}"),
        };
        // Whatever broke it, the next call begins anew.
        *self.connected.lock().await = None;
        Err(UnitError::Away { method, detail: problem })
    }

    async fn set_properties(&self, unit: &str, change: &UnitChange) -> Result<(), UnitError> {
        self.call(Call::manager("SetUnitProperties", unit), &(unit, true, properties(change))).await.map(drop)
    }
}

/// A method of an object.
struct Call<'a> {
    path: &'a str,
    interface: &'static str,
    method: &'static str,
    unit: &'a str,
}

impl<'a> Call<'a> {
    /// A method of the manager itself.
    const fn manager(method: &'static str, unit: &'a str) -> Self {
        Self { path: PATH, interface: MANAGER, method, unit }
    }
}

impl Units for Systemd {
    fn answers(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async {
            // The cheapest question: a socket that is not there costs a system call.
            self.connection().await.is_ok()
        })
    }

    fn set<'a>(&'a self, unit: &'a str, change: &'a UnitChange) -> Answer<'a, ()> {
        Box::pin(self.set_properties(unit, change))
    }
}

fn refusal(method: &'static str, unit: &str, name: &str, words: String) -> UnitError {
    if NO_SUCH_UNIT.contains(&name) {
        return UnitError::Gone(unit.to_owned());
    }
    let detail = if name.is_empty() { words } else { format!("{words} ({name})") };
    UnitError::Refused { method, unit: unit.to_owned(), detail }
}

/// Connects and asks for the version.
async fn open(socket: &Path, speech: Speech) -> Result<Connection, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let builder = match speech {
        Speech::Bus => Builder::unix_stream(stream.into_std().map_err(|error| error.to_string())?),
        Speech::Peer => Builder::socket(Peer(stream)).p2p(),
    };
    let connection = builder.method_timeout(DEADLINE).build().await.map_err(|error| error.to_string())?;
    let interface = "org.freedesktop.DBus.Properties";
    let body = (MANAGER, "Version");
    let answer = connection
        .call_method(Some(DESTINATION), PATH, Some(interface), "Get", &body)
        .await
        .map_err(|error| error.to_string())?;
    let body = answer.body();
    let version: Variant<'_> = body.deserialize().map_err(|error| error.to_string())?;
    match version {
        Variant::Str(text) if is_new_enough(&text) => Ok(connection),
        Variant::Str(text) => Err(format!("systemd {text} is older than {FIRST_VERSION}")),
        other => Err(format!("the version is {other:?}")),
    }
}

/// `252.39-1~deb12u1`, `v256.4`, `257`.
fn is_new_enough(version: &str) -> bool {
    let digits: String = version.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|number| number >= FIRST_VERSION)
}

fn properties(change: &UnitChange) -> Vec<(&'static str, Variant<'static>)> {
    let mut properties = Vec::new();
    properties.extend(change.cpus.as_ref().map(|cpus| ("AllowedCPUs", Variant::new(bytes(cpus)))));
    properties.extend(change.mems.as_ref().map(|mems| ("AllowedMemoryNodes", Variant::new(bytes(mems)))));
    if let Some(quota) = change.quota {
        properties.push(("CPUQuotaPerSecUSec", Variant::new(per_second_us(quota))));
        properties.push(("CPUQuotaPeriodUSec", Variant::new(quota.period_us)));
    }
    properties.extend(change.numbers.iter().map(|(name, number)| (*name, Variant::new(*number))));
    properties
}

/// Bit `n % 8` of byte `n / 8` stands for number `n` (`cpu_set_to_dbus`).
fn bytes(set: &CpuSet) -> Vec<u8> {
    let length = set.last().and_then(|last| usize::try_from(last / 8 + 1).ok()).unwrap_or(0);
    let mut bytes = vec![0_u8; length];
    for number in set.iter() {
        if let Some(byte) = usize::try_from(number / 8).ok().and_then(|at| bytes.get_mut(at)) {
            *byte |= 1 << (number % 8);
        }
    }
    bytes
}

/// Microseconds of CPU time per second; the largest number means no bound. Rounded up to a hundredth of a CPU, as the
/// kubelet and the runtimes do: systemd takes no finer steps.
fn per_second_us(quota: Quota) -> u64 {
    const STEP_US: u64 = 10_000;
    let Some(quota_us) = quota.quota_us else { return u64::MAX };
    let exact = quota_us.saturating_mul(1_000_000) / quota.period_us.max(1);
    exact.div_ceil(STEP_US).saturating_mul(STEP_US)
}

#[cfg(test)]
mod tests;
