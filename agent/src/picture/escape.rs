//! Names from the node made harmless: for terminals, and for HTML and SVG.

use std::fmt::{self, Display, Write as _};

/// Text with control characters, marks that change the direction of writing, and characters that XML forbids spelt
/// out, so that a name can neither drive a terminal nor pose as another.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        push_visible(&mut out, c);
        out
    })
}

fn push_visible(out: &mut String, c: char) {
    if is_hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
}

/// Unicode Standard Annex 9, "Directional Formatting Characters"; XML 1.0, section 2.2.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

/// Text as the content or as a quoted attribute of HTML and SVG.
#[derive(Debug, Clone, Copy)]
pub struct Xml<T>(pub T);

impl<T: Display> Display for Xml<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                c if is_hidden(c) => write!(self.0, "{}", c.escape_default())?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_become_text() {
        let rows = [
            ("tag", "<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("attribute", "\" onload='x'", "&quot; onload=&#39;x&#39;"),
            ("entity", "&lt;", "&amp;lt;"),
            ("end of a comment or of CDATA", "]]>--><!--", "]]&gt;--&gt;&lt;!--"),
            ("terminal escape", "\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("NUL and line end", "a\0b\nc", "a\\u{0}b\\nc"),
            ("turned around", "\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("nothing to see", "a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("not XML", "\u{ffff}", "\\u{ffff}"),
            ("plain", "db-0.prod_x", "db-0.prod_x"),
            ("other scripts", "größe-数", "größe-数"),
        ];
        for (name, text, expected) in rows {
            assert_eq!(Xml(text).to_string(), expected, "{name}");
        }
        assert_eq!(visible("<\u{1b}[2J\u{202e}>"), "<\\u{1b}[2J\\u{202e}>");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in any::<String>()) {
            let escaped = Xml(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(is_hidden));
            for (at, _) in escaped.match_indices('&') {
                let rest = escaped.get(at..).unwrap_or_default();
                prop_assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|entity| rest.starts_with(entity)));
            }
        }
    }
}
