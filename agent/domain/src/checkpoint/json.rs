//! JSON as Go's `encoding/json` reads it, with its words for what is wrong.
//!
//! The end of the input counts as one blank: where a blank is not allowed, the error names it (`invalid character ' '
//! in numeric literal`), everywhere else the input "unexpectedly" ends.

use super::CheckpointError;
use crate::quote::Quoted;

/// Deepest nesting that is read; Go allows 10,000, a state file needs six.
const MAX_DEPTH: usize = 256;

/// A value; an object keeps duplicates and their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool,
    /// As written.
    Number(String),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Reads one value and nothing after it but blanks.
pub(super) fn parse(bytes: &[u8]) -> Result<Json, CheckpointError> {
    let mut scanner = Scanner { bytes, at: 0 };
    let value = scanner.value(0)?;
    scanner.skip_blanks();
    if scanner.peek().is_some() { Err(scanner.wrong("after top-level value")) } else { Ok(value) }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte after blanks.
    fn next_token(&mut self) -> Result<u8, CheckpointError> {
        self.skip_blanks();
        self.peek().ok_or_else(|| CheckpointError::Syntax("unexpected end of JSON input".to_owned()))
    }

    /// The byte at hand, or the blank after the end, is not allowed here.
    fn wrong(&self, context: &str) -> CheckpointError {
        let shown = match self.peek().unwrap_or(b' ') {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            byte => {
                let quoted = Quoted(char::from(byte).to_string()).to_string();
                format!("'{}'", quoted.trim_matches('"'))
            }
        };
        CheckpointError::Syntax(format!("invalid character {shown} {context}"))
    }

    fn value(&mut self, depth: usize) -> Result<Json, CheckpointError> {
        match self.next_token()? {
            b'{' | b'[' if depth >= MAX_DEPTH => Err(self.wrong("exceeded max depth")),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Json::String),
            b't' => self.literal("true", Json::Bool),
            b'f' => self.literal("false", Json::Bool),
            b'n' => self.literal("null", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.wrong("looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, CheckpointError> {
        self.at += 1;
        let mut fields = Vec::new();
        if self.next_token()? == b'}' {
            self.at += 1;
            return Ok(Json::Object(fields));
        }
        loop {
            if self.next_token()? != b'"' {
                return Err(self.wrong("looking for beginning of object key string"));
            }
            let name = self.string()?;
            if self.next_token()? != b':' {
                return Err(self.wrong("after object key"));
            }
            self.at += 1;
            fields.push((name, self.value(depth + 1)?));
            match self.next_token()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Json::Object(fields));
                }
                _ => return Err(self.wrong("after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, CheckpointError> {
        self.at += 1;
        let mut items = Vec::new();
        if self.next_token()? == b']' {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            match self.next_token()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return Err(self.wrong("after array element")),
            }
        }
    }

    fn literal(&mut self, word: &str, value: Json) -> Result<Json, CheckpointError> {
        for letter in word.bytes() {
            if self.peek() != Some(letter) {
                return Err(self.wrong(&format!("in literal {word} (expecting '{}')", char::from(letter))));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<Json, CheckpointError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.wrong("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Json::Number(String::from_utf8_lossy(text).into_owned()))
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Result<(), CheckpointError> {
        let start = self.at;
        self.digits();
        if self.at == start { Err(self.wrong(context)) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<String, CheckpointError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let plain = self.plain_run();
            text.push_str(&String::from_utf8_lossy(plain));
            match self.peek() {
                None => return Err(CheckpointError::Syntax("unexpected end of JSON input".to_owned())),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.wrong("in string literal")),
            }
        }
    }

    fn plain_run(&mut self) -> &'a [u8] {
        let start = self.at;
        while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
            self.at += 1;
        }
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn escape(&mut self) -> Result<char, CheckpointError> {
        let plain = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.wrong("in string escape code")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Four hexadecimal digits, and the second half of a pair; half a pair becomes U+FFFD.
    fn unicode(&mut self) -> Result<char, CheckpointError> {
        let first = self.four_digits()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes.get(self.at..self.at + 2) == Some(br"\u") {
            let back = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, CheckpointError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.wrong(r"in \u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }
}
