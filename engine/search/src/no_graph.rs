//! In place of the graph where the crate is built without it: types without values, so that no index is a graph.

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;

use crate::index::{Ask, Found, Near, PersonNo, Row};
use likeness_types::template::Template;

/// No graph.
pub struct Graph(Infallible);

/// Nothing to do for one.
pub struct Work(Infallible);

/// The methods of a graph, none of which can be called.
#[allow(missing_docs, reason = "as those of a graph")]
impl Graph {
    pub fn insert(&mut self, _: PersonNo, _: &Template) -> Row {
        match self.0 {}
    }

    pub fn remove(&mut self, _: Row) {
        match self.0 {}
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }

    pub fn ef(&self) -> usize {
        match self.0 {}
    }

    pub fn set_ef(&mut self, _: usize) {
        match self.0 {}
    }

    pub fn unlinked(&self) -> usize {
        match self.0 {}
    }

    pub fn top(&self, _: &Ask<'_>, _: usize) -> Found {
        match self.0 {}
    }

    pub fn template(&self, _: Row) -> Template {
        match self.0 {}
    }

    pub fn near(&self, _: &[Template], _: u32, _: &mut dyn FnMut(Near)) {
        match self.0 {}
    }

    pub fn has_work(&self) -> bool {
        match self.0 {}
    }

    pub fn work(&mut self, _: usize) -> Option<Work> {
        match self.0 {}
    }

    pub fn more(&mut self, _: usize) -> Option<Work> {
        match self.0 {}
    }

    pub fn adopt(&mut self, work: Work) -> Work {
        work
    }

    pub fn give_up(&mut self, _: &Work) {
        match self.0 {}
    }

    pub fn wipe(&self) {
        match self.0 {}
    }
}

impl Work {
    /// What is done for a graph without a lock.
    pub fn run(&mut self, _: &AtomicBool) {
        match self.0 {}
    }
}
