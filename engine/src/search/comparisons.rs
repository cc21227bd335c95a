//! Comparisons with stored templates: each is counted by the comparison limiter before it is answered.

use std::sync::Arc;
use std::time::Instant;

use crate::gallery::Gallery;
use crate::gallery::collection::{Collection, People, exists};
use crate::gallery::readers::LOOK_AGAIN;
use crate::guard::comparison_limiter;
use crate::guard::comparison_limiter::{Asker, Comparing, Evaluation, Likeness, Turn, Withheld};
use crate::search::{Asking, Comparison, Match, Matches, Query, Search};
use likeness_search::batcher::{BatchReply, BatchRequest};
use likeness_search::index::{Ask, ComparedFaces, Found};
use likeness_store::codec::Digest;
use likeness_types::doors;
use likeness_types::error::{RequestError, Result};
use likeness_types::fused::Agreement;
use likeness_types::names::{PersonId, RandomId};
use likeness_types::person::{NewFace, Person};
use likeness_types::scheme::SchemeId;
use likeness_types::template::Probe;

/// A person whom a search asks for by PersonID.
pub(crate) struct Asked<'a> {
    collection: &'a Arc<Collection>,
    id: &'a PersonId,
    threshold: f32,
    turn: Turn<'a>,
}

/// How similar a new face is to the person's own.
pub(crate) struct Own {
    pub similarity: f32,
    pub threshold: f32,
    pub is_told: bool,
}

/// Somebody seen in an index, before the record has had its word.
pub(crate) struct Sighting {
    place: usize,
    digest: Digest,
    similarity: f32,
}

/// One pass over the index for the searches of several callers.
pub(crate) fn scan_batch(collection: &Collection, batch: &[BatchRequest]) -> Vec<BatchReply> {
    let probes = batch.iter().map(|one| one.probes.iter().map(|probe| &**probe));
    let probes: Vec<Vec<_>> = probes.map(Iterator::collect).collect();
    let asks = batch.iter().zip(&probes).map(|(one, probes)| Ask {
        probes,
        k: one.k,
        similarity_min: one.similarity_min,
        among: None,
        by: ComparedFaces::BestFace,
        exact: one.exact,
    });
    let asks: Vec<_> = asks.collect();
    let people = collection.people.read();
    let comparing = Comparing::at(&doors::SEARCH);
    let found = people.index.compare(&comparing).top_together(&asks).into_iter();
    found.map(|found| named(&people, found)).collect()
}

/// Replaces the numbers of people by their digests. Takes `people` under the same lock as the scan: numbers are reused.
pub(crate) fn named(people: &People, found: Found) -> BatchReply {
    let hits = found.hits.into_iter().map(|hits| {
        let hits = hits.into_iter();
        hits.map(|hit| (people.digest(hit.person), hit.similarity))
            .collect()
    });
    BatchReply {
        hits: hits.collect(),
        compared: found.compared,
    }
}

/// The person with the similarity of the faces that can be compared, if there are any.
pub(crate) fn compare(
    person: Person,
    query: &Query,
    collection: &Collection,
    (comparison, threshold): (Comparison, f32),
    comparing: &Comparing,
) -> Result<Option<Match>> {
    let probe = query.probe(collection)?;
    let comparable = person.comparable(collection.scheme.id(), comparing);
    let scores = comparable.iter().map(|template| probe.score(template));
    let similarity = match comparison {
        Comparison::BestFace => scores.max().map(|score| probe.similarity(score)),
        Comparison::Fused => {
            (!comparable.is_empty()).then(|| Agreement::of(&comparable).similarity(probe, scores.sum()))
        }
    };
    Ok(similarity.map(|similarity| Match {
        similarity,
        threshold,
        is_told: false,
        by_features: false,
        collection: collection.name.clone(),
        person,
    }))
}

pub(crate) fn same_scheme(scheme: SchemeId, collection: &Collection) -> Result<()> {
    if scheme == collection.scheme.id() {
        return Ok(());
    }
    Err(RequestError::SchemeMismatch {
        stored: collection.scheme.to_string(),
        current: scheme.to_string(),
    }
    .into())
}

impl Gallery {
    /// The nearest people of all places together. In each place the search may share a pass over the index with
    /// others.
    pub fn search_batched(&self, search: &Search<'_>) -> Result<Matches> {
        let began = Instant::now();
        // ORDER: before the first look: nothing is compared for a call that is refused.
        let turns = self.begin_turns(search)?;
        let mut sightings: Vec<Vec<Sighting>> = search.queries.iter().map(|_| Vec::new()).collect();
        let (mut generations, mut compared) = (Vec::with_capacity(search.places.len()), 0);
        for (place, (collection, _)) in search.places.iter().enumerate() {
            exists(collection)?;
            generations.push(collection.generation());
            compared += self.search_index(search, place, &mut sightings)?;
        }
        let mut matches = Vec::with_capacity(sightings.len());
        for (mut seen, query) in sightings.into_iter().zip(search.queries) {
            // Stable: at equal similarities in the order of the places, and of a place's people.
            seen.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            seen.truncate(search.k);
            matches.push(self.read(search, query, seen)?);
        }
        let named = |mut found: Vec<(usize, Match)>| {
            found.sort_by(|(_, a), (_, b)| b.similarity.total_cmp(&a.similarity));
            found.into_iter().map(|(_, found)| found).collect()
        };
        let mut matches: Vec<Vec<Match>> = matches.into_iter().map(named).collect();
        self.meter(search, turns, &mut matches)?;
        // Erasers wait for who reads; who took too long to be waited for looks once more, last of all.
        for ((collection, _), generation) in search.places.iter().zip(generations) {
            if collection.generation() == generation && began.elapsed() < LOOK_AGAIN {
                continue;
            }
            exists(collection)?;
            for found in &mut matches {
                found.retain_mut(|found| {
                    found.collection != collection.name || self.still_named(collection, &mut found.person)
                });
            }
        }
        Ok(Matches { matches, compared })
    }

    /// Whoever is asked for by PersonID is compared as by [`Self::verify`]: begins that, before anybody is looked at.
    fn begin_turns<'a>(&'a self, search: &Search<'a>) -> Result<Vec<Asked<'a>>> {
        let mut asked = Vec::new();
        for (collection, threshold) in search.places {
            for id in &search.filter.person_ids {
                let digest = self.digest(collection, id);
                if collection.people.read().number(digest).is_some() {
                    asked.push((
                        collection,
                        id,
                        *threshold,
                        comparison_limiter::key(collection.id, digest),
                    ));
                }
            }
        }
        // First all are asked: of a call that is refused nobody is counted.
        asked
            .iter()
            .try_for_each(|(.., key)| self.vault.limiter.may_compare(key, search.asker))?;
        let faces = search.queries.len();
        asked
            .into_iter()
            .map(|(collection, id, threshold, key)| {
                Ok(Asked {
                    collection,
                    id,
                    threshold,
                    turn: self
                        .vault
                        .limiter
                        .begin_turn(&doors::SEARCH, &key, search.asker, faces)?,
                })
            })
            .collect()
    }

    /// Everybody who is not asked for by PersonID counts only when named: of a million people nobody was refused because
    /// a stranger was looked for.
    fn meter(&self, search: &Search<'_>, turns: Vec<Asked<'_>>, matches: &mut [Vec<Match>]) -> Result<()> {
        let by_id = !search.filter.person_ids.is_empty();
        for asked in turns {
            let found = matches.iter_mut().flatten();
            let mut found: Vec<_> = found
                .filter(|found| found.person.id == *asked.id && found.collection == asked.collection.name)
                .collect();
            let similarities: Vec<_> = found.iter().map(|found| found.similarity).collect();
            let threshold = asked.turn.settle(&Likeness {
                faces: search.queries.len(),
                similarities: &similarities,
                threshold: asked.threshold,
                may_regain: true,
            })?;
            found.iter_mut().for_each(|found| found.threshold = threshold);
        }
        for found in matches.iter_mut().flatten() {
            let mut places = search.places.iter().map(|(collection, _)| collection);
            if let Some(collection) = places.find(|place| place.name == found.collection) {
                if !by_id {
                    self.count_named(collection, found, search.asker)?;
                }
                self.may_be_told(collection, found)?;
            }
        }
        for found in matches {
            let all = found.len();
            found.retain(|found| found.similarity >= found.threshold);
            self.vault.limiter.withhold(all - found.len());
        }
        Ok(())
    }

    /// Counts that somebody is about to be named.
    pub(crate) fn count_named(&self, collection: &Collection, found: &mut Match, asker: Asker) -> Result<()> {
        let seen = Likeness::of_one(&found.similarity, found.threshold);
        let key = self.meter_key(collection, &found.person.id);
        found.threshold = self.vault.limiter.named(&key, asker, &seen)?;
        Ok(())
    }

    /// Whether the caller may be told how similar somebody is who is about to be named.
    pub(crate) fn may_be_told(&self, collection: &Collection, found: &mut Match) -> Result<()> {
        let key = self.meter_key(collection, &found.person.id);
        found.is_told = found.similarity >= found.threshold && self.vault.limiter.may_tell(&key)?;
        Ok(())
    }

    pub(crate) fn meter_key(&self, collection: &Collection, id: &PersonId) -> comparison_limiter::Key {
        comparison_limiter::key(collection.id, self.digest(collection, id))
    }

    /// Who asks, as the meter counts.
    pub fn asker(&self, asker: RandomId) -> Asker {
        Asker::new(&self.vault.ring.digest().secret, asker)
    }

    /// Whether this person may be compared with now.
    pub fn may_compare(&self, collection: &Collection, id: &PersonId, asker: RandomId) -> Result<()> {
        let key = self.meter_key(collection, id);
        self.vault.limiter.may_compare(&key, self.asker(asker))
    }

    /// What the meter kept from callers since the start.
    pub fn withheld(&self) -> Withheld {
        self.vault.limiter.withheld()
    }

    /// Compares a new face with the person's own that can be compared, if there are any.
    pub fn compare_own(
        &self,
        collection: &Collection,
        person: &Person,
        new: &NewFace,
        evaluation: &mut Evaluation,
        (asker, threshold): (RandomId, f32),
    ) -> Result<Option<Own>> {
        if !person.faces.iter().any(|face| face.scheme == new.scheme) {
            return Ok(None);
        }
        let key = self.meter_key(collection, &person.id);
        let turn = self
            .vault
            .limiter
            .begin_turn(&doors::ADD_FACES, &key, self.asker(asker), 1)?;
        let similarity = new.similarity(&person.faces, turn.comparing());
        let similarity = similarity.unwrap_or(-1.0);
        let decided = evaluation.settle(turn, similarity, threshold)?;
        self.note_withheld(similarity, threshold, decided);
        Ok(Some(Own {
            similarity,
            threshold: decided,
            is_told: similarity >= decided && self.vault.limiter.may_tell(&key)?,
        }))
    }

    fn note_withheld(&self, similarity: f32, threshold: f32, decided: f32) {
        let withheld = (threshold..decided).contains(&similarity);
        self.vault.limiter.withhold(usize::from(withheld));
    }

    /// Adds the people of one collection who resemble each face, by its index alone; returns how many faces were
    /// compared.
    fn search_index(
        &self,
        search: &Search<'_>,
        place: usize,
        sightings: &mut [Vec<Sighting>],
    ) -> Result<usize> {
        let (collection, similarity_min) = (&*search.places[place].0, search.places[place].1);
        let probes = search.queries.iter().map(|query| query.probe(collection));
        let probes: Vec<_> = probes.collect::<Result<_>>()?;
        let everybody = search.filter.is_empty() && search.comparison == Comparison::BestFace;
        // A graph's searches share nothing: together they would hold up changes one after the other.
        let shares = !collection.settings.read().index.is_graph();
        let reply = if everybody && shares {
            let request = BatchRequest {
                probes: probes.into_iter().cloned().collect(),
                k: search.k,
                similarity_min,
                exact: search.exact,
            };
            collection
                .batcher
                .search(request, |batch| scan_batch(collection, batch))
        } else {
            self.search_alone(search, collection, similarity_min, &probes)
        };
        for (sightings, hits) in sightings.iter_mut().zip(reply.hits) {
            sightings.extend(hits.into_iter().map(|(digest, similarity)| Sighting {
                place,
                digest,
                similarity,
            }));
        }
        Ok(reply.compared)
    }

    /// A search that shares no pass: of some people only, by all their faces, or in a graph.
    fn search_alone(
        &self,
        search: &Search<'_>,
        collection: &Collection,
        similarity_min: f32,
        probes: &[&Arc<Probe>],
    ) -> BatchReply {
        let ids = search.filter.person_ids.iter();
        let digests: Vec<_> = ids.map(|id| self.digest(collection, id)).collect();
        let probes: Vec<_> = probes.iter().map(|probe| &***probe).collect();
        let people = collection.people.read();
        let comparing = Comparing::at(&doors::SEARCH);
        let found = people.index.compare(&comparing).top(&Ask {
            probes: &probes,
            k: search.k,
            similarity_min,
            among: people.rows_of(search.filter, &digests).as_ref(),
            by: match search.comparison {
                Comparison::BestFace => ComparedFaces::BestFace,
                Comparison::Fused => ComparedFaces::AllFaces(&people.several),
            },
            exact: search.exact,
        });
        named(&people, found)
    }

    /// The people who were seen, as their records say.
    fn read(
        &self,
        search: &Search<'_>,
        query: &Query,
        sightings: Vec<Sighting>,
    ) -> Result<Vec<(usize, Match)>> {
        let mut matches = Vec::with_capacity(sightings.len());
        for Sighting { place, digest, .. } in sightings {
            let (collection, similarity_min) = &search.places[place];
            let person = match self.read_seen(collection, digest) {
                // The record has the last word: tags may have changed since, two tags may have one digest,
                // and the PersonID may be another person's.
                Ok(Some(person)) if search.filter.passes(&person) => person,
                // Deleted since the scan: never named again.
                Ok(_) => continue,
                Err(error) if error.is_damage() => {
                    self.note_damage(collection, digest);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // And the face that was found may be gone since.
            let comparing = Comparing::at(&doors::SEARCH);
            let asked = (search.comparison, *similarity_min);
            let found = compare(person, query, collection, asked, &comparing)?;
            let found = found.filter(|found| found.similarity >= *similarity_min);
            matches.extend(found.map(|found| (place, found)));
        }
        Ok(matches)
    }

    /// Lets the writer look at a record that could not be read; it marks the person damaged unless
    /// the record was replaced meanwhile.
    pub(crate) fn note_damage(&self, collection: &Arc<Collection>, digest: Digest) {
        tracing::warn!(collection = collection.name.as_str(), "a record cannot be read");
        // The answer is known; what matters is that the writer has looked.
        drop(
            self.writer
                .change(collection, digest, None, |_| Err(RequestError::Damaged.into())),
        );
    }

    /// The similarity of one person.
    pub fn verify(
        &self,
        collection: &Collection,
        id: &PersonId,
        query: &Query,
        comparison: Comparison,
        asking: Asking,
    ) -> Result<Match> {
        query.probe(collection)?;
        let person = self.person(collection, id)?;
        let scheme = collection.scheme.id();
        if !person.faces.iter().any(|face| face.scheme == scheme) {
            return Err(RequestError::SchemeMismatch {
                stored: "only faces of earlier schemes".to_owned(),
                current: collection.scheme.to_string(),
            }
            .into());
        }
        let (key, threshold) = (self.meter_key(collection, id), asking.similarity_min);
        let turn = self
            .vault
            .limiter
            .begin_turn(&doors::VERIFY, &key, asking.asker, 1)?;
        let found = compare(
            person,
            query,
            collection,
            (comparison, threshold),
            turn.comparing(),
        )?;
        let mut found = found.ok_or(RequestError::NoPerson)?;
        // ORDER: counted before anybody learns the answer.
        found.threshold = turn.settle(&Likeness::of_one(&found.similarity, threshold))?;
        self.note_withheld(found.similarity, threshold, found.threshold);
        let told_from = if asking.told_below { -1.0 } else { found.threshold };
        found.is_told = found.similarity >= told_from && self.vault.limiter.may_tell(&key)?;
        Ok(found)
    }
}
