//! The checksum of a state file: 32-bit FNV-1a over the text form of the Go structure behind it, and the JSON text.
//!
//! The text form is that of a Go debugging printer: fields as `Name:(type)value`, maps as `map[k:v k:v]` with sorted
//! keys, an absent map or list as `<nil>`, a pointer as `<*>`; what stands inside a map or list has no type.

use std::fmt::{self, Display, Write};

/// 32-bit FNV-1a, fed with text.
pub(super) struct Fnv1a(u32);

impl Fnv1a {
    /// Hashes what `write` writes.
    pub(super) fn of(write: impl FnOnce(&mut Self) -> fmt::Result) -> u64 {
        let mut hash = Self(2_166_136_261);
        // The sink takes everything, so writing cannot fail.
        let written = write(&mut hash);
        debug_assert!(written.is_ok(), "a hash takes every text");
        u64::from(hash.0)
    }
}

impl Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(16_777_619);
        }
        Ok(())
    }
}

/// Writes `map[k:v k:v]`, or `<nil>`; the entries come sorted.
pub(super) fn map<W: Write, K: Display, V>(
    out: &mut W,
    entries: Option<impl IntoIterator<Item = (K, V)>>,
    mut value: impl FnMut(&mut W, V) -> fmt::Result,
) -> fmt::Result {
    let Some(entries) = entries else { return out.write_str("<nil>") };
    out.write_str("map[")?;
    for (position, (key, item)) in entries.into_iter().enumerate() {
        if position > 0 {
            out.write_char(' ')?;
        }
        write!(out, "{key}:")?;
        value(out, item)?;
    }
    out.write_char(']')
}

/// Writes `[a b c]`, or `<nil>`.
pub(super) fn list<W: Write, V>(
    out: &mut W,
    items: Option<impl IntoIterator<Item = V>>,
    mut value: impl FnMut(&mut W, V) -> fmt::Result,
) -> fmt::Result {
    let Some(items) = items else { return out.write_str("<nil>") };
    out.write_char('[')?;
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.write_char(' ')?;
        }
        value(out, item)?;
    }
    out.write_char(']')
}

/// Writes a JSON string with the escapes of Go's encoder, which also spares HTML and line separators.
pub(super) fn json_string<W: Write>(out: &mut W, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
    if text.bytes().all(plain) {
        out.write_str(text)?;
        return out.write_char('"');
    }
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\x08' => out.write_str("\\b")?,
            '\x0c' => out.write_str("\\f")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Writes a JSON object; the entries come in their order.
pub(super) fn json_object<W: Write, K: AsRef<str>, V>(
    out: &mut W,
    entries: impl IntoIterator<Item = (K, V)>,
    mut value: impl FnMut(&mut W, V) -> fmt::Result,
) -> fmt::Result {
    out.write_char('{')?;
    for (position, (key, item)) in entries.into_iter().enumerate() {
        if position > 0 {
            out.write_char(',')?;
        }
        json_string(out, key.as_ref())?;
        out.write_char(':')?;
        value(out, item)?;
    }
    out.write_char('}')
}

/// Writes a JSON array.
pub(super) fn json_array<W: Write, V>(
    out: &mut W,
    items: impl IntoIterator<Item = V>,
    mut value: impl FnMut(&mut W, V) -> fmt::Result,
) -> fmt::Result {
    out.write_char('[')?;
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.write_char(',')?;
        }
        value(out, item)?;
    }
    out.write_char(']')
}
