//! Bytes to text: what is no UTF-8 text of sound size is refused before anything is parsed.

use super::diagnostic::{Diagnostic, Position};

/// Largest text, in bytes (1 MiB, what Kubernetes allows in a ConfigMap).
pub const MAX_BYTES: usize = 1 << 20;

/// The bytes as text.
pub(super) fn checked(bytes: &[u8]) -> Result<&str, Box<Diagnostic>> {
    let refuse = |position, message: &str, found: String, allowed: &str| {
        Err(Box::new(Diagnostic::at(position, "", message).found(found).allowed(allowed)))
    };
    if bytes.len() > MAX_BYTES {
        let found = format!("{} bytes", bytes.len());
        return refuse(Position::START, "too large", found, &format!("at most {MAX_BYTES} bytes"));
    }
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        return refuse(Position::START, "byte order mark", "EF BB BF at the start".into(), "UTF-8 without one");
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return refuse(Position::START, "wrong encoding", "UTF-16 with a byte order mark".into(), "UTF-8");
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (good, rest) = bytes.split_at_checked(error.valid_up_to()).unwrap_or((bytes, &[]));
            let found = rest.first().map_or_else(String::new, |byte| format!("byte 0x{byte:02x}"));
            let place = position_after(&String::from_utf8_lossy(good));
            return refuse(place, "wrong encoding", found, "UTF-8");
        }
    };
    let unprintable = |c: &char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || *c == '\u{feff}';
    if let Some((offset, bad)) = text.char_indices().find(|(_, c)| unprintable(c)) {
        let place = position_after(text.get(..offset).unwrap_or(""));
        let found = format!("U+{:04X}", u32::from(bad));
        return refuse(place, "control character", found, "printable characters, line ends and tabs");
    }
    Ok(text)
}

/// The place just behind `text`; YAML ends a line with CR, LF or both.
fn position_after(text: &str) -> Position {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Position { line, column }
}
