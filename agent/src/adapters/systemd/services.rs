//! Starts, stops and states of units, and timers that start a unit without the agent (org.freedesktop.systemd1(5)).

use std::time::Duration;

use zbus::{OwnedObjectPath, Variant};

use super::{Call, Systemd};
use crate::ports::services::{Activity, Answer, ServiceState, Services, UnitError};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// A job that is already queued gives way to this one.
const MODE: &str = "replace";
/// States of loading in which a unit can be started.
const LOADED: [&str; 2] = ["loaded", "merged"];

impl Systemd {
    async fn job(&self, method: &'static str, unit: &str) -> Result<(), UnitError> {
        self.call(Call::manager(method, unit), &(unit, MODE)).await.map(drop)
    }

    async fn unit_state(&self, unit: &str) -> Result<ServiceState, UnitError> {
        const METHOD: &str = "LoadUnit";
        let absent = ServiceState { activity: Activity::Absent, active_since_us: 0 };
        let path = match self.call(Call::manager(METHOD, unit), &(unit,)).await {
            Ok(answer) => {
                let body = answer.body();
                body.deserialize::<OwnedObjectPath>().map_err(|error| odd(METHOD, unit, &error.to_string()))?
            }
            Err(UnitError::Gone(_)) => return Ok(absent),
            Err(error) => return Err(error),
        };
        if !LOADED.contains(&self.text(&path, unit, "LoadState").await?.as_str()) {
            return Ok(absent);
        }
        let activity = match self.text(&path, unit, "ActiveState").await?.as_str() {
            "active" | "reloading" | "refreshing" => Activity::Active,
            "inactive" | "failed" => Activity::Inactive,
            _ => Activity::Changing,
        };
        let since = self.property(&path, unit, "ActiveEnterTimestamp", |value| match value {
            Variant::U64(number) => Some(number),
            _ => None,
        });
        Ok(ServiceState { activity, active_since_us: since.await? })
    }

    async fn text(&self, path: &OwnedObjectPath, unit: &str, name: &'static str) -> Result<String, UnitError> {
        let text = |value: Variant<'_>| match value {
            Variant::Str(text) => Some(text.to_string()),
            _ => None,
        };
        self.property(path, unit, name, text).await
    }

    async fn property<T>(
        &self,
        path: &OwnedObjectPath,
        unit: &str,
        name: &'static str,
        read: impl FnOnce(Variant<'_>) -> Option<T> + Send,
    ) -> Result<T, UnitError> {
        let call = Call { path: path.as_str(), interface: PROPERTIES, method: "Get", unit };
        let answer = self.call(call, &(UNIT, name)).await?;
        let body = answer.body();
        let value: Variant<'_> = body.deserialize().map_err(|error| odd(name, unit, &error.to_string()))?;
        read(value).ok_or_else(|| odd(name, unit, "it has another type"))
    }

    /// A timer of the unit's name, which starts it without being told which: `Unit` cannot be set over D-Bus. One that runs
    /// stays, as a transient unit cannot be made anew until systemd has forgotten it.
    async fn start_timer(&self, unit: &str, after: Duration) -> Result<(), UnitError> {
        let timer = timer_of(unit);
        if self.unit_state(&timer).await?.activity == Activity::Active {
            return Ok(());
        }
        let microseconds = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let properties = vec![
            ("Description", Variant::new(format!("Trimtab starts {unit} should it not come to it itself"))),
            ("TimersMonotonic", Variant::new(vec![("OnActiveSec", microseconds)])),
            // Gone once it has struck.
            ("RemainAfterElapse", Variant::new(false)),
        ];
        let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (timer.as_str(), MODE, properties, others);
        self.call(Call::manager("StartTransientUnit", &timer), &body).await.map(drop)
    }

    async fn stop_timer(&self, unit: &str) -> Result<(), UnitError> {
        match self.job("StopUnit", &timer_of(unit)).await {
            Err(UnitError::Gone(_)) => Ok(()),
            other => other,
        }
    }
}

impl Services for Systemd {
    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, ServiceState> {
        Box::pin(self.unit_state(unit))
    }

    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.job("StartUnit", unit))
    }

    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.job("StopUnit", unit))
    }

    fn start_later<'a>(&'a self, unit: &'a str, after: Duration) -> Answer<'a, ()> {
        Box::pin(self.start_timer(unit, after))
    }

    fn forget_start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.stop_timer(unit))
    }
}

/// `kubelet.service` → `kubelet.timer`.
fn timer_of(unit: &str) -> String {
    format!("{}.timer", unit.strip_suffix(".service").unwrap_or(unit))
}

fn odd(method: &'static str, unit: &str, detail: &str) -> UnitError {
    UnitError::Refused { method, unit: unit.to_owned(), detail: format!("the answer is not understood: {detail}") }
}
