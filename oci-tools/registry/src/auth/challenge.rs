//! The header `WWW-Authenticate`. <https://www.rfc-editor.org/rfc/rfc9110#field.www-authenticate>

/// One challenge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of parameter `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the challenges of one header; what comes after something malformed is left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        rest = match after.trim_start().strip_prefix('=') {
            // `name=value` belongs to the challenge before it.
            Some(value) if !challenges.is_empty() => {
                let Some((value, after)) = value_of(value.trim_start()) else {
                    break;
                };
                let parameters = &mut challenges.last_mut().expect("there is one").parameters;
                parameters.push((word.to_ascii_lowercase(), value));
                after
            }
            Some(_) => break,
            None => {
                let scheme = word.to_ascii_lowercase();
                challenges.push(Challenge { scheme, parameters: Vec::new() });
                after
            }
        };
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

fn token(text: &str) -> (&str, &str) {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !of_token(c)).unwrap_or(text.len()))
}

/// A token, or a quoted string with its escapes resolved; and what follows.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = token(text);
        return (!word.is_empty()).then(|| (word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_quoted_or_not_and_belong_to_the_scheme_before_them() {
        let header = r#"BASIC realm="a \"b\", c", Bearer Realm="https://h/t" , service=s,scope="x:y:pull,push""#;
        let challenges = parse(header);
        let schemes: Vec<_> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer"]);
        assert_eq!(challenges[0].get("realm"), Some("a \"b\", c"));
        assert_eq!(challenges[1].get("realm"), Some("https://h/t"));
        assert_eq!(challenges[1].get("service"), Some("s"));
        assert_eq!(challenges[1].get("scope"), Some("x:y:pull,push"));
    }

    #[test]
    fn nonsense_gives_no_more_than_what_came_before_it() {
        for header in ["", ",", "=", "a=b", "Bearer =", "\"", "é"] {
            assert!(parse(header).is_empty(), "{header}");
        }
        for header in ["Bearer realm=\"open", "Bearer realm=\"\\", "Bearer realm="] {
            let challenges = parse(header);
            assert_eq!(challenges.len(), 1, "{header}");
            assert_eq!(challenges[0].get("realm"), None, "{header}");
        }
    }

    #[test]
    fn any_header_gives_no_more_than_it_holds() {
        let header =
            r#"Basic realm="a \"b\"", Bearer realm="https://h/t",service=s, scope="x:y:pull""#;
        let bytes: Vec<_> = header.bytes().map(serde_json::Value::from).collect();
        hostile::check("challenges", 3000, hostile::changed(bytes.into()), |bytes| {
            let bytes: Vec<u8> = match bytes.as_array() {
                Some(list) => list.iter().map(|byte| byte.as_u64().unwrap_or(0) as u8).collect(),
                None => bytes.to_string().into_bytes(),
            };
            let header = String::from_utf8_lossy(&bytes);
            let mut length = 0;
            for challenge in parse(&header) {
                assert!(!challenge.scheme.is_empty());
                length += challenge.scheme.len();
                length +=
                    challenge.parameters.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
            }
            assert!(length <= header.len(), "{length} of {}", header.len());
        });
    }
}
