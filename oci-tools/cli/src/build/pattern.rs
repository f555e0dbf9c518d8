//! Patterns for paths, as `COPY` and `.dockerignore` have them: `*` and `?` stand for anything but
//! `/`, `[a-c]` and `[^a-c]` for one of a class, `**` for any number of folders; `\` takes the
//! meaning from what follows.
//!
//! <https://pkg.go.dev/path/filepath#Match>, and for `**`
//! <https://github.com/moby/patternmatcher/blob/main/patternmatcher.go>. Time is linear in pattern
//! times path, whatever the pattern.

/// A pattern that has been read.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<Token>);

#[derive(Clone, Debug)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**`
    All,
    /// `**/`: nothing, or folders.
    Folders,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether the text has characters that stand for others.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

impl Pattern {
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' if rest.next_if_eq(&'*').is_some() => match rest.next_if_eq(&'/') {
                    Some(_) => Token::Folders,
                    None => Token::All,
                },
                '*' => Token::Some,
                '?' => Token::One,
                '[' => {
                    class(&mut rest).ok_or("a `[` is not closed, or what is in it is no class")?
                }
                '\\' => Token::Char(rest.next().ok_or("it ends with a `\\`")?),
                c => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether all of `path` is what the pattern means.
    pub fn matches(&self, path: &str) -> bool {
        // The places in the pattern that may be next, and the `Folders` that have begun.
        let mut here = vec![false; self.0.len() + 1];
        let mut within = here.clone();
        here[0] = true;
        self.skip(&mut here);
        for c in path.chars() {
            let mut next = vec![false; self.0.len() + 1];
            let mut next_within = next.clone();
            for (at, token) in self.0.iter().enumerate() {
                if (here[at] || within[at]) && matches!(token, Token::Folders) {
                    next_within[at] = true;
                    next[at + 1] |= c == '/';
                }
                if !here[at] {
                    continue;
                }
                match token {
                    Token::Char(expected) => next[at + 1] |= c == *expected,
                    Token::One => next[at + 1] |= c != '/',
                    Token::Some => next[at] |= c != '/',
                    Token::All => next[at] = true,
                    Token::Folders => {}
                    Token::Class { negated, ranges } => {
                        let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                        next[at + 1] |= inside != *negated && c != '/';
                    }
                }
            }
            self.skip(&mut next);
            (here, within) = (next, next_within);
        }
        here[self.0.len()]
    }

    /// Goes on to what follows tokens that may stand for nothing.
    fn skip(&self, here: &mut [bool]) {
        for (at, token) in self.0.iter().enumerate() {
            if here[at] && matches!(token, Token::Some | Token::All | Token::Folders) {
                here[at + 1] = true;
            }
        }
    }
}

/// What follows a `[`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        c => Some(c),
    };
    while rest.next_if_eq(&']').is_none() {
        let low = one(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { one(rest)? } else { low };
        ranges.push((low, high));
    }
    (!ranges.is_empty()).then_some(Token::Class { negated, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_docker() {
        for (pattern, yes, no) in [
            ("*.wasm", &["a.wasm", ".wasm"][..], &["d/a.wasm", "a.wat"][..]),
            ("a?c", &["abc", "aéc"], &["ac", "a/c"]),
            ("[a-cx]", &["b", "x"], &["d", "/"]),
            ("[^a-c]", &["d"], &["a", "/", ""]),
            (r"\*", &["*"], &["a"]),
            (r"[\]]", &["]"], &["["]),
            ("**/x", &["x", "a/x", "a/b/x"], &["ax", "x/a"]),
            ("a/**", &["a/", "a/b", "a/b/c"], &["a", "b"]),
            ("a/**/b", &["a/b", "a/c/d/b"], &["ab", "a/cb"]),
            ("**", &["", "a", "a/b"], &[]),
            ("a**b", &["ab", "a/x/b"], &["a"]),
            ("", &[""], &["a"]),
        ] {
            let read = Pattern::parse(pattern).unwrap();
            assert!(yes.iter().all(|path| read.matches(path)), "{pattern}: {yes:?}");
            assert!(!no.iter().any(|path| read.matches(path)), "{pattern}: {no:?}");
        }
        for bad in ["[", "[a", "[]", "[-a]", "[a-", "\\", r"[\"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer_than_others() {
        let pattern = Pattern::parse(&"*a".repeat(1000)).unwrap();
        assert!(!pattern.matches(&"a".repeat(999)));
        assert!(pattern.matches(&"a".repeat(1000)));
    }
}
