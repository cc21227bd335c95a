//! Collections, as the service asks for them.

use crate::call::Call;
use crate::engine::{CollectionChange, CollectionRef, Engine, NewCollection, PAGE_ITEMS_MAX};
use crate::gallery::collection::{CollectionInfo, CollectionSettings};
use crate::gallery::measure::{MeasuredSlice, Measurement, Measuring};
use crate::gallery::{CollectionErasure, Page};
use likeness_types::error::{OperatorError, Result};
use likeness_types::names::{Account, CollectionName};
use likeness_types::scheme::Scheme;
use likeness_types::span::Step;

impl Engine {
    /// Makes an empty collection.
    ///
    /// # Errors
    /// The name is taken, or a setting is out of its range.
    pub fn create_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        new: &NewCollection,
        call: &mut Call,
    ) -> Result<CollectionRef> {
        let settings = CollectionSettings {
            bits: new.bits.unwrap_or_default(),
            threshold: new.threshold.unwrap_or(self.default_threshold()),
            faces_per_person_max: new
                .faces_per_person_max
                .unwrap_or(crate::gallery::collection::FACES_PER_PERSON_MAX),
            quality_level: new.quality_level,
            index: new.index,
            ef: new.ef.unwrap_or(crate::gallery::collection::EF_DEFAULT),
            consent_required: new.consent_required,
        }
        .checked()?;
        let group = account.as_str();
        let projection = self.ring.projection(group).ok_or_else(|| OperatorError::Keys {
            what: "projection key",
            expected: "a key group for the account".to_owned(),
            found: "none in the keyring".to_owned(),
        })?;
        let models = self.pipeline.scheme_parts();
        let scheme = Scheme {
            models: models.digest,
            models_name: models.name.clone(),
            bits: settings.bits,
            projection: projection.id,
        };
        let caller = call.caller();
        call.step(Step::Store, || {
            self.gallery
                .create_collection(account, name, scheme, settings, caller)
                .map(CollectionRef)
        })
    }

    /// Begins to measure how good a graph would be for a collection, or is; [`Engine::measure`] goes on.
    ///
    /// # Errors
    /// It is being measured already.
    pub fn begin_measuring(&self, collection: &CollectionRef, plan: Measurement) -> Result<Measuring> {
        Measuring::begin(&collection.0, plan)
    }

    /// Goes on for some 50 milliseconds.
    ///
    /// # Errors
    /// The collection went, or is searched in another way since it was begun.
    pub fn measure(&self, measuring: &mut Measuring, call: &mut Call) -> Result<MeasuredSlice> {
        call.step(Step::Match, || measuring.go_on())
    }

    /// The collection of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn collection(&self, account: &Account, name: &CollectionName) -> Result<CollectionRef> {
        self.gallery.collection(account, name).map(CollectionRef)
    }

    /// The collections of an account that are seen, by name, beginning after `after`.
    pub fn list_collections(
        &self,
        account: &Account,
        after: Option<&CollectionName>,
        items_max: usize,
        seen: &dyn Fn(&CollectionName) -> bool,
    ) -> Page<CollectionInfo> {
        self.gallery
            .list_collections(account, after, items_max.clamp(1, PAGE_ITEMS_MAX), seen)
    }

    /// Changes settings. People who are enrolled stay as they are.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn update_collection(
        &self,
        collection: &CollectionRef,
        change: CollectionChange,
        call: &mut Call,
    ) -> Result<()> {
        let caller = call.caller();
        let change = move |settings: CollectionSettings| {
            CollectionSettings {
                threshold: change.threshold.unwrap_or(settings.threshold),
                faces_per_person_max: change
                    .faces_per_person_max
                    .unwrap_or(settings.faces_per_person_max),
                quality_level: change.quality_level.unwrap_or(settings.quality_level),
                index: change.index.unwrap_or(settings.index),
                ef: change.ef.unwrap_or(settings.ef),
                consent_required: change.consent_required.unwrap_or(settings.consent_required),
                ..settings
            }
            .checked()
        };
        call.step(Step::Store, || {
            self.gallery.update_collection(&collection.0, change, caller)
        })
    }

    /// Erases a collection and everyone in it; answers how many people were.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn delete_collection(
        &self,
        account: &Account,
        name: &CollectionName,
        call: &mut Call,
    ) -> Result<CollectionErasure> {
        let caller = call.caller();
        call.read();
        call.step(Step::Store, || {
            self.gallery.delete_collection(account, name, caller)
        })
    }
}
