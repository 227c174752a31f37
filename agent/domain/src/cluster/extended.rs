//! Extended resources: what a node says to have besides CPU and memory (`v1helper.IsExtendedResourceName`).

use super::label::is_qualified_name;

/// Why a name cannot be that of an extended resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no domain in front, or odd characters.
    #[error("not a qualified name such as example.com/dongle")]
    NotQualified,
    /// The domain is Kubernetes' own.
    #[error("names of kubernetes.io are Kubernetes' own")]
    OfKubernetes,
    /// Quotas call the requests for a resource so.
    #[error("a name must not begin with requests.")]
    OfQuota,
    /// With `requests.` in front, as quotas write it, it is too long.
    #[error("the domain is longer than 244 characters")]
    TooLong,
}

/// Checks a name.
///
/// # Errors
/// [`NameError`] with the rule that is broken.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let Some((domain, _)) = name.split_once('/') else { return Err(NameError::NotQualified) };
    if !is_qualified_name(name) {
        return Err(NameError::NotQualified);
    }
    if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") {
        return Err(NameError::OfKubernetes);
    }
    if name.starts_with("requests.") {
        return Err(NameError::OfQuota);
    }
    if !is_qualified_name(&format!("requests.{name}")) {
        return Err(NameError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_the_api_server() {
        let long = format!("{}/a", "a".repeat(245));
        let cases = [
            ("example.com/dongle", Ok(())),
            ("dongle", Err(NameError::NotQualified)),
            ("example.com/", Err(NameError::NotQualified)),
            ("Example.com/a", Err(NameError::NotQualified)),
            ("example.com/a/b", Err(NameError::NotQualified)),
            ("../a", Err(NameError::NotQualified)),
            ("kubernetes.io/a", Err(NameError::OfKubernetes)),
            ("node.kubernetes.io/a", Err(NameError::OfKubernetes)),
            ("notkubernetes.io/a", Ok(())),
            ("requests.example.com/a", Err(NameError::OfQuota)),
            (long.as_str(), Err(NameError::TooLong)),
        ];
        for (name, expected) in cases {
            assert_eq!(check_name(name), expected, "{name}");
        }
    }
}
