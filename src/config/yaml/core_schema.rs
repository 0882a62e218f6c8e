//! The core schema of YAML (YAML 1.2.2 §10.3): the values that scalars without quotes stand for.

/// A whole number as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole<'t> {
    pub(crate) negative: bool,
    pub(crate) radix: u32,
    /// One or more digits of the radix.
    pub(crate) digits: &'t str,
}

/// Tells whether `text` stands for null.
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The truth value that `text` stands for; `None` for other texts.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The whole number that `text` stands for; `None` for other texts.
///
/// Other than in the core schema, digits that begin with a zero are a text: some programs read them as octal, and more
/// often they are a code than a number.
pub(crate) fn whole(text: &str) -> Option<Whole<'_>> {
    let (negative, radix, digits) = if let Some(digits) = text.strip_prefix("0o") {
        (false, 8, digits)
    } else if let Some(digits) = text.strip_prefix("0x") {
        (false, 16, digits)
    } else {
        (text.starts_with('-'), 10, text.strip_prefix(['-', '+']).unwrap_or(text))
    };
    let is_number = !digits.is_empty() && digits.chars().all(|character| character.is_digit(radix));
    let is_code = radix == 10 && digits.len() > 1 && digits.starts_with('0');
    (is_number && !is_code).then_some(Whole { negative, radix, digits })
}

/// The number with a fraction that `text` stands for, infinite where it is too large; `None` for other texts.
pub(crate) fn fraction(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    // Rust's own parser accepts `inf` and `nan` without a dot, which are texts in YAML.
    let in_digits = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let is_code = unsigned.len() > 1 && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if in_digits && !is_code { text.parse().ok() } else { None }
}

/// Tells whether `text` stands for a text, and not for null, a truth value or a number.
pub(crate) fn is_text(text: &str) -> bool {
    !is_null(text) && boolean(text).is_none() && whole(text).is_none() && fraction(text).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_core_schema() {
        let read = |text| whole(text).map(|Whole { negative, radix, digits }| (negative, radix, digits));
        assert_eq!(read("-12"), Some((true, 10, "12")));
        assert_eq!(read("+0"), Some((false, 10, "0")));
        assert_eq!(read("0o17"), Some((false, 8, "17")));
        assert_eq!(read("0xFf"), Some((false, 16, "Ff")));
        for text in ["", "-", "0o8", "0x", "-0x1", "1_000", "007", "1.0", "٣"] {
            assert_eq!(read(text), None, "{text}");
        }
        for (text, number) in [("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), ("+1.", 1.0), ("-.Inf", f64::NEG_INFINITY)]
        {
            assert_eq!(fraction(text), Some(number), "{text}");
        }
        assert!(fraction(".nan").is_some_and(f64::is_nan));
        for text in ["inf", "nan", "infinity", ".", "1.2.3", "1e", "-.nan", "e5", "007", "-", "12:30"] {
            assert_eq!(fraction(text), None, "{text}");
        }
    }

    #[test]
    fn whatever_stands_for_nothing_else_stands_for_itself() {
        for text in ["yes", "no", "on", "off", "y", "007", "12:30:45", "1_000", "true story", "0b1"] {
            assert!(is_text(text), "{text}");
        }
        for text in ["", "~", "null", "True", "1", "0x1", "1e3", ".inf"] {
            assert!(!is_text(text), "{text}");
        }
    }
}
