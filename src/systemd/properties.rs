//! The properties of an object, taken one by one by name and type.

use std::collections::HashMap;
use std::path::PathBuf;

use zbus::{OwnedVariant, Variant};

use super::Error;

/// What `GetAll` answers.
pub(super) struct Properties {
    doing: String,
    values: HashMap<String, OwnedVariant>,
}

impl Properties {
    pub fn new(doing: String, values: HashMap<String, OwnedVariant>) -> Properties {
        Properties { doing, values }
    }

    /// A property that every version has.
    pub fn take<T>(&mut self, name: &str) -> Result<T, Error>
    where
        T: TryFrom<Variant<'static>>,
    {
        match self.take_if_any(name)? {
            Some(value) => Ok(value),
            None => Err(self.unexpected(format!("no property {name}"))),
        }
    }

    /// A property that some versions do not have.
    pub fn take_if_any<T>(&mut self, name: &str) -> Result<Option<T>, Error>
    where
        T: TryFrom<Variant<'static>>,
    {
        let Some(value) = self.values.remove(name) else {
            return Ok(None);
        };
        match T::try_from(Variant::from(value)) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.unexpected(format!("a property {name} of another type"))),
        }
    }

    /// A text; systemd writes an empty one for none.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        let text: String = self.take(name)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// A path; systemd writes an empty one for none.
    pub fn path(&mut self, name: &str) -> Result<Option<PathBuf>, Error> {
        Ok(self.text(name)?.map(PathBuf::from))
    }

    /// A word that systemd chooses from a list.
    pub fn word<T>(&mut self, name: &str, of: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
        let text: String = self.take(name)?;
        of(&text).ok_or_else(|| self.unexpected(format!("the unknown value `{text}` for {name}")))
    }

    fn unexpected(&self, what: String) -> Error {
        Error::Unexpected {
            doing: self.doing.clone(),
            what,
        }
    }
}
