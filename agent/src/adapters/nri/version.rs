//! Which version of NRI a runtime speaks, and what follows from it.

use trimtab_proto::nri::v1alpha1::Event;

use crate::ports::admission::RuntimePeer;

/// Major, minor, patch.
pub(super) type Version = (u32, u32, u32);

/// First version that tells of resized pods; before it the bit is refused with the whole connection.
const TELLS_OF_RESIZED_PODS: Version = (0, 10, 0);
/// First version that survives updates that it has not asked for (nri PR 301, containerd issue 13733).
const SAFE_UNSOLICITED_UPDATES: Version = (0, 12, 1);

/// What every version knows and the agent wants to be told.
const EVENTS: [Event; 8] = [
    Event::RunPodSandbox,
    Event::StopPodSandbox,
    Event::RemovePodSandbox,
    Event::CreateContainer,
    Event::PostStartContainer,
    Event::UpdateContainer,
    Event::StopContainer,
    Event::RemoveContainer,
];

/// The runtime by what it says in `Configure`. Its NRI is what it tells (since 0.12), else what the versions of the
/// runtime are known to carry.
pub(super) fn peer(name: &str, version: &str, nri: &str) -> RuntimePeer {
    let told = parse(nri);
    RuntimePeer {
        name: name.to_owned(),
        version: version.to_owned(),
        nri: told.map(|(version, _)| version).or_else(|| infer(name, version)),
        // An inferred version is not enough: what a distribution has put into its package is not known.
        safe_unsolicited_updates: told.is_some_and(|(version, release)| {
            version > SAFE_UNSOLICITED_UPDATES || (version == SAFE_UNSOLICITED_UPDATES && release)
        }),
    }
}

/// Bit (event − 1) of everything that the agent wants to be told. Never 0, which would mean everything.
pub(super) fn event_mask(nri: Option<Version>) -> i32 {
    let resized = nri.is_some_and(|version| version >= TELLS_OF_RESIZED_PODS).then_some(Event::UpdatePodSandbox);
    EVENTS.into_iter().chain(resized).fold(0, |mask, event| mask | 1 << (event as i32 - 1))
}

/// The numbers, and true if it is a release (`0.12.1-rc.1` comes before `0.12.1`).
fn parse(text: &str) -> Option<(Version, bool)> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (numbers, rest) = text.split_at_checked(end)?;
    let mut parts = numbers.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = parts.next().map_or(Some(0), |patch| patch.parse().ok())?;
    Some(((major, minor, patch), !rest.starts_with('-')))
}

/// The NRI that the releases of a runtime carry; an unknown runtime's is not guessed. Releases that tell their version
/// themselves are here for builds that do not.
fn infer(name: &str, version: &str) -> Option<Version> {
    let ((major, minor, patch), _) = parse(version)?;
    Some(match (name, major, minor, patch) {
        ("containerd", 1, 7, 0..=6) => (0, 3, 0),
        ("containerd", 1, 7, 7..=13) => (0, 4, 0),
        ("containerd", 1, 7, 14..=15) => (0, 6, 0),
        ("containerd", 1, 7, 16..=25) => (0, 6, 1),
        ("containerd", 1, 7, _) | ("containerd", 2, 0 | 1, _) => (0, 8, 0),
        ("containerd", 2, 2, 0) => (0, 10, 0),
        ("containerd", 2, 2, _) => (0, 11, 0),
        ("containerd", 2.., ..) => (0, 12, 0),
        ("cri-o", 1, 26, _) => (0, 2, 0),
        ("cri-o", 1, 27 | 28, _) => (0, 3, 0),
        ("cri-o", 1, 29, _) => (0, 5, 0),
        ("cri-o", 1, 30, _) => (0, 6, 0),
        ("cri-o", 1, 31, _) => (0, 6, 1),
        ("cri-o", 1, 32, _) => (0, 9, 0),
        ("cri-o", 1, 33, _) => (0, 9, 1),
        ("cri-o", 1, 34, _) => (0, 10, 0),
        ("cri-o", 1, 35.., _) => (0, 11, 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_what_is_told_else_what_the_runtime_is_known_to_carry() {
        let rows = [
            (("containerd", "v2.4.0", "v0.12.1"), Some((0, 12, 1)), true),
            (("containerd", "v2.4.0", "0.12.2"), Some((0, 12, 2)), true),
            (("containerd", "v2.4.0", "v0.12.1-rc.1"), Some((0, 12, 1)), false),
            (("containerd", "v2.4.0", "v0.13.0-rc.1"), Some((0, 13, 0)), true),
            (("containerd", "v2.3.1", "v0.12.0"), Some((0, 12, 0)), false),
            (("containerd", "v2.4.0", ""), Some((0, 12, 0)), false),
            (("containerd", "v2.2.0", ""), Some((0, 10, 0)), false),
            (("containerd", "2.2.3", ""), Some((0, 11, 0)), false),
            (("containerd", "v2.1.0-beta.1", ""), Some((0, 8, 0)), false),
            (("containerd", "1.7.24~ds1", ""), Some((0, 6, 1)), false),
            (("containerd", "1.7.26", ""), Some((0, 8, 0)), false),
            (("containerd", "1.7.3", ""), Some((0, 3, 0)), false),
            (("containerd", "1.6.20", ""), None, false),
            (("cri-o", "1.33.0", ""), Some((0, 9, 1)), false),
            (("cri-o", "1.40", ""), Some((0, 11, 0)), false),
            (("cri-o", "1.31.0", "garbage"), Some((0, 6, 1)), false),
            (("another", "9.9.9", ""), None, false),
            (("", "", ""), None, false),
            (("containerd", "99999999999.1.1", "v99999999999.1"), None, false),
        ];
        for ((name, version, told), nri, safe) in rows {
            let peer = peer(name, version, told);
            assert_eq!((peer.nri, peer.safe_unsolicited_updates), (nri, safe), "{name} {version} {told:?}");
        }
    }

    #[test]
    fn mask_holds_no_bit_that_the_version_does_not_know() {
        let rows = [
            (None, 0x6CF),
            (Some((0, 3, 0)), 0x6CF),
            (Some((0, 9, 1)), 0x6CF),
            (Some((0, 10, 0)), 0xECF),
            (Some((0, 12, 2)), 0xECF),
            (Some((1, 0, 0)), 0xECF),
        ];
        for (nri, mask) in rows {
            assert_eq!(event_mask(nri), mask, "{nri:?}");
        }
    }
}
