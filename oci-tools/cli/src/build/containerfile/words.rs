//! Words of a Containerfile: quotes, what is escaped, and variables.
//!
//! <https://docs.docker.com/reference/dockerfile/#environment-replacement>

/// Splits at blanks outside quotes, and leaves quotes and escapes as they are.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut begun) = (String::new(), false);
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c.is_whitespace() && quote.is_none() {
            if begun {
                words.push(std::mem::take(&mut word));
            }
            begun = false;
            continue;
        }
        begun = true;
        word.push(c);
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            word.extend(rest.next());
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Takes quotes and escapes away and puts the values of variables in; one without a value is empty.
///
/// # Errors
/// Why the word cannot be understood.
pub fn expand(
    word: &str,
    escape: char,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = word.chars().peekable();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        match c {
            '\'' if !quoted => loop {
                match rest.next() {
                    Some('\'') => break,
                    Some(c) => out.push(c),
                    None => return Err("a ' is not closed".into()),
                }
            },
            '"' => quoted = !quoted,
            '$' => out.push_str(&variable(&mut rest, escape, value)?),
            c if c == escape => match rest.next() {
                Some(next) if quoted && !matches!(next, '"' | '$') && next != escape => {
                    out.extend([c, next]);
                }
                Some(next) => out.push(next),
                None => {}
            },
            c => out.push(c),
        }
    }
    if quoted { Err("a \" is not closed".into()) } else { Ok(out) }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What follows a `$`.
fn variable(
    rest: &mut Chars<'_>,
    escape: char,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let braced = rest.next_if_eq(&'{').is_some();
    let name = name(rest);
    if !braced {
        return Ok(if name.is_empty() { "$".into() } else { value(&name).unwrap_or_default() });
    }
    if name.is_empty() {
        return Err("a ${ has no name in it".into());
    }
    let set = value(&name);
    match rest.next() {
        Some('}') => Ok(set.unwrap_or_default()),
        Some(':') => {
            let operator = rest.next();
            let word = expand(&until_brace(rest, escape)?, escape, value)?;
            let full = set.filter(|text| !text.is_empty());
            match operator {
                Some('-') => Ok(full.unwrap_or(word)),
                Some('+') => Ok(full.map_or(String::new(), |_| word)),
                Some('?') => full.ok_or_else(|| format!("{name} has no value: {word}")),
                _ => Err(format!("${{{name}:...}} takes :-, :+ or :?")),
            }
        }
        Some(operator @ ('-' | '+' | '?')) => {
            let word = expand(&until_brace(rest, escape)?, escape, value)?;
            match operator {
                '-' => Ok(set.unwrap_or(word)),
                '+' => Ok(set.map_or(String::new(), |_| word)),
                _ => set.ok_or_else(|| format!("{name} is not set: {word}")),
            }
        }
        Some('#' | '%' | '/') => Err(format!(
            "${{{name}...}}: cutting and replacing in variables is not understood here: write the value out"
        )),
        Some(_) => Err(format!("${{{name} is followed by what belongs to no variable")),
        None => Err(format!("${{{name} is not closed")),
    }
}

/// Letters, digits and `_`, the first no digit.
fn name(rest: &mut Chars<'_>) -> String {
    let mut name = String::new();
    let inside = |name: &String, c: &char| {
        *c == '_' || c.is_ascii_alphabetic() || (!name.is_empty() && c.is_ascii_digit())
    };
    while let Some(c) = rest.next_if(|c| inside(&name, c)) {
        name.push(c);
    }
    name
}

/// What stands before the `}` that ends this, which is taken too.
fn until_brace(rest: &mut Chars<'_>, escape: char) -> Result<String, String> {
    let (mut word, mut depth) = (String::new(), 0);
    while let Some(c) = rest.next() {
        match c {
            '}' if depth == 0 => return Ok(word),
            '}' => depth -= 1,
            '$' if rest.peek() == Some(&'{') => depth += 1,
            _ => {}
        }
        word.push(c);
        if c == escape {
            word.extend(rest.next());
        }
    }
    Err("a ${ is not closed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(word: &str) -> Result<String, String> {
        let value = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(word, '\\', &value)
    }

    #[test]
    fn variables_have_the_forms_that_docker_knows() {
        for (word, expected) in [
            ("$A/${A}x$NONE", "one/onex"),
            ("${NONE:-${A}}", "one"),
            ("${EMPTY:-x}${EMPTY-x}", "x"),
            ("${A:+yes}${NONE:+no}${EMPTY+set}", "yesset"),
            (r"\$A '$A' $$A", "$A $A $one"),
            (r#""a b"$A"\"\x""#, r#"a bone"\x"#),
            ("$1", "$1"),
            ("${A:-}", "one"),
            (r"${NONE:-a\}b}", "a}b"),
        ] {
            assert_eq!(expanded(word).as_deref(), Ok(expected), "{word}");
        }
        for bad in ["'a", "\"a", "${A", "${}", "${A:-x", "${A#x}", "${NONE:?missing}", "${A!}"] {
            assert!(expanded(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_end_at_blanks_outside_quotes() {
        let words = split(r#"a="x y" b='p q'  c=\ d"#, '\\');
        assert_eq!(words, [r#"a="x y""#, "b='p q'", r"c=\ d"]);
    }
}
