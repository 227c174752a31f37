//! Answers in pages: how large a page is, and where the next one begins.

use super::Refused;

/// How large pages are.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageSize {
    /// If the client does not say.
    pub(super) usual: u32,
    /// Whatever the client says.
    pub(super) largest: u32,
}

impl PageSize {
    /// Entries of the page that is asked for.
    pub(super) fn of(self, asked: u32) -> usize {
        let size = if asked == 0 { self.usual } else { asked.min(self.largest) };
        usize::try_from(size).unwrap_or(usize::MAX)
    }
}

/// The number in a token that was given out; `None` for the first page.
///
/// # Errors
/// [`Refused::Argument`] for a token that was never given out.
pub(super) fn start(token: &str) -> Result<Option<u64>, Refused> {
    if token.is_empty() {
        return Ok(None);
    }
    token.parse().map(Some).map_err(|_| Refused::Argument {
        field: "page_token",
        detail: "it is no token of an answer; leave it empty for the first page".to_owned(),
    })
}
