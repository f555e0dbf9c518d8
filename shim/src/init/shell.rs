//! Commands that were written for a shell, in images that have none: docker hands the shell form of
//! HEALTHCHECK over as `/bin/sh -c WORDS`. Words that mean the same without a shell are understood.

/// What a shell would give a meaning to, anywhere in a word.
const SYNTAX: [char; 16] =
    ['|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', '\n'];

const SHELLS: [&str; 4] = ["/bin/sh", "sh", "/bin/bash", "bash"];

/// The words that a shell is asked to execute, when `args` ask one: or why they need one. `None` for
/// other commands.
pub fn command(args: &[String]) -> Option<Result<Vec<String>, &'static str>> {
    let [shell, flag, script] = args else {
        return None;
    };
    if !SHELLS.contains(&shell.as_str()) || flag != "-c" {
        return None;
    }
    let words: Vec<&str> = script.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let needs_one = script.contains(SYNTAX)
        || words.iter().any(|word| word.starts_with(['#', '~']))
        || words.first().is_none_or(|word| word.contains('=') || RESERVED.contains(word));
    Some(match needs_one {
        true => Err("; the command is written for a shell: leave out all shell syntax (quotes, \
                     variables, ||, redirections), or give it as a list of words"),
        false => Ok(words.into_iter().map(str::to_owned).collect()),
    })
}

/// First words that are the shell's own.
const RESERVED: [&str; 14] =
    ["!", "{", ".", ":", "[[", "case", "cd", "eval", "exec", "exit", "for", "if", "until", "while"];

#[cfg(test)]
mod tests {
    use super::command;

    fn words(script: &str) -> Option<Result<Vec<String>, &'static str>> {
        command(&["/bin/sh".into(), "-c".into(), script.into()])
    }

    #[test]
    fn plain_words_need_no_shell() {
        let words = words(" /app.wasm#check  --port 80 ").unwrap().unwrap();
        assert_eq!(words, ["/app.wasm#check", "--port", "80"]);
    }

    #[test]
    fn syntax_needs_one() {
        for script in ["/a.wasm || exit 1", "A=1 /a.wasm", "/a.wasm \"x\"", "", "exit 1", "a # b"] {
            assert!(words(script).unwrap().is_err(), "{script}");
        }
    }

    #[test]
    fn other_commands_are_not_for_a_shell() {
        for args in [&["/a.wasm"][..], &["sh"], &["/a.wasm", "-c", "x"], &["sh", "-c", "a", "b"]] {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            assert!(command(&args).is_none(), "{args:?}");
        }
    }
}
