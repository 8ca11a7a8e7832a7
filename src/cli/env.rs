//! The process's environment, as a value that is passed in.
//!
//! So that what depends on it can be tested without changing it, which no program with
//! threads may do. An empty variable counts as unset, since `ASOF_PASSWORD=` in a unit
//! file means that somebody left it out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::base::Kind;

/// Where variables come from.
pub struct Env(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// A variable that must be text and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} is not text in UTF-8")]
pub struct NotText {
    /// The variable.
    pub name: String,
}

impl NotText {
    /// What the failure means: a request that makes no sense as given.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Env {
    /// The environment of this process.
    #[must_use]
    pub fn process() -> Env {
        Env(Box::new(|name| std::env::var_os(name)))
    }

    /// An environment of just these variables.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Env {
        let map: BTreeMap<String, OsString> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        Env(Box::new(move |name| map.get(name).cloned()))
    }

    /// A variable's value; `None` if it is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// A variable's value as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// A variable's value as text.
    ///
    /// # Errors
    ///
    /// [`NotText`] with the variable's name, never its value.
    pub fn text(&self, name: &str) -> Result<Option<String>, NotText> {
        let text = self.get(name).map(OsString::into_string).transpose();
        text.map_err(|_| NotText {
            name: name.to_owned(),
        })
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_unset() {
        let env = Env::of(&[("A", "1"), ("B", "")]);
        assert_eq!(env.text("A"), Ok(Some("1".to_owned())));
        assert_eq!(env.text("B"), Ok(None));
        assert_eq!(env.get("C"), None);
    }
}
