//! `Sec-WebSocket-Extensions`: its syntax (RFC 6455 §9.1).

/// One element of the header: an extension with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extension<'v> {
    pub(super) name: &'v str,
    /// In order; values are unquoted.
    pub(super) parameters: Vec<(&'v str, Option<String>)>,
}

/// An element of the header is not what RFC 6455 §9.1 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedExtension;

/// The elements of one line of the header, empty ones left out (RFC 9110 §5.6.1).
pub(super) fn parse(line: &[u8]) -> impl Iterator<Item = Result<Extension<'_>, MalformedExtension>> {
    // What is not ASCII is one malformed element: no token and no value of a parameter has such bytes.
    let text = std::str::from_utf8(line).ok().filter(|text| text.is_ascii()).unwrap_or("?");
    split(text, ',').map(|element| element.trim_ascii()).filter(|element| !element.is_empty()).map(extension)
}

fn extension(element: &str) -> Result<Extension<'_>, MalformedExtension> {
    let mut parts = split(element, ';').map(|part| part.trim_ascii());
    let name = token(parts.next().unwrap_or_default())?;
    let parameters = parts.map(parameter).collect::<Result<_, _>>()?;
    Ok(Extension { name, parameters })
}

fn parameter(part: &str) -> Result<(&str, Option<String>), MalformedExtension> {
    let Some((name, value)) = part.split_once('=') else {
        return Ok((token(part)?, None));
    };
    let value = value.trim_ascii();
    let value = match value.strip_prefix('"') {
        None => token(value)?.to_owned(),
        Some(quoted) => unquoted(quoted)?,
    };
    Ok((token(name.trim_ascii())?, Some(value)))
}

/// Token that a quoted string stands for; `quoted` begins behind the opening quote.
fn unquoted(quoted: &str) -> Result<String, MalformedExtension> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next().ok_or(MalformedExtension)? {
            '"' => break,
            '\\' => value.push(characters.next().ok_or(MalformedExtension)?),
            character => value.push(character),
        }
    }
    if !characters.as_str().is_empty() {
        return Err(MalformedExtension);
    }
    token(&value)?;
    Ok(value)
}

/// A token (RFC 9110 §5.6.2).
fn token(text: &str) -> Result<&str, MalformedExtension> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(allowed) { Ok(text) } else { Err(MalformedExtension) }
}

/// The parts of a text between separators that stand outside quoted strings.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let outside = !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        outside && character == separator
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        let show = |element: Result<Extension<'_>, MalformedExtension>| match element {
            Ok(Extension { name, parameters }) => format!("{name} {parameters:?}"),
            Err(MalformedExtension) => "malformed".to_owned(),
        };
        parse(line.as_bytes()).map(show).collect()
    }

    #[test]
    fn elements_and_parameters_are_parted_and_trimmed() {
        assert_eq!(shown("a; b ;c = 1 ,, d"), [r#"a [("b", None), ("c", Some("1"))]"#, "d []"]);
        assert_eq!(shown(""), Vec::<String>::new());
    }

    #[test]
    fn separators_in_quoted_strings_part_nothing() {
        assert_eq!(shown(r#"a; b="x,y", c"#), ["malformed", "c []"], "a value must be a token");
        assert_eq!(shown(r#"a; b="1\0"; c="x""#), [r#"a [("b", Some("10")), ("c", Some("x"))]"#]);
        assert_eq!(shown(r#"a; b="x\",y", c"#), ["malformed", "c []"]);
    }

    #[test]
    fn what_is_no_token_makes_its_element_malformed() {
        for bad in ["a b", "a;", "a; b=", "a; =1", "a; b=\"1", "a; b=\"1\"2", "a; b=\"\"", "(a)", "a; b=ä"] {
            assert_eq!(shown(bad), ["malformed"], "{bad}");
        }
    }
}
