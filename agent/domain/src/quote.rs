//! Texts in double quotes, as `strconv.Quote` of Go writes them: error texts of the kubelet contain them.

use std::fmt::{self, Write as _};

/// Displays a text quoted and escaped.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<T>(pub T);

impl<T: AsRef<str>> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.as_ref().chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x0b' => f.write_str("\\v")?,
                ' ' => f.write_char(c)?,
                c if !c.is_control() && !c.is_whitespace() => f.write_char(c)?,
                c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
                c if u32::from(c) <= 0xffff => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "\\U{:08x}", u32::from(c))?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn what_does_not_print_is_escaped() {
        let rows = [
            ("net.é", "\"net.é\""),
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\t\x01", r#""\n\t\x01""#),
            ("\u{a0}", r#""\u00a0""#),
        ];
        for (text, expected) in rows {
            assert_eq!(Quoted(text).to_string(), expected);
        }
    }
}
