//! From the text of a Containerfile to its instructions: comments, continued lines and the directives
//! at the top are behind us after this.
//!
//! <https://docs.docker.com/reference/dockerfile/#format>

/// An instruction, over as many lines as it had.
#[derive(Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Of its first line, from 1.
    pub line: usize,
    /// In upper case.
    pub name: String,
    /// `--KEY[=VALUE]` before the arguments.
    pub flags: Vec<(String, Option<String>)>,
    /// Everything else, joined to one line.
    pub arguments: String,
}

/// What a text cannot be read for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    pub why: String,
}

/// The instructions, and the character that continues lines and takes the meaning from others.
pub fn read(text: &str) -> Result<(Vec<Instruction>, char), Wrong> {
    let escape = directives(text)?;
    let mut instructions = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') || (begun.is_some() && line.trim().is_empty()) {
            continue;
        }
        let (first, mut whole) = begun.take().unwrap_or((index + 1, String::new()));
        let trimmed = line.trim_end();
        match trimmed.strip_suffix(escape) {
            Some(more) => {
                whole.push_str(more);
                begun = Some((first, whole));
            }
            None => {
                whole.push_str(line);
                instructions.extend(instruction(first, whole.trim()));
            }
        }
    }
    if let Some((first, whole)) = begun {
        instructions.extend(instruction(first, whole.trim()));
    }
    Ok((instructions, escape))
}

/// Comments of the form `# key=value` before anything else; of them `escape` matters here.
fn directives(text: &str) -> Result<char, Wrong> {
    let mut escape = None;
    for (index, line) in text.lines().enumerate() {
        let comment = line.trim().strip_prefix('#').map(str::trim);
        let Some((key, value)) = comment.and_then(|comment| comment.split_once('=')) else {
            break;
        };
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        let wrong = |why: String| Err(Wrong { line: index + 1, why });
        match (key.as_str(), value) {
            ("escape", "\\") => escape = Some('\\'),
            ("escape", "`") => escape = Some('`'),
            ("escape", other) => return wrong(format!("escape is ` or \\, not {other}")),
            ("syntax", frontend) => {
                let name = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
                if !name.starts_with("docker/dockerfile:") && name != "docker/dockerfile" {
                    return wrong(format!(
                        "the syntax {frontend} is a program in an image, which is not run here: leave it out, or say docker/dockerfile:1"
                    ));
                }
            }
            ("check", _) => {}
            // An ordinary comment, after which there are no directives.
            _ => break,
        }
    }
    Ok(escape.unwrap_or('\\'))
}

fn instruction(line: usize, text: &str) -> Option<Instruction> {
    if text.is_empty() {
        return None;
    }
    let (name, mut rest) = split_word(text);
    let mut flags = Vec::new();
    while let Some(flag) = rest.strip_prefix("--") {
        let (word, after) = split_word(flag);
        flags.push(match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word.to_owned(), None),
        });
        rest = after;
    }
    Some(Instruction { line, name: name.to_uppercase(), flags, arguments: rest.to_owned() })
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(usize, String, String)> {
        let (instructions, _) = read(text).unwrap();
        instructions.into_iter().map(|one| (one.line, one.name, one.arguments)).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_are_left_out() {
        let text = "# a comment\r\nfrom scratch\r\n\nENV a=1 \\\n  # within\n\n  b=2 \\  \n c=3\n  CMD [\"x\"]";
        let expected =
            [(2, "FROM", "scratch"), (4, "ENV", "a=1   b=2  c=3"), (9, "CMD", "[\"x\"]")];
        let expected: Vec<_> = expected
            .iter()
            .map(|(line, name, rest)| (*line, (*name).into(), (*rest).into()))
            .collect();
        assert_eq!(names(text), expected);
    }

    #[test]
    fn flags_stand_before_the_arguments() {
        let (instructions, _) = read("COPY --chown=1:2 --link a --b /c").unwrap();
        let flags = [("chown".to_owned(), Some("1:2".to_owned())), ("link".to_owned(), None)];
        assert_eq!(instructions[0].flags, flags);
        assert_eq!(instructions[0].arguments, "a --b /c");
    }

    #[test]
    fn directives_count_only_at_the_top() {
        let (instructions, escape) =
            read("# syntax=docker/dockerfile:1.7\n# escape=`\nENV a=1 `\n b=2").unwrap();
        assert_eq!((escape, instructions.len()), ('`', 1));
        assert_eq!(read("# words\n# escape=`\n").unwrap().1, '\\');
        assert_eq!(read("# escape=x").unwrap_err().line, 1);
        assert!(read("\u{20}# syntax=example.com/frontend").unwrap_err().why.contains("not run"));
    }

    #[test]
    fn an_end_in_the_middle_of_a_line_is_the_end_of_it() {
        assert_eq!(names("CMD x \\"), [(1, "CMD".into(), "x".into())]);
        assert!(names("").is_empty() && names("\\\n\\\n").is_empty());
    }
}
