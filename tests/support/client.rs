//! A client with defaults for all fields that a test does not set.

use std::time::Instant;

use likeness_proto::credential::{Credential, KeyedChannel};
use likeness_proto::v1;
use likeness_proto::v1::collection_service_client::CollectionServiceClient;
use likeness_proto::v1::matching_service_client::MatchingServiceClient;
use likeness_proto::v1::person_service_client::PersonServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::PATIENCE;

/// Clients of all services over one connection.
#[derive(Clone)]
pub struct Client {
    pub channel: KeyedChannel,
    pub collections: CollectionServiceClient<KeyedChannel>,
    pub persons: PersonServiceClient<KeyedChannel>,
    pub matching: MatchingServiceClient<KeyedChannel>,
}

/// A threshold stated as a similarity.
pub fn similarity(similarity: f32) -> v1::Threshold {
    v1::Threshold {
        limit: Some(v1::threshold::Limit::Similarity(similarity)),
    }
}

pub fn photograph(data: &[u8]) -> v1::Photograph {
    v1::Photograph { data: data.to_vec() }
}

pub fn photographs(photos: &[&[u8]]) -> Vec<v1::Photograph> {
    photos.iter().map(|data| photograph(data)).collect()
}

impl Client {
    /// With a key, or with none.
    pub async fn connect(url: &str, credential: Credential) -> Self {
        let channel = Endpoint::from_shared(url.to_owned())
            .unwrap()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .connect()
            .await
            .expect("the server listens");
        Self::on(channel, credential)
    }

    /// Over a connection that is there already.
    pub fn on(channel: Channel, credential: Credential) -> Self {
        let channel = credential.on(channel);
        Self {
            collections: CollectionServiceClient::new(channel.clone()),
            persons: PersonServiceClient::new(channel.clone()),
            matching: MatchingServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// An empty collection with the default settings.
    pub async fn create(&self, name: &str) -> v1::Collection {
        let request = v1::CreateCollectionRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let reply = self.collections.clone().create_collection(request).await;
        reply
            .expect("made")
            .into_inner()
            .collection
            .expect("a collection")
    }

    pub async fn collection(&self, name: &str) -> Result<v1::Collection, Status> {
        let request = v1::GetCollectionRequest {
            name: name.to_owned(),
        };
        let reply = self.collections.clone().get_collection(request).await?;
        Ok(reply.into_inner().collection.expect("a collection"))
    }

    /// Every person of a collection, by PersonID.
    pub async fn people(&self, collection: &str) -> Vec<String> {
        let mut people = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = v1::ListPersonsRequest {
                collection: collection.to_owned(),
                page_size: 0,
                cursor,
            };
            let reply = self.persons.clone().list_persons(request).await;
            let page = reply.expect("listed").into_inner();
            people.extend(page.persons.into_iter().map(|person| person.person_id));
            cursor = page.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        people.sort();
        people
    }

    pub async fn enroll(
        &self,
        collection: &str,
        person_id: &str,
        photos: &[&[u8]],
    ) -> Result<v1::EnrollPersonResponse, Status> {
        let request = v1::EnrollPersonRequest {
            collection: collection.to_owned(),
            person_id: person_id.to_owned(),
            photographs: photographs(photos),
            ..Default::default()
        };
        self.enroll_as(request).await
    }

    /// Enrols as soon as the server is not busy with something else.
    pub async fn enroll_in_turn(
        &self,
        collection: &str,
        person_id: &str,
        photos: &[&[u8]],
    ) -> Result<v1::EnrollPersonResponse, Status> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.enroll(collection, person_id, photos).await {
                Err(status) if status.code() == Code::ResourceExhausted && Instant::now() < until => {}
                answer => return answer,
            }
        }
    }

    pub async fn enroll_as(
        &self,
        request: v1::EnrollPersonRequest,
    ) -> Result<v1::EnrollPersonResponse, Status> {
        Ok(self.persons.clone().enroll_person(request).await?.into_inner())
    }

    pub async fn add_faces(
        &self,
        collection: &str,
        person_id: &str,
        photos: &[&[u8]],
    ) -> Result<v1::AddFacesResponse, Status> {
        let request = v1::AddFacesRequest {
            collection: collection.to_owned(),
            person_id: person_id.to_owned(),
            photographs: photographs(photos),
            ..Default::default()
        };
        Ok(self.persons.clone().add_faces(request).await?.into_inner())
    }

    pub async fn person(&self, collection: &str, person_id: &str) -> Result<v1::Person, Status> {
        let request = v1::GetPersonRequest {
            collection: collection.to_owned(),
            person_id: person_id.to_owned(),
        };
        let reply = self.persons.clone().get_person(request).await?;
        Ok(reply.into_inner().person.expect("a person"))
    }

    pub async fn delete_faces(
        &self,
        collection: &str,
        person_id: &str,
        face_ids: &[&str],
    ) -> Result<v1::Person, Status> {
        let request = v1::DeleteFacesRequest {
            collection: collection.to_owned(),
            person_id: person_id.to_owned(),
            face_ids: face_ids.iter().map(|&id| id.to_owned()).collect(),
            ..Default::default()
        };
        let reply = self.persons.clone().delete_faces(request).await?;
        Ok(reply.into_inner().person.expect("a person"))
    }

    /// Erases a person; answers how many faces went.
    pub async fn delete(&self, collection: &str, person_id: &str) -> Result<u32, Status> {
        let request = v1::DeletePersonRequest {
            collection: collection.to_owned(),
            person_id: person_id.to_owned(),
            ..Default::default()
        };
        let reply = self.persons.clone().delete_person(request).await?;
        Ok(reply.into_inner().faces_erased)
    }

    /// Erases a collection; answers how many people went.
    pub async fn delete_collection(&self, name: &str) -> Result<u64, Status> {
        let request = v1::DeleteCollectionRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let reply = self.collections.clone().delete_collection(request).await?;
        Ok(reply.into_inner().persons_erased)
    }

    pub async fn detect(&self, photo: &[u8]) -> Result<v1::DetectFacesResponse, Status> {
        let request = v1::DetectFacesRequest {
            photograph: Some(photograph(photo)),
            ..Default::default()
        };
        Ok(self.matching.clone().detect_faces(request).await?.into_inner())
    }

    pub async fn compare(&self, first: &[u8], second: &[u8]) -> Result<v1::CompareFacesResponse, Status> {
        let request = v1::CompareFacesRequest {
            first: Some(photograph(first)),
            second: Some(photograph(second)),
            ..Default::default()
        };
        Ok(self.matching.clone().compare_faces(request).await?.into_inner())
    }

    pub async fn verify(
        &self,
        collection: &str,
        person_id: &str,
        photo: &[u8],
    ) -> Result<v1::VerifyPersonResponse, Status> {
        let request = v1::VerifyPersonRequest {
            collection: collection.to_owned(),
            person_id: person_id.to_owned(),
            photograph: Some(photograph(photo)),
            ..Default::default()
        };
        Ok(self.matching.clone().verify_person(request).await?.into_inner())
    }

    pub async fn search(&self, collection: &str, photo: &[u8]) -> Result<v1::SearchPersonsResponse, Status> {
        let request = v1::SearchPersonsRequest {
            collections: vec![collection.to_owned()],
            photograph: Some(photograph(photo)),
            ..Default::default()
        };
        self.search_as(request).await
    }

    pub async fn search_as(
        &self,
        request: v1::SearchPersonsRequest,
    ) -> Result<v1::SearchPersonsResponse, Status> {
        Ok(self.matching.clone().search_persons(request).await?.into_inner())
    }

    /// Whom a search finds, best first.
    pub async fn found(&self, collection: &str, photo: &[u8]) -> Vec<String> {
        let reply = self.search(collection, photo).await.expect("searched");
        reply
            .results
            .into_iter()
            .flat_map(|r| r.matches)
            .map(|found| found.person_id)
            .collect()
    }
}
