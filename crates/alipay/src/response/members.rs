//! Cuts a JSON object into its members without parsing them: what was signed is the text as it came.

use super::ResponseError;

/// One member of the outer object, raw.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// Between its quotes, escapes as they came.
    pub(super) name: &'a [u8],
    /// An object with its braces, a string with its quotes.
    pub(super) value: &'a [u8],
}

/// The members of the one object that `body` must be.
pub(super) fn members(body: &[u8]) -> Result<Vec<Member<'_>>, ResponseError> {
    let mut scanner = Scanner { body, at: 0 };
    let mut members: Vec<Member<'_>> = Vec::new();
    scanner.token(b'{', "the `{` of the outer object")?;
    loop {
        let name = scanner.string("the `\"` of a name")?;
        scanner.token(b':', "a `:`")?;
        let value = scanner.value()?;
        if members.iter().any(|member| member.name == name) {
            return Err(ResponseError::RepeatedMember);
        }
        members.push(Member { name, value });
        if scanner.skip_if(b',') {
            continue;
        }
        scanner.token(b'}', "a `,` or the `}` of the outer object")?;
        break;
    }
    scanner.blanks();
    match scanner.peek() {
        None => Ok(members),
        Some(_) => Err(scanner.expected("the end")),
    }
}

struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The raw text of the next value.
    fn value(&mut self) -> Result<&'a [u8], ResponseError> {
        self.blanks();
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string("a string")?;
            }
            Some(b'{' | b'[') => self.nested()?,
            Some(_) | None => self.scalar()?,
        }
        Ok(self.body.get(start..self.at).unwrap_or_default())
    }

    /// Moves behind the bracket that closes the one here; brackets in strings do not count.
    fn nested(&mut self) -> Result<(), ResponseError> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string("a string")?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth = depth.saturating_sub(1),
                Some(_) => {}
                None => return Err(self.expected("the bracket that closes the node")),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Moves behind a string and gives what stands between its quotes. A quote behind a backslash
    /// belongs to it, unless that backslash is itself escaped.
    fn string(&mut self, expected: &'static str) -> Result<&'a [u8], ResponseError> {
        self.token(b'"', expected)?;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'\\') => self.at += 2,
                Some(b'"') => {
                    let text = self.body.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(text);
                }
                Some(_) => self.at += 1,
                None => return Err(self.expected("the `\"` that ends the string")),
            }
        }
    }

    /// Moves behind a number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<(), ResponseError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a value")) } else { Ok(()) }
    }

    fn token(&mut self, token: u8, expected: &'static str) -> Result<(), ResponseError> {
        if self.skip_if(token) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn skip_if(&mut self, token: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(token);
        if found {
            self.at += 1;
        }
        found
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> ResponseError {
        ResponseError::Malformed { offset: self.at.min(self.body.len()), expected }
    }
}
