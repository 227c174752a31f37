//! Which pods run in a guest or under a kernel of their own, where sets of CPUs mean something else.

use std::collections::BTreeMap;

/// Types of the runtime handlers of a node, by handler (the empty text is the default one), as the runtime or its
/// configuration names them: `io.containerd.runc.v2`, `io.containerd.kata.v2`; CRI-O: `oci`, `vm`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandlerTypes(pub BTreeMap<String, String>);

/// Types whose containers are processes of the node's kernel, as containerd 1.x and 2.x, and CRI-O name them.
const ORDINARY_TYPES: [&str; 5] =
    ["io.containerd.runc.v2", "io.containerd.runc.v1", "io.containerd.runtime.v1.linux", "oci", "pod"];
/// Names of handlers that are taken for ordinary if their type is not known.
const ORDINARY_HANDLERS: [&str; 3] = ["", "runc", "crun"];

/// Why pods of this handler are not pinned; `None`: they are ordinary.
///
/// The type decides if it is known: a handler `nvidia` is usually runc by type. Else only the names `runc` and `crun` and
/// the default are taken for ordinary: to leave a pod alone is the smaller mistake.
#[must_use]
pub fn sandboxed(handler: &str, types: &HandlerTypes) -> Option<String> {
    let shown = if handler.is_empty() { "the default handler".to_owned() } else { format!("handler {handler}") };
    match types.0.get(handler) {
        Some(kind) if kind.is_empty() => None,
        Some(kind) if ORDINARY_TYPES.contains(&kind.as_str()) => None,
        Some(kind) => Some(format!("{shown} has type {kind}")),
        None if ORDINARY_HANDLERS.contains(&handler) => None,
        None => Some(format!("{shown} is of an unknown type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_shares_the_kernel_of_the_node_is_ordinary() {
        let types = [
            ("", "io.containerd.runc.v2"),
            ("nvidia", "io.containerd.runc.v2"),
            ("kata-qemu", "io.containerd.kata-qemu.v2"),
            ("gvisor", "io.containerd.runsc.v1"),
            ("crio-runc", "oci"),
            ("crio-old", ""),
            ("crio-kata", "vm"),
            ("runc", "io.containerd.kata.v2"),
        ];
        let types = HandlerTypes(types.iter().map(|(name, kind)| ((*name).into(), (*kind).into())).collect());
        let unknown = HandlerTypes::default();
        let rows = [
            ("", &types, true),
            ("nvidia", &types, true),
            ("kata-qemu", &types, false),
            ("gvisor", &types, false),
            ("crio-runc", &types, true),
            ("crio-old", &types, true),
            ("crio-kata", &types, false),
            ("runc", &types, false),
            ("", &unknown, true),
            ("runc", &unknown, true),
            ("crun", &unknown, true),
            ("nvidia", &unknown, false),
            ("kata", &unknown, false),
        ];
        for (handler, types, ordinary) in rows {
            assert_eq!(sandboxed(handler, types).is_none(), ordinary, "{handler} {types:?}");
        }
    }
}
