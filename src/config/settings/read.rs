//! The deserializer over values of the file, which reads settings as a type of serde's.

use std::fmt::Display;
use std::num::ParseIntError;

use serde::de::{DeserializeOwned, Deserializer, Expected, Visitor};

use super::error::{Part, SettingsError, Trouble, unknown_key};
use super::parts::{Entries, Items, Variant};
use crate::config::yaml::core_schema::{self, Whole};
use crate::config::yaml::node::Content;
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{self, one_of, wrong_with_whole};
use crate::config::yaml::value::{MERGE, NO_MERGE, Value};
use crate::counted::counted;

/// Most passes over wrong settings in search of further problems, and most values read for that. They keep the report
/// of wrong settings of any size within a second.
const MAX_PASSES: usize = 32;
const MAX_READ_AGAIN: usize = 500_000;

/// Reads `root` as a `T`, or finds all its problems.
///
/// A type gives up at the first value that does not fit. It is then read again without that entry or item, until no new
/// problem is found.
pub(super) fn all<T: DeserializeOwned>(root: &Value<'_>) -> Result<T, Vec<Problem>> {
    let mut found: Vec<Problem> = Vec::new();
    let mut pass = Pass::default();
    for _ in 0..MAX_PASSES.min(1 + MAX_READ_AGAIN / root.node().size) {
        let outcome =
            T::deserialize(ValueReader { value: *root, pass: &mut pass }).map_err(|error| pass.settle(error, root));
        for problem in std::mem::take(&mut pass.report).close().into_list() {
            if !found.contains(&problem) {
                found.push(problem);
            }
        }
        match outcome {
            Ok(read) if found.is_empty() => return Ok(read),
            Err(SettingsError { part: Some(part), .. }) => pass.hidden.push(part),
            _ => break,
        }
    }
    found.sort_by_key(|problem| (problem.line, problem.column));
    Err(found)
}

/// One pass over the settings.
#[derive(Default)]
pub(super) struct Pass {
    report: Report,
    /// Entries and items that are skipped, because their problems have been reported.
    hidden: Vec<Part>,
}

impl Pass {
    pub(super) fn hides(&self, value: &Value<'_>) -> bool {
        // The position alone is not enough: a value repeated by aliases has one position and several paths.
        self.hidden.iter().any(|part| part.mark == value.mark() && part.path == value.path())
    }

    /// Reports the fault of `value`, unless it comes from a part of `value` that is hidden.
    pub(super) fn settle(&mut self, mut error: SettingsError, value: &Value<'_>) -> SettingsError {
        let Some(trouble) = error.trouble.take() else { return error };
        let problem = trouble.with(value);
        let is_below = |part: &Part| {
            let rest = part.path.strip_prefix(&value.path());
            rest.is_some_and(|rest| value.path().is_empty() || rest.starts_with(['.', '[']))
        };
        let for_what_is_hidden = match *trouble {
            Trouble::Missing(_) => self.hidden.iter().any(|part| part.path == problem.path),
            _ => self.hidden.iter().any(is_below),
        };
        if !for_what_is_hidden {
            self.report.push(problem);
        }
        error
    }

    /// [`Pass::settle`] for a `value` in `part`, which the next pass can skip.
    pub(super) fn settle_part(&mut self, error: SettingsError, value: &Value<'_>, part: &Value<'_>) -> SettingsError {
        let error = self.settle(error, value);
        SettingsError { part: error.part.or_else(|| Some(Part { mark: part.mark(), path: part.path() })), ..error }
    }

    /// Reports `problem` and returns the error for serde.
    pub(super) fn refuse(&mut self, problem: Problem) -> SettingsError {
        self.report.push(problem);
        SettingsError::told()
    }
}

/// The deserializer of one value.
pub(super) struct ValueReader<'v, 'p> {
    pub(super) value: Value<'v>,
    pub(super) pass: &'p mut Pass,
}

impl<'v> ValueReader<'v, '_> {
    fn whole<N: Display>(&mut self, [least, most]: [N; 2], read: Radix<N>) -> Result<N, SettingsError> {
        let expected = format!("a whole number from {least} to {most}");
        let value = self.value;
        let Some(text) = value.text() else { return Err(self.pass.refuse(value.wrong(expected))) };
        let problem = match value.plain_text().and_then(core_schema::whole) {
            Some(Whole { negative, radix, digits }) => {
                let sign = if negative && digits != "0" { "-" } else { "" };
                match read(&format!("{sign}{digits}"), radix) {
                    Ok(number) => return Ok(number),
                    Err(_) => value.error(format!("{} is out of bounds", quoted(text))),
                }
            }
            None => wrong_with_whole(&value, text).unwrap_or_else(|| value.wrong("")),
        };
        Err(self.pass.refuse(problem.expected(expected)))
    }

    fn fraction(&mut self) -> Result<f64, SettingsError> {
        const EXPECTED: &str = "a number such as `1.5`";
        let value = self.value;
        let number = value.plain_text().and_then(core_schema::fraction);
        let problem = match (number, value.text()) {
            (Some(number), Some(text)) if number.is_finite() || text.contains('.') && !text.contains(['e', 'E']) => {
                return Ok(number);
            }
            (Some(_), Some(text)) => value.error(format!("{} is out of bounds", quoted(text))),
            (_, Some(text)) if core_schema::fraction(text).is_some() => {
                value.error("a number in quotes is text").remedy("remove the quotes")
            }
            (_, Some(text)) => value.error(format!("{} is not a number", quoted(text))),
            (_, None) => value.wrong(EXPECTED),
        };
        Err(self.pass.refuse(problem.expected(EXPECTED)))
    }

    fn text(&mut self, expected: &dyn Expected) -> Result<&'v str, SettingsError> {
        self.value.text().ok_or_else(|| self.pass.refuse(self.value.wrong(expected.to_string())))
    }

    pub(super) fn list<'de, V: Visitor<'de>>(
        self,
        length: Option<usize>,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        let Self { value, pass } = self;
        let expected = length.map_or_else(|| "a list".to_owned(), |length| format!("a list of {length}"));
        let Some(items) = value.items(&expected, &mut pass.report) else { return Err(SettingsError::told()) };
        if length.is_some_and(|length| length != items.len()) {
            return Err(
                pass.refuse(value.error(format!("a list of {} does not fit here", items.len())).expected(expected))
            );
        }
        visitor.visit_seq(Items { left: items.into_iter(), pass })
    }

    /// Reads a mapping with the keys `known`, or with any keys where that is `None`.
    pub(super) fn mapping<'de, V: Visitor<'de>>(
        self,
        known: Option<&[&str]>,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        let Self { value, pass } = self;
        let expected = match known {
            Some(known @ [_, ..]) => format!("a mapping with the keys {}", known.join(", ")),
            Some([]) => "a mapping without keys".to_owned(),
            None => "a mapping".to_owned(),
        };
        let Some(mut pairs) = value.pairs(&expected, &mut pass.report) else { return Err(SettingsError::told()) };
        pairs.retain(|(text, key, _)| match known {
            Some(known) if known.contains(text) => true,
            Some(_) if pass.report.is_full() => pass.report.refuse::<()>(key.error("unknown key")).is_some(),
            Some(known) => pass.report.refuse::<()>(unknown_key(key.path(), text, key.mark(), known)).is_some(),
            None if *text == MERGE => pass.report.refuse::<()>(key.error("unknown key").remedy(NO_MERGE)).is_some(),
            None => true,
        });
        visitor.visit_map(Entries { left: pairs.into_iter(), value: None, pass })
    }

    pub(super) fn nothing(&mut self) -> Result<(), SettingsError> {
        let is_empty = matches!(&self.value.node().content, Content::Mapping(entries) if entries.is_empty());
        if self.value.is_null() || is_empty {
            return Ok(());
        }
        Err(self.pass.refuse(self.value.wrong("nothing")))
    }
}

type Radix<N> = fn(&str, u32) -> Result<N, ParseIntError>;

macro_rules! whole_numbers {
    ($($method:ident, $visit:ident, $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SettingsError> {
            let number = self.whole([<$type>::MIN, <$type>::MAX], <$type>::from_str_radix)?;
            visitor.$visit(number)
        }
    )*};
}

impl<'de> Deserializer<'de> for ValueReader<'_, '_> {
    type Error = SettingsError;

    /// Reads types that accept any value, such as those of JSON values.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SettingsError> {
        let value = self.value;
        let text = match &value.node().content {
            Content::Sequence(_) => return self.list(None, visitor),
            Content::Mapping(_) => return self.mapping(None, visitor),
            Content::Scalar { .. } if value.is_null() => return visitor.visit_unit(),
            Content::Scalar { text, plain: false } => return visitor.visit_str(text),
            Content::Scalar { text, plain: true } => text,
        };
        if let Some(boolean) = core_schema::boolean(text) {
            return visitor.visit_bool(boolean);
        }
        match core_schema::whole(text) {
            Some(Whole { negative: true, .. }) => {
                let number = self.whole([i128::MIN, i128::MAX], i128::from_str_radix)?;
                match i64::try_from(number) {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_) => visitor.visit_i128(number),
                }
            }
            Some(_) => {
                let number = self.whole([u128::MIN, u128::MAX], u128::from_str_radix)?;
                match u64::try_from(number) {
                    Ok(number) => visitor.visit_u64(number),
                    Err(_) => visitor.visit_u128(number),
                }
            }
            None if core_schema::fraction(text).is_some() => visitor.visit_f64(self.fraction()?),
            None => visitor.visit_str(text),
        }
    }

    whole_numbers! {
        deserialize_i8, visit_i8, i8;
        deserialize_i16, visit_i16, i16;
        deserialize_i32, visit_i32, i32;
        deserialize_i64, visit_i64, i64;
        deserialize_i128, visit_i128, i128;
        deserialize_u8, visit_u8, u8;
        deserialize_u16, visit_u16, u16;
        deserialize_u32, visit_u32, u32;
        deserialize_u64, visit_u64, u64;
        deserialize_u128, visit_u128, u128;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match scalar::boolean(&self.value, &mut self.pass.report) {
            Some(boolean) => visitor.visit_bool(boolean),
            None => Err(SettingsError::told()),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SettingsError> {
        visitor.visit_f64(self.fraction()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SettingsError> {
        let text = self.text(&visitor)?;
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SettingsError> {
        if self.value.is_sequence() {
            return self.list(None, visitor);
        }
        let text = self.text(&visitor)?;
        visitor.visit_bytes(text.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, SettingsError> {
        self.nothing()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, SettingsError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.list(None, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, SettingsError> {
        self.list(Some(length), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        self.list(Some(length), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.mapping(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        self.mapping(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        let Self { value, pass } = self;
        if value.text().is_some() {
            return visitor.visit_enum(Variant { name: value, content: None, pass });
        }
        let expected = one_of(variants);
        if !value.is_mapping() {
            return Err(pass.refuse(value.wrong(expected)));
        }
        let Some(pairs) = value.pairs(&expected, &mut pass.report) else { return Err(SettingsError::told()) };
        match pairs.as_slice() {
            [(_, name, content)] => visitor.visit_enum(Variant { name: *name, content: Some(*content), pass }),
            _ => {
                let problem = value.error(format!("a mapping with {} does not fit here", counted(pairs.len(), "key")));
                Err(pass.refuse(problem.expected(format!("{expected}, and no other key"))))
            }
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match &self.value.node().content {
            Content::Scalar { text, .. } => visitor.visit_str(text),
            _ => self.deserialize_str(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        visitor.visit_unit()
    }
}
