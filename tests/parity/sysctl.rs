//! Sysctls of pods: safe list, patterns, namespaces, names, admission.

use serde_json::{Value, json};
use trimtab_domain::sysctl::{
    HostNamespaces, KernelVersion, Namespace, SAFE_SYSCTLS, SysctlAllowlist, SysctlForbidden, SysctlPattern, normalize,
    safe_sysctls,
};

use crate::category::{Mismatch, Verdict, malformed, same};
use crate::machine::Machines;

/// `sysctl`.
pub(crate) fn judge(case: &Value, _: &Machines) -> Verdict {
    let got = match case["kind"].as_str() {
        Some("safe_table") => safe_table(),
        Some("safe_list") => {
            let kernel = case["kernel_version"].as_str().and_then(KernelVersion::parse);
            json!(safe_sysctls(kernel).collect::<Vec<_>>())
        }
        Some("pattern") => match SysctlAllowlist::new(strings(case, "patterns")?) {
            Ok(_) => json!({"ok": true}),
            Err(error) => json!({"ok": false, "error": error.to_string()}),
        },
        Some("namespace") => {
            let pattern = SysctlPattern::split(text(case, "name")?);
            let namespace = Namespace::of(&pattern.name_or_prefix).map_or("", Namespace::as_str);
            json!({"name_or_prefix": pattern.name_or_prefix, "namespace": namespace, "prefixed": pattern.is_prefix})
        }
        Some("normalize") => json!({"normalized": normalize(text(case, "name")?)}),
        Some("admit") => admit(case)?,
        _ => return Err(malformed("unknown kind")),
    };
    same(&case["expect"], &got)
}

fn safe_table() -> Value {
    let since = |v: Option<KernelVersion>| v.map(|v| format!("{}.{}", v.major, v.minor)).unwrap_or_default();
    json!(SAFE_SYSCTLS.map(|s| json!({"name": s.name, "min_kernel": since(s.since)})))
}

fn admit(case: &Value) -> Result<Value, Mismatch> {
    let flag = |name: &str| case[name].as_bool().unwrap_or(false);
    let host = HostNamespaces { network: flag("hostNetwork"), ipc: flag("hostIPC") };
    let list = SysctlAllowlist::new(strings(case, "patterns")?).map_err(|e| malformed(&e.to_string()))?;
    Ok(match list.admit(strings(case, "sysctls")?, host) {
        Ok(()) => json!({"admitted": true}),
        Err(error) => json!({"admitted": false, "reason": SysctlForbidden::REASON, "message": error.to_string()}),
    })
}

fn text<'a>(case: &'a Value, field: &str) -> Result<&'a str, Mismatch> {
    case[field].as_str().ok_or_else(|| malformed(field))
}

fn strings<'a>(case: &'a Value, field: &str) -> Result<Vec<&'a str>, Mismatch> {
    match &case[field] {
        Value::Null => Ok(Vec::new()),
        list => {
            let list = list.as_array().ok_or_else(|| malformed(field))?;
            list.iter().map(|v| v.as_str().ok_or_else(|| malformed(field))).collect()
        }
    }
}
