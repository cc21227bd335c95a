//! Which people a search looks at.

use crate::gallery::collection::People;
use likeness_search::rows::Rows;
use likeness_store::codec::Digest;
use likeness_types::error::{RequestError, Result};
use likeness_types::names::PersonId;
use likeness_types::person::{Person, TAG_BYTES_MAX, TAGS_MAX};

/// Most PersonIDs of a filter.
pub const FILTER_IDS_MAX: usize = 1000;

/// Which people count. What is not empty must all hold; an empty filter lets everybody pass.
#[derive(Clone, Default)]
pub struct Filter {
    /// The person has at least one of these.
    pub any_tag: Vec<String>,
    /// The person has all of these.
    pub all_tags: Vec<String>,
    /// The person is one of these.
    pub person_ids: Vec<PersonId>,
}

impl Filter {
    /// Checks every limit.
    ///
    /// # Errors
    /// More than 32 tags in a list or [`FILTER_IDS_MAX`] PersonIDs, or what can be nobody's tag.
    pub fn checked(self) -> Result<Self> {
        for (field, tags) in [
            ("filter.any_tag", &self.any_tag),
            ("filter.all_tags", &self.all_tags),
        ] {
            if tags.len() > TAGS_MAX {
                let received = format!("{} tags", tags.len());
                return Err(
                    RequestError::invalid(field, format!("at most {TAGS_MAX} tags"), received).into(),
                );
            }
            if let Some(tag) = tags.iter().find(|tag| !(1..=TAG_BYTES_MAX).contains(&tag.len())) {
                let expected = format!("tags of 1 to {TAG_BYTES_MAX} bytes");
                return Err(RequestError::invalid(field, expected, format!("{} bytes", tag.len())).into());
            }
        }
        if self.person_ids.len() > FILTER_IDS_MAX {
            let expected = format!("at most {FILTER_IDS_MAX}");
            let received = self.person_ids.len().to_string();
            return Err(RequestError::invalid("filter.person_ids", expected, received).into());
        }
        Ok(self)
    }

    /// Whether everybody passes.
    pub fn is_empty(&self) -> bool {
        let Self {
            any_tag,
            all_tags,
            person_ids,
        } = self;
        any_tag.is_empty() && all_tags.is_empty() && person_ids.is_empty()
    }

    /// Whether a person passes, by what the record says.
    pub(crate) fn passes(&self, person: &Person) -> bool {
        let has = |tag: &String| person.profile.tags.contains(tag);
        (self.any_tag.is_empty() || self.any_tag.iter().any(has))
            && self.all_tags.iter().all(has)
            && (self.person_ids.is_empty() || self.person_ids.contains(&person.id))
    }
}

impl People {
    /// The rows of those who pass, `digests` being those of the filter's PersonIDs here; none when
    /// everybody does.
    pub fn rows_of(&self, filter: &Filter, digests: &[Digest]) -> Option<Rows> {
        if filter.is_empty() {
            return None;
        }
        let mut passing = None;
        if !filter.person_ids.is_empty() {
            passing = Some(digests.iter().filter_map(|digest| self.number(*digest)).collect());
        }
        if !filter.any_tag.is_empty() {
            let tagged = self.tags.any(&filter.any_tag);
            passing = Some(passing.map_or_else(|| tagged.clone(), |passing| passing & &tagged));
        }
        if !filter.all_tags.is_empty() {
            passing = Some(self.tags.all(&filter.all_tags, passing));
        }
        let mut rows = Rows::default();
        for number in passing.unwrap_or_default() {
            self.rows(number).iter().for_each(|row| rows.insert(*row));
        }
        Some(rows)
    }
}
