//! Choices that planners leave to measurement: a table by class of device beside each planner, and a profile that overrides it.
//!
//! A [`Choice`] is one number that decides speed and not results, such as the tokens of a chunk. Planners ask
//! [`Caps::choose`]; `subquad tune` tries every value, and the tests run those that any table or profile may hold.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use crate::{
    Error, Result,
    gpu::{Caps, Class},
};

/// A number that decides how quick a kernel is, and not what it computes.
#[derive(Debug)]
pub struct Choice {
    /// Its name in profiles: family, kernel and quantity.
    pub name: &'static str,
    /// Every value there is a kernel for. A planner falls back on a smaller one where a device has no room.
    pub legal: &'static [u32],
    /// What was measured to be best, or is believed to be, by class of device.
    pub table: &'static [Entry],
    /// The value for all other classes.
    pub otherwise: u32,
}

/// A row of a table.
#[derive(Debug)]
pub struct Entry {
    /// The devices it is for.
    pub class: Class,
    /// The value.
    pub value: u32,
    /// Where it was measured and what it gained; what it rests on where nothing was measured.
    pub source: &'static str,
}

/// Every choice, with the operator whose cases show it.
pub fn choices() -> &'static [(&'static str, &'static Choice)] {
    &[
        ("linear_attention", &crate::linear::tiles::CHUNK_TOKENS),
        ("linear_attention", &crate::linear::tiles::CHUNK_VALUES),
        ("linear_attention", &crate::linear::tiles::CHUNK_UNITS),
        ("linear_attention", &crate::linear::tiles::RECURRENT_TOKENS),
        ("hamming_distance", &crate::hamming::tile::STAGED),
        ("hamming_distance", &crate::hamming::tile::BY_UNITS),
        ("kron_matmul", &crate::kronecker::matmul::FUSED),
        ("kron_matmul", &crate::kronecker::matmul::SETS),
        ("kron_matmul", &crate::kronecker::matmul::UNITS),
        ("kron_matmul", &crate::kronecker::matmul::WALK_MIB),
    ]
}

/// The choices that an operator's cases show.
#[cfg(feature = "cli")]
pub(crate) fn choices_of(op: &str) -> Vec<&'static Choice> {
    let own = choices().iter().filter(|(name, _)| *name == op);
    own.map(|(_, choice)| *choice).collect()
}

/// Every combination of the values of choices.
#[cfg(feature = "cli")]
pub(crate) fn combinations(own: &[&Choice]) -> Vec<Vec<u32>> {
    own.iter().fold(vec![Vec::new()], |sets, choice| {
        let longer = |set: &Vec<u32>, value: &u32| [set.as_slice(), &[*value]].concat();
        sets.iter()
            .flat_map(|set| choice.legal.iter().map(move |value| longer(set, value)))
            .collect()
    })
}

impl Choice {
    fn entry(&self, class: Class) -> Option<&Entry> {
        self.table.iter().find(|entry| entry.class == class)
    }

    /// The value of the tables for a class of device.
    pub fn of(&self, class: Class) -> u32 {
        let entry = self.entry(class);
        entry.map_or(self.otherwise, |entry| entry.value)
    }
}

impl Caps {
    /// With values for some choices in place of the profile's.
    #[cfg(feature = "cli")]
    pub(crate) fn with_choices(&self, own: &[&Choice], values: &[u32]) -> Result<Caps> {
        let mut caps = self.clone();
        for (choice, value) in own.iter().zip(values) {
            caps.profile = caps.profile.with(choice.name, *value)?;
        }
        Ok(caps)
    }

    /// With every combination of the choices that an operator's cases show.
    #[cfg(feature = "cli")]
    pub(crate) fn each_choice(&self, op: &str) -> Result<Vec<Caps>> {
        let own = choices_of(op);
        let sets = combinations(&own).into_iter();
        sets.map(|values| self.with_choices(&own, &values))
            .collect()
    }

    /// Why a choice has the value it has.
    pub fn reason(&self, choice: &Choice) -> &'static str {
        let profiled = self.profile.0.contains_key(choice.name);
        match (profiled, choice.entry(self.class)) {
            (true, _) => "of the profile",
            (false, Some(entry)) => entry.source,
            (false, None) => "what devices get that were not measured",
        }
    }

    /// The profile's value of a choice, or that of its table for the device's class.
    pub fn choose(&self, choice: &Choice) -> u32 {
        let value = self.profile.0.get(choice.name).copied();
        value.unwrap_or_else(|| choice.of(self.class))
    }
}

/// Values of choices that take the place of the tables': what `subquad tune` found on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile(BTreeMap<&'static str, u32>);

impl Profile {
    /// With a value for a choice.
    ///
    /// # Errors
    /// `Argument` when there is no such choice or it has no such value.
    pub fn with(mut self, name: &str, value: u32) -> Result<Profile> {
        let wrong = |what: String, expected: String, got: String| Error::Argument {
            op: "profile",
            what,
            expected,
            got,
        };
        let Some((_, choice)) = choices().iter().find(|(_, choice)| choice.name == name) else {
            let names: Vec<_> = choices().iter().map(|(_, choice)| choice.name).collect();
            let expected = format!("one of {}", names.join(", "));
            return Err(wrong("the name of a choice".into(), expected, name.into()));
        };
        if !choice.legal.contains(&value) {
            let expected = format!("one of {:?}", choice.legal);
            return Err(wrong(name.into(), expected, value.to_string()));
        }
        self.0.insert(choice.name, value);
        Ok(self)
    }

    /// Reads the text that [`Profile::text`] writes: lines `name = value`; empty ones and those that start with # say nothing,
    /// but for `# adapter: NAME`, which must be the name of the device's adapter.
    ///
    /// # Errors
    /// `Argument` for a line of another form, another adapter, or a choice or value that there is not.
    pub fn parse(text: &str, adapter: &str) -> Result<Profile> {
        let mut profile = Profile::default();
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("# adapter:") {
                if name.trim() != adapter {
                    return Err(Error::Argument {
                        op: "profile",
                        what: "adapter".into(),
                        expected: format!("\"{adapter}\", the one that is opened"),
                        got: format!("\"{}\"", name.trim()),
                    });
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                let parts = line
                    .split_once('=')
                    .map(|(name, value)| (name.trim(), value));
                let pair = parts.and_then(|(name, value)| Some((name, value.trim().parse().ok()?)));
                let (name, value) = pair.ok_or_else(|| Error::Argument {
                    op: "profile",
                    what: "a line".into(),
                    expected: "of the form name = number".into(),
                    got: format!("\"{line}\""),
                })?;
                profile = profile.with(name, value)?;
            }
        }
        Ok(profile)
    }

    /// Reads a profile's file.
    ///
    /// # Errors
    /// `File` when it cannot be read; as [`Profile::parse`].
    pub fn read(path: &Path, adapter: &str) -> Result<Profile> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::File {
            path: path.display().to_string(),
            message: format!("cannot be read ({})", error.kind()),
        })?;
        Profile::parse(&text, adapter)
    }

    /// The profile as text, for the adapter of these capabilities.
    pub fn text(&self, caps: &Caps) -> String {
        let mut text = format!("# adapter: {}\n# driver: {}\n", caps.name, caps.driver);
        for (name, value) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} = {value}");
        }
        text
    }

    /// Whether it overrides nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_legal_values_and_names_are_unique() {
        let mut names: Vec<_> = choices().iter().map(|(_, choice)| choice.name).collect();
        for (_, choice) in choices() {
            let values = choice.table.iter().map(|entry| entry.value);
            for value in values.chain([choice.otherwise]) {
                assert!(choice.legal.contains(&value), "{} = {value}", choice.name);
            }
            assert!(choice.table.iter().all(|entry| !entry.source.is_empty()));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), choices().len());
    }

    #[test]
    fn a_profile_reads_what_it_writes_and_overrides_the_table() {
        let (_, choice) = choices()[0];
        let other = choice
            .legal
            .iter()
            .find(|value| **value != choice.of(Class::Cpu));
        let other = *other.unwrap();
        let mut caps = Caps::lavapipe();
        let profile = Profile::default().with(choice.name, other).unwrap();
        assert_eq!(
            Profile::parse(&profile.text(&caps), &caps.name).unwrap(),
            profile
        );
        assert_eq!(caps.choose(choice), choice.of(Class::Cpu));
        assert_eq!(
            caps.reason(choice),
            "what devices get that were not measured"
        );
        caps.profile = profile;
        assert_eq!(caps.choose(choice), other);
        assert_eq!(caps.reason(choice), "of the profile");
        let (_, measured) = choices()
            .iter()
            .find(|(_, choice)| !choice.table.is_empty())
            .unwrap();
        caps.class = measured.table[0].class;
        assert_eq!(caps.reason(measured), measured.table[0].source);
    }

    #[test]
    fn mistakes_in_a_profile_are_named() {
        let say = |text: &str| Profile::parse(text, "here").unwrap_err().to_string();
        assert_eq!(
            say("# adapter: there"),
            "profile: adapter must be \"here\", the one that is opened, got \"there\""
        );
        assert_eq!(
            say("nonsense"),
            "profile: a line must be of the form name = number, got \"nonsense\""
        );
        assert!(say("no/such = 3").starts_with("profile: the name of a choice must be one of "));
        let (_, choice) = choices()[0];
        assert_eq!(
            say(&format!("{} = 5", choice.name)),
            format!(
                "profile: {} must be one of {:?}, got 5",
                choice.name, choice.legal
            )
        );
    }
}
