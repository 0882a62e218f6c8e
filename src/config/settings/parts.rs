//! serde's access to lists, mappings and enumerations, part by part.

use std::vec;

use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::error::SettingsError;
use super::read::{Pass, ValueReader};
use crate::config::yaml::problem::quoted;
use crate::config::yaml::value::Value;

/// The items of a list.
pub(super) struct Items<'v, 'p> {
    pub(super) left: vec::IntoIter<Value<'v>>,
    pub(super) pass: &'p mut Pass,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = SettingsError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SettingsError> {
        let pass = &*self.pass;
        let Some(value) = self.left.find(|value| !pass.hides(value)) else { return Ok(None) };
        let read = seed.deserialize(ValueReader { value, pass: self.pass });
        read.map(Some).map_err(|error| self.pass.settle_part(error, &value, &value))
    }
}

/// The entries of a mapping.
pub(super) struct Entries<'v, 'p> {
    pub(super) left: vec::IntoIter<(&'v str, Value<'v>, Value<'v>)>,
    /// Value of the key that was read last.
    pub(super) value: Option<Value<'v>>,
    pub(super) pass: &'p mut Pass,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = SettingsError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, SettingsError> {
        let pass = &*self.pass;
        let Some((_, key, value)) = self.left.by_ref().find(|(_, _, value)| !pass.hides(value)) else {
            return Ok(None);
        };
        self.value = Some(value);
        let read = seed.deserialize(ValueReader { value: key, pass: self.pass });
        read.map(Some).map_err(|error| self.pass.settle_part(error, &key, &value))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, SettingsError> {
        let value = self.value.take().expect("serde asks for a key before its value");
        let read = seed.deserialize(ValueReader { value, pass: self.pass });
        read.map_err(|error| self.pass.settle_part(error, &value, &value))
    }
}

/// The variant of an enumeration: a word, or a mapping with one key.
pub(super) struct Variant<'v, 'p> {
    pub(super) name: Value<'v>,
    pub(super) content: Option<Value<'v>>,
    pub(super) pass: &'p mut Pass,
}

impl<'v> Variant<'v, '_> {
    fn read<T>(self, read: impl FnOnce(ValueReader<'v, '_>) -> Result<T, SettingsError>) -> Result<T, SettingsError> {
        let Self { name, content, pass } = self;
        let Some(value) = content else {
            let word = name.text().unwrap_or_default();
            let problem = name.error(format!("{} needs a value here", quoted(word)));
            return Err(pass.refuse(problem.expected(format!("{} and its value", quoted(&format!("{word}:"))))));
        };
        read(ValueReader { value, pass }).map_err(|error| pass.settle(error, &value))
    }
}

impl<'de, 'v, 'p> EnumAccess<'de> for Variant<'v, 'p> {
    type Error = SettingsError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), SettingsError> {
        match seed.deserialize(ValueReader { value: self.name, pass: self.pass }) {
            Ok(variant) => Ok((variant, self)),
            Err(error) => Err(self.pass.settle(error, &self.name)),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = SettingsError;

    fn unit_variant(self) -> Result<(), SettingsError> {
        match self.content {
            None => Ok(()),
            Some(_) => self.read(|mut reader| reader.nothing()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, SettingsError> {
        self.read(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, SettingsError> {
        self.read(|reader| reader.list(Some(length), visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        self.read(|reader| reader.mapping(Some(fields), visitor))
    }
}
